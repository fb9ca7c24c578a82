"""Collect everything that a page shows from a model: decode, record one pass, analyse it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..model.sentences import inference
from .anatomy import (
    UnknownParts,
    read_positions,
    take_attention_apart,
    take_embeddings_apart,
    take_layers_apart,
    weights_alone,
)
from .beam_tree import Search, UnclearSearch, build_tree, search
from .contents import Beam, Contents, Token, Training
from .distributions import read_guesses, read_steps, untrained_twin
from .facts import model_facts, model_name
from .recording import Recording, record, to_array
from .tokens import SPACE, readable_tokens, tokens_alone, words_of

USUAL_SMOOTHING = 0.1  # section 5.4


class Collector:
    """Collects the contents of a page from one model.

    Args:
        model: an encoder-decoder of `transformers`.
        tokenizer: its tokenizer.
        settings: settings of `generate`.
        progress: called before each step with a short description.
    """

    def __init__(
        self, model: Any, tokenizer: Any, settings: dict[str, Any], progress: Callable[[str], object]
    ) -> None:
        self.model, self.tokenizer, self.settings, self.progress = model, tokenizer, settings, progress
        self.missing: dict[str, str] = {}

    def collect(
        self,
        text: str,
        source_ids: Sequence[int],
        target: str | None,
        target_ids: Sequence[int] | None,
        name: str | None,
    ) -> Contents:
        """Collect the contents of a page; arguments as in `illustrate`."""
        self.progress("decoding")
        with inference(self.model):
            found = search(self.model, source_ids, **self.settings)
        best = found.returned[0]
        self.progress("recording attention and layers")
        recording = record(self.model, source_ids, [*found.prompt, *best[:-1]])
        attention = self._unless_unknown("projections", lambda: take_attention_apart(self.model, recording))
        return Contents(
            model=name or model_name(self.model),
            facts=model_facts(self.model, self.settings),
            source_text=text,
            source=self._name(source_ids, is_target=False),
            target_text=self._decode(best),
            target=self._name(best),
            decoder_inputs=self._name([*found.prompt, *best[:-1]]),
            attention=attention or weights_alone(recording),
            # the first tokens of a longer prompt predict given tokens
            steps=read_steps(recording.logits[len(found.prompt) - 1 :], best, self._name_alone),
            layers=self._unless_unknown("layers", lambda: take_layers_apart(self.model, recording)) or {},
            embeddings=self._unless_unknown("embeddings", lambda: take_embeddings_apart(self.model, recording)) or {},
            positions=self._unless_unknown("positions", lambda: read_positions(self.model, recording)),
            beam=self._beam(found),
            training=None
            if target is None or target_ids is None
            else self._training(target, source_ids, target_ids, found.prompt),
            missing=self.missing,
        )

    def _unless_unknown(self, what: str, take: Callable[[], Any]) -> Any:
        try:
            return take()
        except UnknownParts as unknown:
            self.missing[what] = str(unknown)
            return None

    def _beam(self, found: Search) -> Beam | None:
        try:
            return build_tree(self.model, found, self.settings, self._name_alone)
        except UnclearSearch as unclear:
            self.missing["beam"] = str(unclear)
            return None

    def _name(self, ids: Sequence[int], is_target: bool = True) -> list[Token]:
        return readable_tokens(ids, self.tokenizer, is_target)

    def _name_alone(self, ids: Sequence[int]) -> list[Token]:
        return tokens_alone(ids, self.tokenizer, is_target=True)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _training(
        self, target: str, source_ids: Sequence[int], target_ids: Sequence[int], prompt: Sequence[int]
    ) -> Training:
        self.progress("reading the target, untrained and trained")
        decoder_ids = [prompt[0], *target_ids[:-1]]
        recording = record(self.model, source_ids, decoder_ids, inside=False)
        fresh = record(untrained_twin(self.model), source_ids, decoder_ids, inside=False)
        smoothing = float(getattr(self.model.config, "label_smoothing", 0.0) or USUAL_SMOOTHING)
        columns = list(dict.fromkeys(target_ids))
        tokens = self._name(target_ids)
        source_words, target_words, alignment = self._align(source_ids, tokens, recording)
        untrained, trained = (
            read_guesses(one.logits, target_ids, columns, smoothing, self._name_alone) for one in (fresh, recording)
        )
        return Training(
            text=target,
            tokens=tokens,
            columns=self._name_alone(columns),
            smoothing=smoothing,
            vocabulary=recording.logits.shape[1],
            untrained=untrained,
            trained=trained,
            source_words=source_words,
            target_words=target_words,
            alignment=to_array(alignment),
        )

    def _align(
        self, source_ids: Sequence[int], target: Sequence[Token], recording: Recording
    ) -> tuple[list[str], list[str], torch.Tensor]:
        """Words of both sides, and the attention of each target word to each source word in every layer.

        A token is predicted by the attention at the position before it. The attention is averaged over the tokens of a
        target word and summed over the tokens of a source word.
        """
        source = self._name(source_ids, is_target=False)
        weights = torch.stack([layer.mean(0) for layer in recording.attention["cross"]])  # (layers, target, source)
        source_words, target_words = words_of(source), words_of(target)
        joined = torch.stack([weights[:, :, word].sum(-1) for word in source_words], dim=-1)
        joined = torch.stack([joined[:, word].mean(1) for word in target_words], dim=1)
        names = [
            ["".join(tokens[index].text for index in word).removeprefix(SPACE) or SPACE for word in words]
            for tokens, words in ((source, source_words), (target, target_words))
        ]
        return names[0], names[1], joined
