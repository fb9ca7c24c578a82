"""The picture of a run: what it shows is what the log says, whatever state the log is in."""

import json
import math
import subprocess
import sys
import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.training.curves import draw_training_curves, read_curves

TRAINING = [{"step": step, "loss": 9 - step / 10, "learning_rate": step * 1e-5} for step in (10, 20, 30, 40)]
VALIDATION = [
    {"step": 20, "eval_loss": 5.5, "eval_perplexity": 244.7, "eval_bleu": 7.25, "eval_chrf": 31.5},
    {"step": 40, "eval_loss": 4.5, "eval_perplexity": 90.0, "eval_bleu": 6.5, "eval_chrf": 33.5},
]
RUN = [*TRAINING[:2], VALIDATION[0], *TRAINING[2:], VALIDATION[1]]


def write_log(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_log(tmp_path / "run", RUN)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, in order."""
    saved: list[Figure] = []
    savefig = Figure.savefig

    def keep(self: Figure, *args: Any, **kwargs: Any) -> None:
        saved.append(self)
        savefig(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def drawn(figure: Figure) -> list[dict[str, list[tuple[float, float]]]]:
    """Each panel's points by the name in its legend."""
    panels = []
    for axes in figure.axes:
        legend = axes.get_legend()
        labels = [text.get_text() for text in legend.get_texts()] if legend else [""]
        panels.append(
            {
                label: [tuple(point) for point in line.get_xydata()]
                for label, line in zip(labels, axes.lines, strict=True)
            }
        )
    return panels


def test_the_panels_show_what_was_logged(run, figures):
    assert draw_training_curves(run) == run / "training_curves.png"
    (figure,) = figures
    loss, rate, scores = drawn(figure)
    assert loss == {
        "training (smoothed objective)": [(line["step"], line["loss"]) for line in TRAINING],
        "validation": [(20, 5.5), (40, 4.5)],
    }
    assert np.array(rate[""]) == pytest.approx(np.array([(10, 1), (20, 2), (30, 3), (40, 4)]))
    assert scores == {"BLEU": [(20, 7.25), (40, 6.5)], "chrF": [(20, 31.5), (40, 33.5)]}
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "loss\n(nats per token)",
        "learning rate\n(×10⁻⁴)",
        "BLEU, chrF\n(0 to 100)",
    ]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "optimizer step"]
    assert len({axes.get_xlim() for axes in figure.axes}) == 1


@pytest.mark.parametrize(("scores", "best"), [((3, 5, 5), "5.00 at step 2"), ((math.nan, 1, 0.5), "1.00 at step 2")])
def test_the_title_names_the_folder_the_steps_and_the_first_of_the_best_scores(tmp_path, figures, scores, best):
    lines = [{"step": step, "eval_bleu": score} for step, score in enumerate(scores, start=1)]
    draw_training_curves(write_log(tmp_path / "base", [*lines, {"step": 1234, "train_loss": 3.0}]))
    assert figures[0].get_suptitle() == f"base\n1,234 optimizer steps; best BLEU {best}"


def test_a_folder_given_as_a_dot_is_called_by_its_name(run, figures, monkeypatch):
    monkeypatch.chdir(run)
    draw_training_curves(Path())
    assert figures[0].get_suptitle().startswith("run\n40 optimizer steps")


@pytest.mark.parametrize(
    ("lines", "labels"),
    [
        (TRAINING, ["loss", "learning rate"]),
        (VALIDATION, ["loss", "BLEU, chrF"]),
        ([{"step": 1, "eval_chrf": 3.0}], ["chrF"]),
        ([{"step": 1, "loss": math.nan, "learning_rate": 0.5}], ["learning rate"]),
    ],
)
def test_panels_without_values_are_left_out(tmp_path, figures, lines, labels):
    draw_training_curves(write_log(tmp_path / "run", lines))
    assert [axes.get_ylabel().split("\n")[0] for axes in figures[0].axes] == labels
    assert figures[0].axes[-1].get_xlabel() == "optimizer step"


