"""`illustrate`: show how a model translates one sentence, as a page, in a notebook, and as figures."""

import html
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..model.sentences import check_lengths, check_sentences, warn_of_long_sources
from ..model.whole_folders import replaced_file
from .contents import Contents
from .page import build_page
from .places import check_place

MOST_TOKENS = 128
FRAME_HEIGHT = 900


@dataclass(frozen=True, repr=False)
class Illustration:
    """A page about one sentence; a notebook displays it in a frame.

    Attributes:
        contents: what it shows, as plain lists.
        learning_rates: steps and rates for `draw_figures`; empty for the paper's formula.
    """

    contents: Contents
    d_model: int = 512
    learning_rates: Sequence[tuple[int, float]] = ()

    @cached_property
    def html(self) -> str:
        """The whole page as one self-contained HTML file."""
        return build_page(self.contents)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page atomically, replacing an earlier page, and return its path.

        Raises:
            ValueError: `path` does not end in .html.
            FileExistsError: the file exists and is not a page of `illustrate`.
            FileNotFoundError: the folder of `path` does not exist.
            IsADirectoryError: `path` is a folder.
        """
        place = check_place(path)
        with replaced_file(place) as beside:
            beside.write_text(self.html, encoding="utf-8")
        return place

    def draw_figures(
        self, folder: str | os.PathLike[str], progress: Callable[[str], object] | None = None
    ) -> list[Path]:
        """Write figures as PNG and SVG, and return their paths. `progress` is called with each figure's name."""
        from .figures import draw_figures

        return draw_figures(self.contents, folder, self.d_model, self.learning_rates, progress)

    def __repr__(self) -> str:
        shown, facts = self.contents, dict(self.contents.facts)
        model = ", ".join(facts[name] for name in ("class", "parameters") if name in facts)
        tokens = f"{len(shown.source)} source and {len(shown.target)} target tokens"
        return f'<Illustration of {shown.model!r} ({model} parameters): {tokens}; .save("page.html") writes it>'

    def _repr_html_(self) -> str:
        page = html.escape(self.html, quote=True)
        return (
            f'<iframe sandbox="allow-scripts" srcdoc="{page}" title="The Illustrated Transformer" '
            f'style="width: 100%; height: {FRAME_HEIGHT}px; border: 0"></iframe>'
        )


def illustrate(
    model: Any,
    tokenizer: Any,
    text: str,
    target: str | None = None,
    *,
    name: str | None = None,
    progress: Callable[[str], object] | None = None,
    **settings: Any,
) -> Illustration:
    """Translate a sentence and show how: attention, layers, decoding steps, beams.

    Args:
        model: an encoder-decoder of `transformers` that returns attention weights (ours, Marian, T5, ...); it is not
            modified.
        tokenizer: its tokenizer.
        text: the sentence, at most 128 tokens.
        target: a translation of it, at most 128 tokens, to show what training sees.
        name: displayed name of the model; by default the name of its folder.
        progress: called before each step with a short description.
        settings: settings of `generate`, such as `num_beams`; the model's generation config by default.

    Returns:
        The page: `.save("page.html")`, `.html`, `.draw_figures("figures")`; a notebook displays it.

    Raises:
        TypeError: a text is not a string.
        ValueError: a text is empty or too long, or the model returns no attention weights.
    """
    from .collecting import Collector

    source_ids = encode(tokenizer, text, "text", model)
    warn_of_long_sources([source_ids], model, lambda _: "`text`")
    target_ids = None if target is None else encode(tokenizer, target, "target", model)
    collector = Collector(model, tokenizer, settings, progress or (lambda what: None))
    contents = collector.collect(text, source_ids, target, target_ids, name)
    return Illustration(contents, getattr(model.config, "d_model", 512))


def encode(tokenizer: Any, text: str, what: str, model: Any) -> list[int]:
    """Encode a sentence, with its end token, and check its length.

    Raises:
        TypeError, ValueError: as in `illustrate`.
    """
    if not isinstance(text, str):
        raise TypeError(f"`{what}` must be one sentence, a string, got {text!r:.60}.")
    check_sentences([text], lambda _: f"`{what}`")
    if not text.strip():
        raise ValueError(f"`{what}` must be a sentence, but it is empty. Give some words.")
    encoded = tokenizer(text_target=text) if what == "target" else tokenizer(text)
    ids = list(encoded["input_ids"])
    if len(ids) > MOST_TOKENS:
        raise ValueError(
            f"A page shows at most {MOST_TOKENS} tokens, but `{what}` has {len(ids):,}: every token is shown with "
            "every other. Give a shorter sentence."
        )
    check_lengths([ids], model.config, lambda _: f"`{what}`")
    return ids
