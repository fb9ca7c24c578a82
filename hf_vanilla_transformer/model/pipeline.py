"""Text in, text out, as a pipeline of `transformers`: what `pipeline("translation")` was until its version 5.

For any sequence-to-sequence model; what it takes and gives is what users of version 4 know. Sentences are sorted by
length and batched, and given back in order; nothing is truncated unless asked for. One file, which imports torch and
`transformers` only, so that it can be the custom pipeline of a repository on the Hub.

A score is the one beam search ranks by: the sum of the natural logarithms of a translation's tokens' probabilities,
divided by (number of tokens) ** length_penalty or, for models of ours that set it, by
((5 + number of tokens) / 6) ** gnmt_length_penalty. It is at most 0.
"""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import islice
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, Pipeline
from transformers.generation import StoppingCriteria, StoppingCriteriaList
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.utils import logging

logger = logging.get_logger(__name__)

TASK = "translate"
T5_TASK = "translation_"  # begins the names of its tasks in its config
BATCH_TOKENS = 2048
READ_AHEAD = 256  # sentences that a generator is asked for at a time, unless `batch_size` says otherwise
NUM_BEAMS, MAX_NEW_TOKENS = 4, 256  # the defaults of version 4, for models that state none
MAX_EXTRA_TOKENS = 50  # section 6.1 of "Attention Is All You Need", for models of ours
T5_LANGUAGES = {"en": "English", "de": "German", "fr": "French", "ro": "Romanian"}
NAMES_SHOWN = 8