def test_values_that_are_no_finite_number_leave_gaps(tmp_path, figures):
    odd = [math.nan, math.inf, -math.inf, None, "5", True, [5], 10**400, 1e300]
    values = [2.0, *odd, 3.0]
    draw_training_curves(write_log(tmp_path / "run", [{"step": n, "loss": value} for n, value in enumerate(values)]))
    ((_, points),) = drawn(figures[0])[0].items()
    assert [step for step, _ in points] == list(range(len(values)))
    assert [value for _, value in points if math.isfinite(value)] == [2.0, 3.0]


def test_what_a_resumed_run_trained_again_counts_once(tmp_path):
    """Killed at 40, resumed from 20 with another logging interval: nothing of the lost part after 20 remains."""
    lost = [{"step": 30, "loss": 100.0}, {"step": 40, "loss": 100.0}, {"step": 40, "eval_bleu": 100.0}]
    again = [{"step": 25, "loss": 4.0}, {"step": 35, "loss": 3.0}, {"step": 35, "loss": 2.0}]
    run = write_log(tmp_path / "run", [{"step": 10, "loss": 6.0}, {"step": 20, "loss": 5.0}, *lost, *again])
    assert read_curves(run) == {"loss": {10: 6.0, 20: 5.0, 25: 4.0, 35: 2.0}, "eval_bleu": {}}


