"""How a model decodes, as arguments of CTranslate2's `translate_batch`.

| generation config | `translate_batch` |
|---|---|
| `num_beams`, `length_penalty` | `beam_size`, `length_penalty` |
| `repetition_penalty`, `no_repeat_ngram_size` | the same |
| `max_new_tokens`, or `max_length` less the start token | `max_decoding_length` |
| `min_new_tokens`, or `min_length` less the start token | `min_decoding_length`, at least 1 |
| `bad_words_ids`, `suppress_tokens` | `suppress_sequences`, as tokens |
| several `eos_token_id` | `end_token`, as tokens |
| any other that can change a translation | none: a warning names it |
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

SHORTEST_TABLE = 1024  # of sinusoids: 2 MiB at d_model 512
CARRIED = {
    *("num_beams", "length_penalty", "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens"),
    *("max_length", "max_new_tokens", "min_length", "min_new_tokens"),
    *("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id"),
}
NO_MATTER = {  # to the best translation
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
"""Values that CTranslate2 decodes by anyway."""


def translate_options(
    model: VanillaTransformerForConditionalGeneration, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """The model's generation settings as arguments of `translate_batch`, as far as it has them.

    It has no limit that grows with the source: `max_decoding_length` is the model's `max_length`, or else 512. What it
    has no argument for is left out, and a warning names it.

    Raises:
        ValueError: a token that is forbidden, or ends a translation, is outside the vocabulary.
    """
    settings = model.generation_config
    tokens = target_tokens(model.config, tokenizer)
    ends = end_ids(model)
    options: dict[str, Any] = {
        "beam_size": settings.num_beams or 1,
        "length_penalty": 1.0 if settings.length_penalty is None else settings.length_penalty,
        # without one CTranslate2 gives empty translations, which beam search often finds likeliest
        "min_decoding_length": max(1, _shortest(settings)),
        "max_decoding_length": min(_longest(settings), table_length(model.config)),
    }
    if settings.repetition_penalty not in (None, 1.0):
        options["repetition_penalty"] = settings.repetition_penalty
    if settings.no_repeat_ngram_size:
        options["no_repeat_ngram_size"] = settings.no_repeat_ngram_size
    # `generate` lets no bad word forbid the end
    bad_words = [word for word in settings.bad_words_ids or [] if word not in [[end] for end in ends]]
    banned = [named(tokens, word, "bad_words_ids") for word in bad_words]
    banned += [named(tokens, [token], "suppress_tokens") for token in settings.suppress_tokens or []]
    if banned:
        options["suppress_sequences"] = banned
    if len(ends) > 1:
        options["end_token"] = named(tokens, ends, "eos_token_id")
    if left_out := settings_left_out(settings):
        logger.warning(
            f"CTranslate2 has no argument for {', '.join(left_out)}, which `generate` decodes by: its translations "
            "may differ. Take these out of generation_config.json to see by how much."
        )
    return options


def settings_left_out(settings: GenerationConfig) -> list[str]:
    """Names of the settings that can change a translation and that `translate_batch` has no argument for."""
    return sorted(
        name
        for name, value in settings.to_diff_dict().items()
        if name not in CARRIED | NO_MATTER
        and not name.startswith("_")
        and value not in (None, False, [], {}, NEUTRAL.get(name))
    )


def table_length(config: VanillaTransformerConfig) -> int:
    """Positions that the exported model has; sinusoids, which have no end here, need a table there."""
    if config.longest_sentence is not None:
        return config.longest_sentence
    return max(config.max_position_embeddings, SHORTEST_TABLE)


def target_tokens(config: VanillaTransformerConfig, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """One token for each row of the target's embeddings."""
    return padded_vocabulary(target_vocabulary(tokenizer), config.decoder_vocab_size or config.vocab_size, "target")


def padded_vocabulary(tokens: Sequence[str], rows: int, side: str) -> list[str]:
    """`tokens`, and `<unused n>` for each further row of the embeddings.

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
    """The tokens of these ids.

    Raises:
        ValueError: there is none of such an id.
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
    """Fewest new tokens before the end."""
    if settings.min_new_tokens is not None:
        return settings.min_new_tokens
    return (settings.min_length or 0) - 1


def _longest(settings: GenerationConfig) -> int:
    """Most new tokens, the end included; `max_length` counts the start token too."""
    if settings.max_new_tokens is not None:
        return settings.max_new_tokens
    return LONGEST if settings.max_length is None else max(1, settings.max_length - 1)
