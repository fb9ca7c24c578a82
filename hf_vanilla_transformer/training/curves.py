"""Training curves of a run: loss, learning rate, BLEU and chrF by optimizer step, from its `metrics.jsonl`."""

import itertools
import math
import os
import re
import textwrap
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..model.json_files import parse_json
from ..model.whole_folders import replaced_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS_NAME = "metrics.jsonl"
PICTURE_NAME = "training_curves.png"
FIRST_LINE = "its first log line (`logging_steps`)"
EVALUATION = re.compile(r"eval_(?:(?P<set>.+)_)?(?P<metric>loss|bleu|chrf)", re.DOTALL)
SCORES = {"bleu": "BLEU", "chrf": "chrF"}
SCORE_LOOKS: dict[str, dict[str, str]] = {"bleu": {}, "chrf": {"linestyle": "--", "markerfacecolor": "white"}}

LONGEST_RUN, LONGEST_SET = 50, 24  # characters of a name that are shown
WIDTH, DOTS_PER_INCH = 8.5, 150  # inches; 1,275 dots
TRAINING_COLOUR = "#4d4d4d"
# Okabe and Ito's colours without yellow, which is too pale for a line on white
SET_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
SET_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE = {
    "text.parse_math": False,  # a folder may be called `$x$`
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "legend.loc": "lower left",
    "legend.frameon": False,
    "legend.borderaxespad": 0,
    "legend.fontsize": 9.0,
    "agg.path.chunksize": 20_000,  # Agg refuses longer paths that it cannot simplify
}


class NothingToDrawError(ValueError):
    """The run has not logged anything yet."""


Curve: TypeAlias = dict[int, float]
"""Value by optimizer step, in order of steps; NaN where the run logged no finite number."""


@dataclass(frozen=True)
class Line:
    """One curve, its legend label and its matplotlib properties."""

    label: str
    curve: Curve
    look: dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """Curves that share a vertical axis; `height` in inches, without the legend."""

    axis: str
    height: float
    lines: list[Line]
    from_zero: bool = False


def draw_training_curves(run: str | os.PathLike[str], output: str | os.PathLike[str] | None = None) -> Path:
    """Plot loss (nats per token), learning rate, BLEU and chrF (0 to 100) of a run by optimizer step.

    Panels without a finite value are left out, and non-finite values leave gaps. If steps were trained again after a
    resume, only the last values are drawn. The same file gives the same picture, whatever matplotlib's settings are.

    Args:
        run: run folder that holds `metrics.jsonl`; the run may still be in progress.
        output: file name that ends in .png; `training_curves.png` in the run's folder if not given. An existing file
            is replaced atomically.

    Returns:
        The path of the picture.

    Raises:
        FileNotFoundError: the run's folder, its `metrics.jsonl` or the output's folder does not exist.
        IsADirectoryError: `output` is a folder.
        ValueError: nothing to draw has been logged yet; `output` does not end in .png.
    """
    folder = Path(run)
    place = folder / PICTURE_NAME if output is None else Path(output)
    curves = read_curves(folder)
    panels = [panel for panel in (_losses(curves), _learning_rate(curves), _scores(curves)) if panel.lines]
    if not panels:
        raise NothingToDrawError(
            f"{folder / METRICS_NAME} holds no loss, learning rate or score yet. Try again after {FIRST_LINE}."
        )
    _check_place(place)
    _write_picture(panels, _title(folder, curves), _last_step(curves), place)
    return place


def read_curves(run: Path) -> dict[str, Curve]:
    """The curves in a run's `metrics.jsonl`, by metric name; incomplete lines are skipped.

    Raises:
        FileNotFoundError: the folder or the file does not exist.
    """
    path = run / METRICS_NAME
    if not run.is_dir():
        raise FileNotFoundError(f"There is no folder {run}. Give the folder of a run, as `--output_dir` named it.")
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {METRICS_NAME} in {run}. Give the folder of a run, and wait for {FIRST_LINE}."
        )
    curves: dict[str, Curve] = {}
    last_step = 0
    with path.open("rb") as file:
        for line in file:
            record = _parse(line)
            if record is None:
                continue
            step = record.pop("step")
            if step < last_step:
                _forget_from(step, curves)
            last_step = step
            for name, value in record.items():
                curves.setdefault(name, {})[step] = _finite_or_nan(value)
    return curves


def _parse(line: bytes) -> dict[str, Any] | None:
    """Parse one log line; None if invalid. A line cut off by a kill has no line end, so the next one follows it."""
    for text in (line, line[line.rfind(b"{") :]):
        try:
            record = parse_json(text, finite=False)
        except ValueError:
            continue
        if isinstance(record, dict) and type(record.get("step")) is int and record["step"] >= 0:
            return record
    return None


def _finite_or_nan(value: Any) -> float:
    # beyond 1e30 the arithmetic of axes overflows, and no loss is that high
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e30 else math.nan


def _forget_from(step: int, curves: dict[str, Curve]) -> None:
    """Drop the values from `step` on, which a resumed run logs again, possibly at other steps."""
    for name, curve in curves.items():
        curves[name] = {at: value for at, value in curve.items() if at < step}


def _last_step(curves: Mapping[str, Curve]) -> int:
    return max(step for curve in curves.values() for step in curve)


def _has_values(curve: Curve) -> bool:
    return any(map(math.isfinite, curve.values()))


def _evaluations(curves: Mapping[str, Curve], metric: str) -> dict[str, Curve]:
    """A metric's curves by the name of the evaluation set; the name is empty if there is only one set."""
    found = ((EVALUATION.fullmatch(name), curve) for name, curve in curves.items() if _has_values(curve))
    return {match["set"] or "": curve for match, curve in found if match and match["metric"] == metric}


