"""The finding of a check, and the model it examines."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedTokenizerBase

from ..translation import Translation, Translator
from .samples import sample_sentences

LONGEST_TARGET = 12
"""Number of target tokens on which two computations are compared."""

Outcome = Literal["pass", "fail", "note", "not examined"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: name of the check.
        outcome: the result; a note is worth knowing, but not a fault.
        found: what was found, in a sentence.
        remedy: what to do after a failure or a note.
    """

    check: str
    outcome: Outcome
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Patient:
    """A model with its tokenizer, as loaded from `folder`.

    Attributes:
        name: the name that the user gave.
        folder: the folder with its files.
        model: the model, in the dtype of its saved weights, in evaluation mode.
        tokenizer: its tokenizer.
        report: the report of `from_pretrained` on missing and unexpected weights.
        texts: the user's source sentences; if empty, sentences are made from the vocabulary.
    """

    name: str
    folder: Path
    model: Any
    tokenizer: PreTrainedTokenizerBase
    report: dict[str, Any] = field(default_factory=dict)
    texts: tuple[str, ...] = ()

    @cached_property
    def sentences(self) -> list[str]:
        """Source sentences of several lengths."""
        return list(self.texts) or sample_sentences(self.tokenizer)

    @cached_property
    def source_ids(self) -> list[list[int]]:
        """Token ids of the sentences, as the tokenizer gives them."""
        return [list(ids) for ids in self.tokenizer(self.sentences, verbose=False)["input_ids"]]

    @cached_property
    def translations(self) -> list[Translation]:
        """Translations of the sentences, with the model's own settings."""
        return Translator(self.model, self.tokenizer).translate(self.sentences)

    @cached_property
    def targets(self) -> list[list[int]]:
        """Token ids of a target per sentence, without start or end: the translation, or else the source."""
        texts = [t.text if t.text.strip() else s for t, s in zip(self.translations, self.sentences, strict=True)]
        ids = self.tokenizer(text_target=texts, add_special_tokens=False, verbose=False)["input_ids"]
        return [list(row)[:LONGEST_TARGET] or source[:1] for row, source in zip(ids, self.source_ids, strict=True)]

    @property
    def start(self) -> int:
        """The decoder's start token."""
        for config in (self.model.generation_config, self.model.config):
            start = getattr(config, "decoder_start_token_id", None)
            if start is not None:
                return int(start)
        raise ValueError("Neither config.json nor generation_config.json states a decoder start token.")

    @property
    def pad(self) -> int:
        """The padding token."""
        ids = (self.tokenizer.pad_token_id, self.model.config.pad_token_id)
        return next((int(i) for i in ids if i is not None), 0)

    def log_probabilities(
        self, ids: torch.Tensor, mask: torch.Tensor, decoder_ids: torch.Tensor, **more: Any
    ) -> torch.Tensor:
        """Log-probabilities at every step, without a cache unless `more` sets it; (batch, target_len, vocab)."""
        given = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": decoder_ids, "use_cache": False}
        return self.model(**{**given, **more}).logits.float().log_softmax(-1)