def test_lines_that_are_cut_off_are_skipped_and_what_follows_them_is_not(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(
        b'{"step": 1, "loss": 5.0}\n{"step": 2, "lo{"step": 3, "loss": 4.0}\n'
        b'[1]\nnull\n7\n\n\0\0\0\n\xff\xfe\n{"loss": 9.0}\n{"step": "4", "loss": 9.0}\n{"step": true, "loss": 9.0}\n'
        b'{"step": -1, "loss": 9.0}\n{"step": 5, "loss": 3.0}\n{"step": 6, "loss": 2'
    )
    assert read_curves(tmp_path) == {"loss": {1: 5.0, 3: 4.0, 5: 3.0}}


def test_evaluation_sets_are_lines_of_their_own_with_one_colour_each(tmp_path, figures):
    scores = {"test_ted": 20.0, "bleu": 10.0}
    lines = [
        {"step": 5, f"eval_{name}_loss": bleu / 10, f"eval_{name}_bleu": bleu, f"eval_{name}_chrf": 2 * bleu}
        for name, bleu in scores.items()
    ]
    draw_training_curves(write_log(tmp_path / "run", lines))
    loss, chart = figures[0].axes
    assert drawn(figures[0]) == [
        {"validation, test_ted": [(5, 2.0)], "validation, bleu": [(5, 1.0)]},
        {
            "BLEU, test_ted": [(5, 20.0)],
            "BLEU, bleu": [(5, 10.0)],
            "chrF, test_ted": [(5, 40.0)],
            "chrF, bleu": [(5, 20.0)],
        },
    ]
    first, second = (line.get_color() for line in loss.lines)
    assert first != second
    assert [line.get_color() for line in chart.lines] == [first, second, first, second]
    assert "best BLEU: test_ted 20.00 at step 5, bleu 10.00 at step 5" in figures[0].get_suptitle()


@pytest.mark.parametrize("name", ["$x$", "_^", r"\frac{1}{0}$", "$" * 3, "a\nb\tc", "日本語", "n" * 200, "W" * 200])
def test_any_name_of_a_folder_or_a_set_is_shown_as_it_is_or_shortened(tmp_path, figures, name):
    evaluations = [{"step": 20, f"eval_{name}_bleu": 3.0, f"eval_{name}_loss": 4.0}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_training_curves(write_log(tmp_path / name, [*TRAINING, *evaluations]))
    (figure,) = figures
    title = figure.get_suptitle().split("\n")[0]
    legend = figure.axes[-1].get_legend().get_texts()[0]
    if len(name) < 20:
        shown = name.replace("\n", "\N{REPLACEMENT CHARACTER}").replace("\t", "\N{REPLACEMENT CHARACTER}")
        assert title == shown
        assert legend.get_text() == f"BLEU, {shown}"
    else:
        assert title == name[:25] + "…" + name[-24:]
    (suptitle,) = figure.texts
    assert not suptitle.get_parse_math()
    assert not legend.get_parse_math()
    extent = suptitle.get_window_extent()
    assert extent.x0 >= 0
    assert extent.x1 <= figure.bbox.x1


@pytest.mark.parametrize("sets", [[""], ["ted_", "newstest2013_"], [f"a_longer_name_{n}_" for n in range(7)]])
def test_title_and_legends_cover_no_curve_and_not_one_another(tmp_path, figures, sets):
    metrics = {f"eval_{name}{metric}": 5.0 for name in sets for metric in ("loss", "bleu", "chrf")}
    draw_training_curves(write_log(tmp_path / "run", [*TRAINING, {"step": 20, **metrics}, {"step": 40, **metrics}]))
    (figure,) = figures
    legends = [legend for axes in figure.axes if (legend := axes.get_legend())]
    boxes = [shown.get_window_extent() for shown in (*figure.texts, *figure.axes, *legends)]
    for first, second in combinations(boxes, 2):
        assert not _overlap(first, second)
    assert all(box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)
    assert all(axes.get_window_extent().height > 0.05 * figure.bbox.height for axes in figure.axes)


def _overlap(first: Any, second: Any) -> bool:
    """Whether two boxes share more than an edge, in dots."""
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    return width > 1 and height > 1


def test_the_same_log_gives_the_same_bytes_whatever_matplotlib_is_set_to(run, tmp_path, figures):
    plain = draw_training_curves(run, tmp_path / "plain.png").read_bytes()
    settings = {"axes.facecolor": "black", "font.size": 30, "savefig.bbox": "tight", "text.usetex": True}
    with matplotlib.rc_context(settings):
        before = dict(matplotlib.rcParams)
        assert draw_training_curves(run, tmp_path / "set.png").read_bytes() == plain
        assert dict(matplotlib.rcParams) == before
    with Image.open(tmp_path / "plain.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == tuple(figures[0].get_size_inches() * figures[0].dpi)  # nothing was cut off
        assert set(picture.info) <= {"dpi"}  # neither a date nor a version


def test_a_picture_is_replaced_whole_or_not_at_all(run, monkeypatch):
    old = draw_training_curves(run).read_bytes()
    names = sorted(path.name for path in run.iterdir())
    write_log(run, TRAINING)

    def break_off(self: Figure, place: Path, **kwargs: Any) -> None:
        Path(place).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Figure, "savefig", break_off)
        with pytest.raises(OSError, match="is full"):
            draw_training_curves(run)
    assert (run / "training_curves.png").read_bytes() == old
    assert sorted(path.name for path in run.iterdir()) == names

    assert draw_training_curves(run).read_bytes() != old
    assert sorted(path.name for path in run.iterdir()) == names


def test_the_command_draws_into_the_run_or_where_it_is_told(run, tmp_path, capsys):
    assert main(["curves", "--run", str(run)]) == 0
    assert capsys.readouterr().out == f"The curves are in {run / 'training_curves.png'}.\n"
    output = tmp_path / "elsewhere.PNG"
    assert main(["curves", "--run", str(run), "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"The curves are in {output}.\n"
    assert output.read_bytes() == (run / "training_curves.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "There is no folder nowhere. Give the folder of a run, as `--output_dir` named it."),
        (["empty"], "There is no metrics.jsonl in empty. Give the folder of a run, and wait for its first log"),
        (["begun"], "metrics.jsonl holds no loss, learning rate or score yet. Try again after its first log"),
        (["run", "--output", "missing/a.png"], "/missing for the picture. Make it first."),
        (["run", "--output", "folder.png"], "The picture goes to a file, but folder.png is a folder. Name a file in"),
        (["run", "--output", "a.pdf"], "must end in .png, but it is a.pdf. Name another."),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_sentence(run, tmp_path, monkeypatch, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.png").mkdir()
    write_log(tmp_path / "begun", [{"step": 0, "grad_norm": 1.0}, {"step": 1, "loss": math.nan}])
    monkeypatch.chdir(tmp_path)
    assert main(["curves", "--run", *arguments]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_matplotlib_is_imported_only_to_draw_and_pyplot_never(run):
    code = f"""
import sys
from hf_vanilla_transformer.training.curves import draw_training_curves, read_curves
read_curves(__import__("pathlib").Path({str(run)!r}))
print("matplotlib" in sys.modules)
draw_training_curves({str(run)!r})
print("matplotlib.pyplot" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