def _losses(curves: Mapping[str, Curve]) -> Panel:
    lines = []
    if _has_values(training := curves.get("loss", {})):
        lines.append(Line("training (smoothed objective)", training, _training_look(training)))
    looks = _looks(curves)
    for name, curve in _evaluations(curves, "loss").items():
        lines.append(Line(_with_set("validation", name), curve, looks[name]))
    return Panel("loss\n(nats per token)", 2.6, lines)


def _learning_rate(curves: Mapping[str, Curve]) -> Panel:
    rate = curves.get("learning_rate", {})
    if not _has_values(rate):
        return Panel("learning rate", 1.5, [])
    highest = max(abs(value) for value in rate.values() if math.isfinite(value))
    exponent = math.floor(math.log10(highest)) if 1e-30 < highest < 0.01 else 0
    scaled = {step: value / 10**exponent for step, value in rate.items()}
    unit = f"\n(×10{str(exponent).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))})" if exponent else ""
    return Panel(f"learning rate{unit}", 1.5, [Line("", scaled, _training_look(rate))], from_zero=True)


def _scores(curves: Mapping[str, Curve]) -> Panel:
    found = {metric: _evaluations(curves, metric) for metric in SCORES}
    looks = _looks(curves)
    lines = [
        Line(_with_set(SCORES[metric], name), curve, looks[name] | SCORE_LOOKS[metric])
        for metric, by_set in found.items()
        for name, curve in by_set.items()
    ]
    names = ", ".join(SCORES[metric] for metric, by_set in found.items() if by_set)
    return Panel(f"{names}\n(0 to 100)", 2.2, lines, from_zero=True)


def _training_look(curve: Curve) -> dict[str, Any]:
    few = len(curve) <= 60  # single values between gaps are visible only as markers
    return {"color": TRAINING_COLOUR, "linewidth": 1.3, "marker": "." if few else ""}


def _looks(curves: Mapping[str, Curve]) -> dict[str, dict[str, Any]]:
    """A colour and a marker for each evaluation set, the same in every panel."""
    names = dict.fromkeys(name for metric in ("loss", *SCORES) for name in _evaluations(curves, metric))
    pairs = zip(names, itertools.cycle(SET_COLOURS), itertools.cycle(SET_MARKERS), strict=False)
    return {name: {"color": colour, "marker": marker} for name, colour, marker in pairs}


def _with_set(what: str, name: str) -> str:
    return f"{what}, {_shown(name, LONGEST_SET)}" if name else what


def _shown(name: str, most: int) -> str:
    """An untrusted name on one line, shortened in the middle to `most` characters."""
    name = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most - most // 2 - 1) :]}"


def _title(run: Path, curves: Mapping[str, Curve]) -> str:
    """The run's name, and below it the number of steps and the best BLEU, at the first step that reached it."""
    steps = _last_step(curves)
    facts = f"{steps:,} optimizer step{'' if steps == 1 else 's'}"
    best = []
    for name, curve in _evaluations(curves, "bleu").items():
        at = max((step for step in curve if math.isfinite(curve[step])), key=lambda step: curve[step])
        best.append(f"{_shown(name, LONGEST_SET)} {curve[at]:.2f} at step {at:,}".lstrip())
    if best:
        facts += f"; best BLEU{':' if len(best) > 1 else ''} {', '.join(best)}"
    name = _shown(run.resolve().name or str(run.resolve()), LONGEST_RUN)
    return "\n".join((name, *textwrap.wrap(facts, 95)))


def _check_place(place: Path) -> None:
    if place.suffix.lower() != ".png":
        raise ValueError(f"The picture is a PNG, so its name must end in .png, but it is {place}. Name another.")
    if place.is_dir():
        raise IsADirectoryError(f"The picture goes to a file, but {place} is a folder. Name a file in it.")
    if not place.absolute().parent.is_dir():
        raise FileNotFoundError(f"There is no folder {place.absolute().parent} for the picture. Make it first.")


def _write_picture(panels: list[Panel], title: str, last_step: int, place: Path) -> None:
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # names may be of any script
        figure = _make_figure(panels, title, last_step)
        with replaced_file(place) as beside:
            figure.savefig(beside, format="png", metadata={"Software": None})


def _make_figure(panels: list[Panel], title: str, last_step: int) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    heights = [panel.height for panel in panels]
    text_rows = 1 + title.count("\n") + sum(map(_legend_rows, panels))
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.5 + 0.2 * text_rows), dpi=DOTS_PER_INCH, layout="constrained")
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(grid, panels, strict=True):
        _draw_panel(axes, panel)
    figure.align_ylabels()
    bottom = grid[-1]
    bottom.set_xlabel("optimizer step")
    bottom.set_xlim(0, max(last_step, 1) * 1.02)
    bottom.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    bottom.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    return figure


def _draw_panel(axes: "Axes", panel: Panel) -> None:
    drawn = [axes.plot(list(line.curve), list(line.curve.values()), **line.look)[0] for line in panel.lines]
    axes.set_ylabel(panel.axis)
    if panel.from_zero and axes.dataLim.y0 >= 0:
        axes.set_ylim(bottom=0)
    if labels := [line.label for line in panel.lines if line.label]:
        # above the axes, where it covers no line
        axes.legend(drawn, labels, bbox_to_anchor=(0, 1), ncols=_legend_columns(labels))


def _legend_columns(labels: list[str]) -> int:
    return max(1, 105 // (max(map(len, labels)) + 8))  # a line of the legend has room for about 105 characters


def _legend_rows(panel: Panel) -> int:
    labels = [line.label for line in panel.lines if line.label]
    return math.ceil(len(labels) / _legend_columns(labels)) if labels else 0
