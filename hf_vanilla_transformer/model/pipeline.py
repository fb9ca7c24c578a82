"""Text in, text out, as a pipeline of `transformers`: a replacement for `pipeline("translation")` of version 4.

It works with any sequence-to-sequence model, and takes and returns what the pipeline of version 4 did. Sentences are
decoded by `text_decoding.py`, as in `Translator`: sorted by length, batched, and returned in order. Nothing is
truncated unless asked for. That module also explains scores.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.utils import logging

from .call_settings import PAPER_EXTRA_TOKENS, CallSettings, settle
from .configuration_vanilla_transformer import is_ours, longest_sentence
from .languages import T5_TASK, choose_languages, t5_prefix, target_code
from .sentences import Place, check_sentences
from .sound_folders import UnsoundFolderError, read_whole, require_sound_download
from .text_decoding import BATCH_TOKENS, DecodedHypothesis, Request, TextDecoder

logger = logging.get_logger(__name__)

TASK = "translate"
READ_AHEAD = 256  # sentences read from a generator at a time, unless `batch_size` is given
NUM_BEAMS, MAX_NEW_TOKENS = 4, 256  # the defaults of version 4, for models without settings of their own
LARGEST_LENGTH = 10**9  # tokenizers without a maximum length report a larger number


class ModelRefusedError(Exception):
    """Why a model is not loaded, in one sentence.

    Not a `ValueError`, since `transformers.pipeline` turns those into a page of tracebacks.
    """


class _SoundModels(AutoModelForSeq2SeqLM):
    """`AutoModelForSeq2SeqLM`, but folders of any model class are checked as those of this package are."""

    @classmethod
    def from_pretrained(cls, name: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        def read() -> Any:
            # by the class's own name, which is the key of the model's code in configs
            return AutoModelForSeq2SeqLM.from_pretrained(name, *args, **kwargs)

        try:
            if os.path.isdir(name):
                return read_whole(Path(name) / (kwargs.get("subfolder") or ""), read)
            model = read()
            require_sound_download(str(name), kwargs)
            return model
        except UnsoundFolderError as error:
            raise ModelRefusedError(str(error)) from error


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

    preset: tuple[dict[str, Any], ...] | None = None
    """Settings given to the constructor, for each of the three stages."""

    def __init__(self, *args: Any, batch_size: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batch_size = batch_size
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
            batch_size: maximum number of sentences in a batch. If unset, a batch holds at most 4,096 source tokens,
                padding included.
            num_workers: has no effect, since whole batches are tokenised at once; accepted for code of version 4.
            src_lang, tgt_lang: languages, as named by the model's tokenizer. Multilingual models need them: mBART,
                M2M100 and NLLB take codes; T5 takes `"en"` and `"fr"` or English names; OPUS-MT models with several
                target languages take only `tgt_lang`.
            num_return_sequences: maximum number of translations of each sentence, best first; `n_best` is an alias.
            return_scores: whether to return the score of each translation.
            return_tensors: whether to return token ids, as `translation_token_ids`, instead of text.
            truncation: whether to truncate sentences that are longer than the model's positions; otherwise such a
                sentence is an error.
            clean_up_tokenization_spaces: as in the tokenizer's `decode`.
            settings: other settings of `generate`, such as `num_beams` or `max_new_tokens`. If unset, they come from
                the model's generation config; the defaults are those of version 4, 4 beams and 256 tokens (for models
                of this package, 50 tokens more than the source).

        Returns:
            For a sentence, a list of translations, each a dict with `translation_text`. For a list, one translation
            for each sentence, or a list of translations for each if several were asked for. For a generator or
            dataset, an iterator over lists of translations, which reads some sentences ahead.

        Raises:
            TypeError: an input is not a string.
            ValueError: a sentence is longer than the model's positions, or a language that the model needs is missing
                or unknown.
        """
        if num_workers:
            logger.warning_once("`num_workers` has no effect: the translate pipeline tokenises whole batches at once.")
        batch_size = self.batch_size if batch_size is None else batch_size
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise ValueError(f"`batch_size` is a number of sentences and must be at least 1, got {batch_size}.")
        stages = self._sanitize_parameters(**settings)
        if isinstance(inputs, str):
            return self._translate([inputs], batch_size, stages)[0]
        if isinstance(inputs, Sequence):
            translations = self._translate(inputs, batch_size, stages)
            several = self._all_settings(stages[1]).num_return_sequences > 1
            return translations if several else [translation for translation, *_ in translations]
        is_several = isinstance(inputs, Iterable) or hasattr(inputs, "__getitem__")
        if is_several and not isinstance(inputs, Mapping):
            return self._translate_stream(iter(inputs), batch_size, stages)
        raise TypeError(f"The input must be a string or a list of strings, got a {type(inputs).__name__}.")

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
    ) -> tuple[dict[str, Any], ...]:
        """The settings of each of the three stages; the constructor calls this first, with the defaults to keep."""
        if n_best is not None:
            generate_settings["num_return_sequences"] = n_best
        if return_text is not None:
            return_tensors = not return_text if return_tensors is None else return_tensors
        given = (
            _given(src_lang=src_lang, tgt_lang=tgt_lang, truncation=truncation),
            {**_given(return_scores=return_scores), **generate_settings},
            _given(return_tensors=return_tensors, clean_up_tokenization_spaces=clean_up_tokenization_spaces),
        )
        if self.preset is None:
            self.preset = given
        return tuple({**before, **now} for before, now in zip(self.preset, given, strict=True))

    # Many sentences

    def _translate_stream(
        self, sentences: Iterator[Any], batch_size: int | None, stages: Sequence[dict[str, Any]]
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
        stages: Sequence[dict[str, Any]],
        first: int = 0,
    ) -> list[list[dict[str, Any]]]:
        """The translations of each sentence, in order; sentences without text are not passed to the model."""
        preprocess, forward, postprocess = stages
        encoded = self.preprocess(sentences, first=first, **preprocess)
        settings = encoded["generate_settings"] | forward
        found = self._forward(encoded, batch_size=batch_size, **settings)
        return self.postprocess(found, **postprocess)

    # The three stages

    def preprocess(  # type: ignore[override]
        self,
        sentences: Sequence[str],
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        truncation: Any = False,
        first: int = 0,
    ) -> dict[str, Any]:
        """Token ids of each sentence, empty for one without text, and the settings that select the languages."""
        place = place_after(first)
        decoder = TextDecoder(self.model, self.tokenizer)
        check_sentences(sentences, place)
        with_text = [sentence for sentence in sentences if sentence.strip()]
        prefix, settings = self._languages(with_text, src_lang, tgt_lang) if with_text else ("", {})
        texts = [prefix + text if text.strip() else text for text in sentences]
        ids = decoder.encode(
            texts, place, "truncate it with `truncation=True`", goes_on=first > 0, **self._truncation(truncation)
        )
        return {"input_ids": ids, "generate_settings": settings, "first": first}

    def _truncation(self, truncation: Any) -> dict[str, Any]:
        """Truncation as arguments of the tokenizer: to the limit of the tokenizer or the model, if there is one."""
        limits = (self.tokenizer.model_max_length, longest_sentence(self.model.config))
        limit = min((limit for limit in limits if limit is not None and limit < LARGEST_LENGTH), default=None)
        if not truncation or limit is None:
            return {}
        return {"truncation": truncation, "max_length": limit}

    def _forward(  # type: ignore[override]
        self,
        encoded: dict[str, Any],
        return_scores: bool = False,
        batch_size: int | None = None,
        **generate_settings: Any,
    ) -> dict[str, Any]:
        """The hypotheses of each sentence, best first."""
        arguments = self._settled(generate_settings)
        settings = self._all_settings(arguments)
        request = Request(
            settings=arguments,
            n_best=settings.num_return_sequences,
            batch_tokens=BATCH_TOKENS,
            batch_size=batch_size,
            with_scores=return_scores or settings.num_return_sequences > 1,
        )
        decoder = TextDecoder(self.model, self.tokenizer)
        hypotheses = decoder.decode(encoded["input_ids"], request, place_after(encoded.get("first", 0)))
        unfinished = sum(not each[0].finished for each in hypotheses)
        if unfinished:
            limit = "max_extra_tokens" if is_ours(self.model) else "max_new_tokens"
            logger.warning(
                f"{unfinished:,} of {len(hypotheses):,} translations ran into their length limit and may be cut "
                f"short: raise `{limit}` if this is not intended."
            )
        return {"hypotheses": hypotheses, "with_scores": return_scores}

    def postprocess(  # type: ignore[override]
        self,
        outputs: Mapping[str, Any],
        return_tensors: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[list[dict[str, Any]]]:
        """The translations of each sentence, best first."""
        decoder = TextDecoder(self.model, self.tokenizer)
        cleaning = _given(clean_up_tokenization_spaces=clean_up_tokenization_spaces)

        def as_dict(hypothesis: DecodedHypothesis) -> dict[str, Any]:
            found: dict[str, Any] = {}
            if return_tensors:
                found["translation_token_ids"] = torch.tensor(hypothesis.ids, dtype=torch.long)
            else:
                found["translation_text"] = decoder.texts([hypothesis.ids], **cleaning)[0] if hypothesis.ids else ""
            return {**found, "score": hypothesis.score} if outputs["with_scores"] else found

        return [[as_dict(each) for each in found] for found in outputs["hypotheses"]]

    # Settings

    def _settled(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings for `generate`: version 4's if neither the call nor the model's generation config sets them."""
        settings = dict(settings)
        if settings.get("generation_config") is not None:
            return settings
        own = self.model.generation_config
        if settings.get("num_beams") is None and own.num_beams is None:
            settings["num_beams"] = NUM_BEAMS
        if settings.get("max_new_tokens") is not None:
            settings.setdefault("max_length", None)  # avoids a warning about the model's own
        if not self._all_settings(settings).has_length():
            ours = is_ours(self.model)
            settings |= {"max_extra_tokens": PAPER_EXTRA_TOKENS} if ours else {"max_new_tokens": MAX_NEW_TOKENS}
        return settings

    def _all_settings(self, settings: Mapping[str, Any]) -> CallSettings:
        return settle(settings, settings.get("generation_config"), self.model.generation_config)

    # Languages

    def _languages(
        self, sentences: Sequence[str], src_lang: str | None, tgt_lang: str | None
    ) -> tuple[str, dict[str, Any]]:
        """The prefix of each sentence and the settings of `generate` that select the languages."""
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
                "This model translates one pair of languages: `src_lang` and `tgt_lang` have no effect."
            )
        return getattr(config, "prefix", None) or "", {}


def place_after(first: int) -> Place:
    """The name of a sentence in messages: its number among all given sentences."""
    return lambda index: f"sentence {first + index:,}"


def _given(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


if TASK not in PIPELINE_REGISTRY.supported_tasks:
    PIPELINE_REGISTRY.register_pipeline(TASK, TranslationPipeline, pt_model=_SoundModels, type="text")

__all__ = ["TranslationPipeline"]
