"""Figures for papers and slides, as PNG and SVG: attention, positions, learning rate, smoothing, probabilities."""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..model.whole_folders import replaced_file
from .contents import Array, Attention, Contents, Token
from .positional_encodings import interleaved, two_halves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {
    "encoder": "Encoder self-attention",
    "decoder": "Decoder self-attention",
    "cross": "Encoder-decoder attention",
}
DOTS_PER_INCH = 160
BLUE, ORANGE, GREY = "#0b5b9e", "#c45400", "#8a8f98"
WARMUP_STEPS = 4000  # section 5.3
LONGEST_LABEL = 14
STYLE = {
    "text.parse_math": False,  # a token may be `$x$`
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "svg.hashsalt": "hf_vanilla_transformer",  # equal figures give identical files
}


def draw_figures(
    contents: Contents,
    folder: str | os.PathLike[str],
    d_model: int = 512,
    learning_rates: Sequence[tuple[int, float]] = (),
    progress: Callable[[str], object] | None = None,
) -> list[Path]:
    """Draw all figures of one sentence, each as PNG and as SVG.

    Args:
        contents: the contents of a page.
        folder: folder for the figures; created if it does not exist. Files with the same names are replaced.
        d_model: width for the paper's learning-rate formula, used if `learning_rates` is empty.
        learning_rates: steps and rates of the model's own run.
        progress: called with the name of each figure before it is drawn.

    Returns:
        The paths of the files.

    Raises:
        NotADirectoryError: `folder` is a file.
    """
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise NotADirectoryError(f"Figures go to a folder, but {place} is a file. Name a folder.")
    place.mkdir(parents=True, exist_ok=True)
    jobs: dict[str, Callable[[], Figure]] = {
        **{f"attention_{kind}": _attention_job(contents, kind, each) for kind, each in contents.attention.items()},
        "positional_encodings": lambda: _positions(contents),
        "learning_rate": lambda: _learning_rate(d_model, learning_rates),
        "smoothed_target": lambda: _smoothed_target(contents),
        "token_probabilities": lambda: _token_probabilities(contents),
    }
    paths = []
    for name, job in jobs.items():
        if progress is not None:
            progress(name)
        paths += _write(job, place / name)
    return paths


def _write(job: "Callable[[], Figure]", base: Path) -> list[Path]:
    import matplotlib.style

    paths = []
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # tokens may be in any script
        figure = job()
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            path = base.with_suffix(f".{kind}")
            with replaced_file(path) as beside:
                figure.savefig(beside, format=kind, metadata=metadata)
            figure.set_layout_engine("none")  # both files have the layout of the first; it takes longer than drawing
            paths.append(path)
    return paths


def _new_figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def _matrix(array: Array, *indices: int) -> Any:
    import numpy

    return numpy.asarray(array.values).reshape(array.shape)[indices]


