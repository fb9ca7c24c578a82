"""Generation settings as arguments of CTranslate2's `translate_batch`.

| generation config | `translate_batch` |
|---|---|
| `num_beams`, `length_penalty` | `beam_size`, `length_penalty` |
| `repetition_penalty`, `no_repeat_ngram_size` | the same |
| `max_new_tokens`, or `max_length` less the start token | `max_decoding_length` |
| `min_new_tokens`, or `min_length` less the start token | `min_decoding_length`, at least 1 |
| `bad_words_ids`, `suppress_tokens` | `suppress_sequences`, as tokens |
| several `eos_token_id` | `end_token`, as tokens |
| any other setting that can change a translation | none: a warning names it |
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from transformers import GenerationConfig, PreTrainedTokenizerBase

from ..model.configuration_vanilla_transformer import VanillaTransformerConfig
from ..model.modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration
from .exports import LONGEST, end_ids
from .vocabularies import target_vocabulary

logger = logging.getLogger(__name__)

SHORTEST_TABLE = 1024  # positions of sinusoids: 2 MiB at d_model 512
CARRIED = {
    *("num_beams", "length_penalty", "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens"),
    *("max_length", "max_new_tokens", "min_length", "min_new_tokens"),
    *("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id"),
}
NO_MATTER = {  # settings that do not change the best translation
    *(
        "use_cache",
        "cache_implementation",
        "cache_config",
        "compile_config",
        "disable_compile",
        "transformers_version",
    ),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
    *("num_return_sequences", "temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
}
NEUTRAL = {"early_stopping": True, "encoder_repetition_penalty": 1.0, "guidance_scale": 1.0, "num_beam_groups": 1}
"""Values that match CTranslate2's behaviour."""


def translate_options(
    model: VanillaTransformerForConditionalGeneration, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """Convert the model's generation settings to arguments of `translate_batch`, as far as they exist.

    CTranslate2 has no limit that grows with the source: `max_decoding_length` is the model's `max_length`, or else
    512. Settings without an argument are left out, and a warning names them.

    Raises:
        ValueError: a token that is forbidden, or ends a translation, is outside the vocabulary.
    """
    settings = model.generation_config
    tokens = target_tokens(model.config, tokenizer)
    ends = end_ids(model)
    options: dict[str, Any] = {
        "beam_size": settings.num_beams or 1,
        "length_penalty": 1.0 if settings.length_penalty is None else settings.length_penalty,
        # otherwise CTranslate2 returns empty translations, which are often the likeliest in beam search
        "min_decoding_length": max(1, _shortest(settings)),
        "max_decoding_length": min(_longest(settings), table_length(model.config)),
    }
    if settings.repetition_penalty not in (None, 1.0):
        options["repetition_penalty"] = settings.repetition_penalty
    if settings.no_repeat_ngram_size:
        options["no_repeat_ngram_size"] = settings.no_repeat_ngram_size
    # in `generate`, bad words cannot forbid the end-of-sentence token
    bad_words = [word for word in settings.bad_words_ids or [] if word not in [[end] for end in ends]]
    banned = [named(tokens, word, "bad_words_ids") for word in bad_words]
    banned += [named(tokens, [token], "suppress_tokens") for token in settings.suppress_tokens or []]
    if banned:
        options["suppress_sequences"] = banned
    if len(ends) > 1:
        options["end_token"] = named(tokens, ends, "eos_token_id")
    if left_out := settings_left_out(settings):
        logger.warning(
            f"CTranslate2 has no argument for {', '.join(left_out)}, which `generate` uses: its translations may "
            "differ. Remove these from generation_config.json to see by how much."
        )
    return options


def settings_left_out(settings: GenerationConfig) -> list[str]:
    """Names of the settings that can change a translation but have no argument in `translate_batch`."""
    return sorted(
        name
        for name, value in settings.to_diff_dict().items()
        if name not in CARRIED | NO_MATTER
        and not name.startswith("_")
        and value not in (None, False, [], {}, NEUTRAL.get(name))
    )


def table_length(config: VanillaTransformerConfig) -> int:
    """Number of positions in the exported model; sinusoids, unlimited in this package, need a table there."""
    if config.longest_sentence is not None:
        return config.longest_sentence
    return max(config.max_position_embeddings, SHORTEST_TABLE)


def target_tokens(config: VanillaTransformerConfig, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """One token per row of the target embeddings."""
    return padded_vocabulary(target_vocabulary(tokenizer), config.decoder_vocab_size or config.vocab_size, "target")


def padded_vocabulary(tokens: Sequence[str], rows: int, side: str) -> list[str]:
    """Return `tokens`, followed by `<unused n>` for each further row of the embeddings.

    Raises:
        ValueError: there are more tokens than rows.
    """
    if len(tokens) > rows:
        raise ValueError(
            f"The tokenizer has {len(tokens):,} {side} tokens, but the model has embeddings for {rows:,}. Use the "
            "tokenizer that the model was trained with."
        )
    return [*tokens, *(f"<unused {index}>" for index in range(len(tokens), rows))]


def named(tokens: Sequence[str], ids: Iterable[int], setting: str) -> list[str]:
    """Return the tokens with these ids.

    Raises:
        ValueError: an id is outside the vocabulary.
    """
    ids = list(ids)
    outside = [index for index in ids if not 0 <= index < len(tokens)]
    if outside:
        raise ValueError(
            f"{setting} must be among the {len(tokens):,} tokens of the target's vocabulary, but there is "
            f"{', '.join(map(str, outside))}. Correct generation_config.json or config.json."
        )
    return [tokens[index] for index in ids]


def _shortest(settings: GenerationConfig) -> int:
    """Minimum number of new tokens before the end."""
    if settings.min_new_tokens is not None:
        return settings.min_new_tokens
    return (settings.min_length or 0) - 1


def _longest(settings: GenerationConfig) -> int:
    """Maximum number of new tokens, the end included; `max_length` also counts the start token."""
    if settings.max_new_tokens is not None:
        return settings.max_new_tokens
    return LONGEST if settings.max_length is None else max(1, settings.max_length - 1)