class TranslationPipeline(Pipeline):
    """`pipeline("translate", model=...)`: translate a sentence, a list of them, a generator or a dataset.

    Example:

    ```python
    >>> import hf_vanilla_transformer
    >>> from transformers import pipeline

    >>> translate = pipeline("translate", model="runs/quickstart")
    >>> translate("merci")
    [{'translation_text': 'thanks'}]
    ```
    """

    model: Any
    tokenizer: Any
    _load_tokenizer: Any = True
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False
    _load_feature_extractor: Any = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not (self.model.config.is_encoder_decoder and self.model.can_generate()):
            raise ValueError(
                "Translating needs a sequence-to-sequence model with `generate`, got a "
                f"{type(self.model).__name__}. Load one with `AutoModelForSeq2SeqLM`."
            )
        self.target_codes = sorted(token for token in self.tokenizer.get_vocab() if re.fullmatch(">>.+<<", token))

    def __call__(  # type: ignore[override]
        self,
        inputs: str | Iterable[str],
        *,
        batch_size: int | None = None,
        num_workers: int | None = None,
        **settings: Any,
    ) -> Any:
        """Translate.

        Args:
            inputs: a sentence, a list of sentences, or a generator or dataset of sentences.
            batch_size: most sentences of a batch. Unset, a batch holds at most 2,048 source tokens, padding included.
            num_workers: of no use here, since whole batches are tokenised at once; accepted for code of version 4.
            src_lang, tgt_lang: languages, as the model's tokenizer names them: needed by multilingual models (mBART,
                M2M100, NLLB; `"en"` and `"fr"`, or names in English, for T5; the target alone for OPUS-MT models with
                several).
            num_return_sequences: translations of each sentence, best first; `n_best` is the same.
            return_scores: whether each translation tells its score.
            return_tensors: whether to give token ids, as `translation_token_ids`, in place of text.
            truncation: whether to cut sentences longer than the model has positions for, which else is an error.
            clean_up_tokenization_spaces: as of the tokenizer's `decode`.
            settings: anything else is for `generate`, such as `num_beams` or `max_new_tokens`. Unset, the model's
                generation config holds, and where that is silent, version 4's 4 beams and 256 tokens (for models of
                ours: 50 tokens more than the source).

        Returns:
            For a sentence a list of translations, each a dict with `translation_text`. For a list, one translation
            for each sentence, or, if several were asked for, a list of translations for each. For a generator or
            dataset an iterator over the lists of translations, which reads some sentences ahead.

        Raises:
            TypeError: an input is no string.
            ValueError: a sentence longer than the model has positions for, or a language that the model needs is
                missing or unknown.
        """
        if num_workers:
            logger.warning_once("`num_workers` has no effect: the translate pipeline tokenises whole batches at once.")
        batch_size = self._batch_size if batch_size is None else batch_size
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"`batch_size` is a number of sentences and must be at least 1, got {batch_size}.")
        given = self._sanitize_parameters(**settings)
        preset = (self._preprocess_params, self._forward_params, self._postprocess_params)
        stages = [{**before, **now} for before, now in zip(preset, given, strict=True)]
        if isinstance(inputs, str):
            return self._translate([inputs], batch_size, stages)[0]
        if isinstance(inputs, Sequence):
            translations = self._translate(inputs, batch_size, stages)
            several = (self._setting(stages[1], "num_return_sequences") or 1) > 1
            return translations if several else [translation for (translation,) in translations]
        if isinstance(inputs, Iterable) or hasattr(inputs, "__getitem__"):
            return self._translate_stream(iter(inputs), batch_size, stages)
        raise TypeError(f"A sentence or several are needed, got a {type(inputs).__name__}. Give a string or a list.")

    def _sanitize_parameters(
        self,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        truncation: Any = None,
        n_best: int | None = None,
        return_scores: bool | None = None,
        return_tensors: bool | None = None,
        return_text: bool | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        **generate_settings: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """What was given, for each of the three stages."""
        if n_best is not None:
            generate_settings["num_return_sequences"] = n_best
        if return_text is not None:
            return_tensors = not return_text if return_tensors is None else return_tensors
        return (
            _given(src_lang=src_lang, tgt_lang=tgt_lang, truncation=truncation),
            {**_given(return_scores=return_scores), **generate_settings},
            _given(return_tensors=return_tensors, clean_up_tokenization_spaces=clean_up_tokenization_spaces),
        )

    # Many sentences

    def _translate_stream(
        self, sentences: Iterator[Any], batch_size: int | None, stages: list[dict[str, Any]]
    ) -> Iterator[list[dict[str, Any]]]:
        ahead = READ_AHEAD if batch_size is None else 1 if batch_size == 1 else 16 * batch_size
        first = 0
        while chunk := list(islice(sentences, ahead)):
            yield from self._translate(chunk, batch_size, stages, first)
            first += len(chunk)

    def _translate(
        self,
        sentences: Sequence[str],
        batch_size: int | None,
        stages: list[dict[str, Any]],
        first: int = 0,
    ) -> list[list[dict[str, Any]]]:
        """The translations of each sentence, in order; a sentence without text is not shown to the model."""
        preprocess, forward, postprocess = stages
        check_sentences(sentences, first)
        with_text = [index for index, sentence in enumerate(sentences) if sentence.strip()]
        with_scores = forward.get("return_scores", False)
        nothing: dict[str, Any] = {"hypotheses": [[[]]], "scores": [[0.0]] if with_scores else None}
        translations = [self.postprocess(nothing, **postprocess)[0] for _ in sentences]
        if not with_text:
            return translations
        encoded = self.preprocess([sentences[i] for i in with_text], **preprocess)
        self._check_lengths(encoded["input_ids"], with_text, first)
        unfinished = 0
        for batch in batches_by_length([len(ids) for ids in encoded["input_ids"]], batch_size):
            ids = [encoded["input_ids"][i] for i in batch]
            outputs = self.forward(self._pad(ids), **encoded["generate_settings"] | forward)
            unfinished += outputs["unfinished"]
            for i, found in zip(batch, self.postprocess(outputs, **postprocess), strict=True):
                translations[with_text[i]] = found
        if unfinished:
            limit = "max_extra_tokens" if self._is_ours() else "max_new_tokens"
            logger.warning(
                f"{unfinished:,} of {len(sentences):,} translations ran into their length limit and may be cut short: "
                f"raise `{limit}` if that is not meant."
            )
        return translations

    def _check_lengths(self, ids: list[list[int]], places: list[int], first: int) -> None:
        limit = self._positions()
        for place, sentence in zip(places, ids, strict=True):
            if limit is not None and len(sentence) > limit:
                raise ValueError(
                    f"This model has positions for {limit:,} tokens, but sentence {first + place:,} has "
                    f"{len(sentence):,}. Split it, or cut it by `truncation=True`."
                )

    def _positions(self) -> int | None:
        """Tokens of the longest sentence that the model has positions for; None if there is no end."""
        config = self.model.config
        if getattr(config, "positional_encoding", "learned") != "learned":
            return None  # sinusoids of ours extend to any length
        return getattr(config, "max_position_embeddings", None)

    def _pad(self, ids: list[list[int]]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask`, (batch, longest), padded on the right."""
        padding = next((i for i in (self.tokenizer.pad_token_id, self.model.config.pad_token_id) if i is not None), 0)
        longest = max(map(len, ids))
        rows = [[*sentence, *[padding] * (longest - len(sentence))] for sentence in ids]
        lengths = torch.tensor([len(sentence) for sentence in ids])
        return {"input_ids": torch.tensor(rows), "attention_mask": (torch.arange(longest) < lengths[:, None]).long()}

    # The three stages

    def preprocess(  # type: ignore[override]
        self,
        sentences: Sequence[str],
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        truncation: Any = False,
    ) -> dict[str, Any]:
        """Token ids of each sentence, and what its languages ask of `generate`."""
        prefix, settings = self._languages(sentences, src_lang, tgt_lang)
        cut = {}
        if truncation:
            cut["max_length"] = min(
                self.tokenizer.model_max_length, self._positions() or self.tokenizer.model_max_length
            )
        encoded = self.tokenizer([prefix + text for text in sentences], truncation=truncation, verbose=False, **cut)
        return {"input_ids": encoded["input_ids"], "generate_settings": settings}

    def _forward(  # type: ignore[override]
        self, batch: dict[str, torch.Tensor], return_scores: bool = False, **generate_settings: Any
    ) -> dict[str, Any]:
        """The hypotheses of each sentence as token ids, best first, and their scores."""
        settings = self._settled(generate_settings)
        with evaluation_mode(self.model):
            outputs, steps = self._generate(batch, settings, return_scores)
        ends = self._setting(settings, "eos_token_id")
        ends = {ends} if isinstance(ends, int) else set(ends or ())
        tokens = outputs.sequences[:, 1:].tolist()  # without the start token
        each = len(tokens) // len(batch["input_ids"])
        limits = self._limits(batch, settings, len(tokens[0]))
        rows = [cut_at_end(row, ends, limits[i // each]) for i, row in enumerate(tokens)]
        scores = self._scores(outputs, steps, rows, settings) if return_scores else None
        starts = range(0, len(rows), each)
        return {
            "hypotheses": [rows[i : i + each] for i in starts],
            "scores": None if scores is None else [scores[i : i + each] for i in starts],
            "unfinished": sum(not ends.intersection(row) for row in rows[::each]),
        }

    def postprocess(  # type: ignore[override]
        self,
        outputs: Mapping[str, Any],
        return_tensors: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[list[dict[str, Any]]]:
        """The translations of each sentence of a batch, best first."""
        cleaning = _given(clean_up_tokenization_spaces=clean_up_tokenization_spaces)

        def as_dict(ids: list[int]) -> dict[str, Any]:
            if return_tensors:
                return {"translation_token_ids": torch.tensor(ids)}
            return {"translation_text": self.tokenizer.decode(ids, skip_special_tokens=True, **cleaning)}

        translations = [[as_dict(ids) for ids in hypotheses] for hypotheses in outputs["hypotheses"]]
        for found, scores in zip(translations, outputs["scores"] or (), strict=False):
            for translation, score in zip(found, scores, strict=True):
                translation["score"] = score
        return translations

    # Generation

    def _settled(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings for `generate`: version 4's where neither the call nor the model's generation config says."""
        settings = with_settings(settings, return_dict_in_generate=True)
        if settings.get("generation_config") is not None:
            return settings
        if self._setting(settings, "num_beams") is None:
            settings["num_beams"] = NUM_BEAMS
        if settings.get("max_new_tokens") is not None:
            settings.setdefault("max_length", None)  # else `generate` warns of the model's own
        lengths = ("max_length", "max_new_tokens", "max_extra_tokens", "max_time")
        if all(self._setting(settings, name) is None for name in lengths):
            settings |= (
                {"max_extra_tokens": MAX_EXTRA_TOKENS} if self._is_ours() else {"max_new_tokens": MAX_NEW_TOKENS}
            )
        return settings

    def _limits(self, batch: dict[str, torch.Tensor], settings: Mapping[str, Any], longest: int) -> list[int]:
        """Most new tokens of each sentence, beyond which a target is filled up."""
        extra = self._setting(settings, "max_extra_tokens") if self._is_ours() else None
        if extra is None or settings.get("max_new_tokens") is not None or settings.get("max_length") is not None:
            return [longest] * len(batch["input_ids"])
        return (batch["attention_mask"].sum(1) + extra).tolist()

    def _is_ours(self) -> bool:
        return self.model.config.model_type == "vanilla_transformer"

    def _setting(self, settings: Mapping[str, Any], name: str) -> Any:
        """Of the call, else of its generation config, else of the model's."""
        configs = (settings.get("generation_config"), self.model.generation_config)
        values = (settings.get(name), *(getattr(config, name, None) for config in configs))
        return next((value for value in values if value is not None), None)

    def _generate(
        self, batch: dict[str, torch.Tensor], settings: dict[str, Any], with_scores: bool
    ) -> tuple[Any, torch.Tensor | None]:
        """What `generate` gives, and, if asked for, the log-probability of each new token where it tells no scores."""
        tells = self._is_ours() and not self._setting(settings, "do_sample")
        if not with_scores or tells:  # models of ours tell them without being asked, if their own search decodes
            outputs = self.model.generate(**batch, **settings)
            steps = getattr(outputs, "token_log_probabilities", None)
            if not with_scores or steps is not None or getattr(outputs, "sequences_scores", None) is not None:
                return outputs, steps
        watcher = ChosenScores(by_token=(self._setting(settings, "num_beams") or 1) == 1)
        settings = with_settings(settings, output_scores=True)
        settings["stopping_criteria"] = StoppingCriteriaList([watcher, *settings.get("stopping_criteria", ())])
        outputs = self.model.generate(**batch, **settings)
        return outputs, torch.stack(watcher.chosen, dim=1) if watcher.chosen else None

    def _scores(self, outputs: Any, steps: Any, rows: list[list[int]], settings: Mapping[str, Any]) -> list[float]:
        """Of each hypothesis: beam search tells them, else they are made of the log-probabilities of the tokens."""
        if getattr(outputs, "sequences_scores", None) is not None:
            return outputs.sequences_scores.tolist()
        prompt = outputs.sequences.shape[1] - 1 - steps.shape[1]
        lengths = [len(row) - prompt for row in rows]
        sums = [sum(row[:length]) for row, length in zip(steps.double().tolist(), lengths, strict=True)]
        return [total / self._normaliser(length, settings) for total, length in zip(sums, lengths, strict=True)]

    def _normaliser(self, tokens: int, settings: Mapping[str, Any]) -> float:
        """What the log-probability of so many tokens is divided by."""
        alpha = self._setting(settings, "gnmt_length_penalty")
        if alpha is not None and settings.get("length_penalty") is None:
            return ((5 + tokens) / 6) ** alpha
        penalty = self._setting(settings, "length_penalty")
        return max(tokens, 1) ** (1.0 if penalty is None else penalty)

    # Languages

    def _languages(
        self, sentences: Sequence[str], src_lang: str | None, tgt_lang: str | None
    ) -> tuple[str, dict[str, Any]]:
        """What stands before each sentence, and what `generate` is told, so that the right languages come out."""
        named = re.fullmatch(r"translation_(\w+)_to_(\w+)", self.task or "")
        asked = src_lang is not None or tgt_lang is not None
        if named:
            src_lang, tgt_lang = src_lang or named[1], tgt_lang or named[2]
        config = self.model.config
        if hasattr(self.tokenizer, "set_src_lang_special_tokens"):
            return "", choose_languages(self.tokenizer, src_lang, tgt_lang)
        tasks = getattr(config, "task_specific_params", None) or {}
        if config.model_type.endswith("t5") and (asked or named or any(name.startswith(T5_TASK) for name in tasks)):
            return t5_prefix(sentences, tasks, src_lang, tgt_lang)
        if len(self.target_codes) > 1:
            return target_code(sentences, self.target_codes, tgt_lang), {}
        if asked:
            logger.warning_once(
                "This model translates one pair of languages: `src_lang` and `tgt_lang` change nothing."
            )
        return getattr(config, "prefix", None) or "", {}


def choose_languages(tokenizer: Any, src_lang: str | None, tgt_lang: str | None) -> dict[str, Any]:
    """Tell a tokenizer of mBART's, M2M100's or NLLB's kind its source language, and `generate` the target's token."""
    tokens = getattr(tokenizer, "lang_code_to_token", None)  # M2M100's codes are not their tokens
    if tokens is None:
        tokens = {token: token for token in tokenizer.all_special_tokens if re.fullmatch(r"[a-z]{2,3}_\w+", token)}
    for name, code in (("src_lang", src_lang), ("tgt_lang", tgt_lang)):
        if code not in tokens:
            close = get_close_matches(code or "", tokens, NAMES_SHOWN, 0.4) or sorted(tokens)[:NAMES_SHOWN]
            raise ValueError(
                f"This model translates between {len(tokens)} languages and needs the codes of two, but `{name}` is "
                f"{code!r}. Give one of its codes, such as {', '.join(close)}."
            )
    tokenizer.src_lang = src_lang
    target = tokenizer.convert_tokens_to_ids(tokens[tgt_lang])
    # the first mBART begins its targets with their language, all others force it after the start token
    begins = type(tokenizer).__name__.removesuffix("Fast") == "MBartTokenizer"
    return {"decoder_start_token_id" if begins else "forced_bos_token_id": target}


def t5_prefix(
    sentences: Sequence[str], tasks: Mapping[str, Any], src_lang: str | None, tgt_lang: str | None
) -> tuple[str, dict[str, Any]]:
    """The words that tell T5 what to do ("translate English to French: "), and its settings for that pair."""
    prefixes = [tasks[name]["prefix"] for name in tasks if name.startswith(T5_TASK) and "prefix" in tasks[name]]
    if prefixes and src_lang is None and tgt_lang is None and all(s.startswith(tuple(prefixes)) for s in sentences):
        return "", {}
    pair = dict(tasks.get(f"translation_{src_lang}_to_{tgt_lang}", {}))
    names = [T5_LANGUAGES.get(language or "", language) for language in (src_lang, tgt_lang)]
    if not pair and any(name is None or len(name) < 4 for name in names):
        raise ValueError(
            f"T5 is told its languages in words, but `src_lang` is {src_lang!r} and `tgt_lang` {tgt_lang!r}. Give "
            "both, as codes (en, de, fr, ro) or as English names (English, German)."
        )
    return pair.pop("prefix", f"translate {names[0]} to {names[1]}: "), pair


def target_code(sentences: Sequence[str], codes: Sequence[str], tgt_lang: str | None) -> str:
    """The code that tells an OPUS-MT model of several target languages which one; none where sentences have theirs."""
    code = f">>{tgt_lang}<< "
    if tgt_lang is None and all(re.match(">>.+?<<", sentence.strip()) for sentence in sentences):
        return ""
    if code.strip() not in codes:
        languages = [known[2:-2] for known in codes]
        close = get_close_matches(tgt_lang or "", languages, NAMES_SHOWN, 0.4) or languages[:NAMES_SHOWN]
        raise ValueError(
            f"This model translates into {len(codes)} languages, but `tgt_lang` is {tgt_lang!r}. Give one of its "
            f"codes, such as {', '.join(close)}, or begin each sentence with it: {codes[0]} ..."
        )
    return code


class ChosenScores(StoppingCriteria):
    """Stops nothing: lets go of the scores of every token of the vocabulary, step by step.

    `generate` tells scores only to those who ask for these, which are gigabytes for a batch of beams.

    Args:
        by_token: keep the log-probability of each chosen token, which makes sense without beams only.
    """

    def __init__(self, by_token: bool) -> None:
        self.by_token = by_token
        self.chosen: list[torch.Tensor] = []  # for each step (batch,)

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        step = scores[-1]  # (batch, vocab)
        if self.by_token:
            self.chosen.append(step.gather(-1, input_ids[:, -1:])[:, 0] - step.logsumexp(-1))
        step.set_()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def check_sentences(sentences: Sequence[Any], first: int) -> None:
    """Refuse what is no text."""
    for index, sentence in enumerate(sentences, start=first):
        if not isinstance(sentence, str):
            raise TypeError(f"Every sentence must be a string, but sentence {index:,} is {sentence!r:.60}.")


def batches_by_length(lengths: Sequence[int], batch_size: int | None) -> Iterator[list[int]]:
    """Indices of sentences of like length, longest first: `batch_size` a batch, or `BATCH_TOKENS` with padding."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        size = batch_size or max(1, BATCH_TOKENS // lengths[order[start]])
        yield order[start : start + size]
        start += size


def cut_at_end(ids: list[int], ends: set[int], limit: int) -> list[int]:
    """A hypothesis up to its end of sentence, or to its length limit."""
    return next((ids[: i + 1] for i, token in enumerate(ids[:limit]) if token in ends), ids[:limit])


def with_settings(settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Settings of `generate` with some more, in its `generation_config` if there is one: it takes one of the two."""
    config = copy.deepcopy(settings.get("generation_config"))
    if config is None:
        return {**settings, **more}
    config.update(**more)
    return {**settings, "generation_config": config}


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """No dropout; a model in training is left as it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _given(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


if TASK not in PIPELINE_REGISTRY.supported_tasks:
    PIPELINE_REGISTRY.register_pipeline(TASK, TranslationPipeline, pt_model=AutoModelForSeq2SeqLM, type="text")

__all__ = ["TranslationPipeline"]