def _labels(tokens: Sequence[Token]) -> list[str]:
    texts = [("‿" if token.continues else "") + token.text for token in tokens]
    printable = [
        "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in t) for t in texts
    ]
    return [text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…" for text in printable]


def _attention_job(contents: Contents, kind: str, attention: Attention) -> "Callable[[], Figure]":
    queries = contents.source if kind == "encoder" else contents.decoder_inputs
    keys = contents.decoder_inputs if kind == "decoder" else contents.source
    return lambda: _attention(KINDS[kind], attention, _labels(queries), _labels(keys))


def _attention(title: str, attention: Attention, queries: list[str], keys: list[str]) -> "Figure":
    """A grid with a row per layer and a column per head; each map has a row per attending token."""
    layers, heads = len(attention.layers), attention.layers[0].weights.shape[0]
    side = max(1.3, 0.14 * max(len(queries), len(keys)))
    figure = _new_figure(heads * side + 1.4, layers * side * len(queries) / len(keys) + 1.4)
    grid = figure.subplots(layers, heads, squeeze=False, sharex=True, sharey=True)
    image = None
    for layer, row in enumerate(grid):
        for head, axes in enumerate(row):
            weights = _matrix(attention.layers[layer].weights, head)
            image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
            axes.set_title(f"layer {layer + 1}, head {head + 1}")
            axes.set_xticks(range(len(keys)), keys, rotation=90)
            axes.set_yticks(range(len(queries)), queries)
            axes.tick_params(length=0, labelsize=7)
    assert image is not None
    figure.colorbar(image, ax=grid, shrink=min(1.0, 2.2 / figure.get_figheight()), label="weight")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _positions(contents: Contents) -> "Figure":
    used = contents.positions
    rows, width = (64, 512) if used is None else used.values.shape
    panels = [
        ("the paper: sine and cosine alternate", interleaved(rows, width)),
        ("Tensor2Tensor: sines, then cosines", two_halves(rows, width)),
    ]
    if used is not None:
        panels.insert(0, (f"in use: {used.name}", used.values))
    figure = _new_figure(7.5, 1.9 * len(panels) + 0.4)
    grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    image = None
    for axes, (title, array) in zip(grid, panels, strict=True):
        image = axes.imshow(_matrix(array), cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_title(title)
        axes.set_ylabel("position")
    grid[-1].set_xlabel("dimension")
    assert image is not None
    figure.colorbar(image, ax=grid, shrink=0.6)
    return figure


def _learning_rate(d_model: int, logged: Sequence[tuple[int, float]]) -> "Figure":
    title = "Learning rate of this run"
    rates = list(logged)
    if not rates:
        title = f"Learning rate, equation 3: d_model {d_model:,}, {WARMUP_STEPS:,} warm-up steps"
        steps = range(50, 5 * WARMUP_STEPS + 1, 50)
        rates = [(step, d_model**-0.5 * min(step**-0.5, step * WARMUP_STEPS**-1.5)) for step in steps]
    figure = _new_figure(5.5, 2.8)
    axes = figure.subplots()
    axes.plot([step for step, _ in rates], [rate for _, rate in rates], color=BLUE, linewidth=1.8)
    axes.set(title=title, xlabel="optimizer step", ylabel="learning rate", xlim=(0, None), ylim=(0, None))
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
    axes.grid(axis="y", color="#e5e5e5")
    return figure


def _smoothed_target(contents: Contents) -> "Figure":
    """The target distribution at the first position, over the target's tokens and all others together."""
    training = contents.training
    tokens = training.columns if training else list({token.id: token for token in contents.target}.values())
    smoothing = training.smoothing if training else 0.1
    step = contents.steps[0]
    vocabulary = training.vocabulary if training else step.others + len(step.candidates)
    wanted = training.tokens[0].id if training else contents.target[0].id
    each = smoothing / vocabulary
    smoothed = [each + (1 - smoothing if token.id == wanted else 0) for token in tokens]
    one_hot = [float(token.id == wanted) for token in tokens]
    figure = _new_figure(max(4.0, 0.5 * len(tokens) + 1.5), 2.8)
    axes = figure.subplots()
    places = range(len(tokens) + 1)
    rest = each * (vocabulary - len(tokens))
    axes.bar([place - 0.2 for place in places], [*one_hot, 0.0], 0.4, color=GREY, label="one-hot")
    axes.bar([place + 0.2 for place in places], [*smoothed, rest], 0.4, color=BLUE, label=f"smoothed by {smoothing:g}")
    axes.set_xticks(places, [*_labels(tokens), f"{vocabulary - len(tokens):,} others"], rotation=45, ha="right")
    axes.set(title="Target distribution at the first position", ylabel="probability", ylim=(0, 1.02))
    axes.legend(frameon=False)
    return figure


def _token_probabilities(contents: Contents) -> "Figure":
    """The probability of each token of the translation; a likelier token, if any, is named."""
    steps = contents.steps
    figure = _new_figure(max(4.0, 0.45 * len(steps) + 1.5), 2.8)
    axes = figure.subplots()
    axes.bar(range(len(steps)), [step.chosen.probability for step in steps], 0.6, color=BLUE)
    for place, step in enumerate(steps):
        best = step.candidates[0]
        if best.token.id != step.chosen.token.id:
            axes.plot(place, best.probability, marker="_", markersize=14, markeredgewidth=2, color=ORANGE)
            axes.annotate(_labels([best.token])[0], (place, best.probability), ha="center", va="bottom", color=ORANGE)
    axes.set_xticks(range(len(steps)), _labels(contents.target), rotation=45, ha="right")
    axes.set(title="Probability of each token of the translation", ylabel="probability", ylim=(0, 1.02))
    return figure
