"""Text in, text out, as a pipeline of `transformers`: what `pipeline("translation")` was until its version 5.

For any sequence-to-sequence model; what it takes and gives is what users of version 4 know. Sentences are decoded by
`text_decoding.py`, as `Translator` decodes them: sorted by length and batched, and given back in order; nothing is
truncated unless asked for. Scores are explained there.
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
READ_AHEAD = 256  # sentences that a generator is asked for at a time, unless `batch_size` says otherwise
NUM_BEAMS, MAX_NEW_TOKENS = 4, 256  # the defaults of version 4, for models that state none
LARGEST_LENGTH = 10**9  # tokenizers without a length state a larger one


class ModelRefusedError(Exception):
    """Why a model is not loaded, in a sentence.

    No `ValueError`: of these `transformers.pipeline` makes a page of tracebacks.
    """


class _SoundModels(AutoModelForSeq2SeqLM):
    """`AutoModelForSeq2SeqLM`, but a folder of any class of models is checked as ours are."""

    @classmethod
    def from_pretrained(cls, name: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        def read() -> Any:
            # by its own name, under which configs tell where their model's code is
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
    """What the pipeline was made with, for each of the three stages."""

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
            batch_size: most sentences of a batch. Unset, a batch holds at most 4,096 source tokens, padding included.
            num_workers: of no use here, since whole batches are tokenised at once; accepted for code of version 4.
            src_lang, tgt_lang: languages, as the model's tokenizer names them: needed by multilingual models (mBART,
                M2M100, NLLB; `"en"` and `"fr"`, or names in English, for T5; the target alone for OPUS-MT models with
                several).
            num_return_sequences: translations of each sentence, best first, or as many as there are; `n_best` is the
                same.
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
    ) -> tuple[dict[str, Any], ...]:
        """What is set for each of the three stages; the constructor calls first, with what is set for good."""
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
        """The translations of each sentence, in order; a sentence without text is not shown to the model."""
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
        """Token ids of each sentence, none for one without text, and what its languages ask of `generate`."""
        place = place_after(first)
        decoder = TextDecoder(self.model, self.tokenizer)
        check_sentences(sentences, place)
        with_text = [sentence for sentence in sentences if sentence.strip()]
        prefix, settings = self._languages(with_text, src_lang, tgt_lang) if with_text else ("", {})
        texts = [prefix + text if text.strip() else text for text in sentences]
        ids = decoder.encode(
            texts, place, "cut it by `truncation=True`", goes_on=first > 0, **self._truncation(truncation)
        )
        return {"input_ids": ids, "generate_settings": settings, "first": first}

    def _truncation(self, truncation: Any) -> dict[str, Any]:
        """As arguments of the tokenizer: to what it or the model has room for, if either is limited."""
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
                f"short: raise `{limit}` if that is not meant."
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
        """The settings for `generate`: version 4's where neither the call nor the model's generation config says."""
        settings = dict(settings)
        if settings.get("generation_config") is not None:
            return settings
        own = self.model.generation_config
        if settings.get("num_beams") is None and own.num_beams is None:
            settings["num_beams"] = NUM_BEAMS
        if settings.get("max_new_tokens") is not None:
            settings.setdefault("max_length", None)  # else `generate` warns of the model's own
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


def place_after(first: int) -> Place:
    """Sentences by their number among all that were given, for messages."""
    return lambda index: f"sentence {first + index:,}"


def _given(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


if TASK not in PIPELINE_REGISTRY.supported_tasks:
    PIPELINE_REGISTRY.register_pipeline(TASK, TranslationPipeline, pt_model=_SoundModels, type="text")

__all__ = ["TranslationPipeline"]
