"""Figures: which there are, that they show the contents' numbers, and that any token can stand in them."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from illustrations import HOSTILE, hand_made
from matplotlib.figure import Figure
from PIL import Image

from hf_vanilla_transformer.illustration.contents import Contents
from hf_vanilla_transformer.illustration.figures import draw_figures

NAMES = (
    *("attention_encoder", "attention_decoder", "attention_cross", "positional_encodings"),
    *("learning_rate", "smoothed_target", "token_probabilities"),
)


def draw(contents: Contents, folder: Path, *options: Any) -> tuple[list[Path], dict[str, Figure]]:
    """The files, and by their names the figures that are in them."""
    saved: list[Figure] = []
    savefig = Figure.savefig

    def keep(self: Figure, *args: Any, **kwargs: Any) -> None:
        saved.append(self)
        savefig(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", keep)
        paths = draw_figures(contents, folder, *options)
    return paths, {path.stem: figure for path, figure in zip(paths, saved, strict=True)}


@pytest.fixture(scope="module")
def of_hostile_tokens(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], dict[str, Figure]]:
    """Of a model whose learning rates nobody knows, into a folder that is not there yet."""
    folder = tmp_path_factory.mktemp("figures") / "new" / "folder"
    return draw(hand_made(tokens=[*HOSTILE, "$x^2$"]), folder, 512)


OWN_RATES = (16, [(1, 0.5), (2, 0.25)])


@pytest.fixture(scope="module")
def of_a_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], dict[str, Figure]]:
    """Of a model whose run's learning rates are known."""
    return draw(hand_made(), tmp_path_factory.mktemp("own"), *OWN_RATES)


@pytest.fixture
def own(of_a_run: tuple[list[Path], dict[str, Figure]]) -> dict[str, Figure]:
    return of_a_run[1]


def test_each_figure_is_there_as_png_and_svg(of_hostile_tokens):
    drawn, _ = of_hostile_tokens
    assert sorted(path.name for path in drawn) == sorted(f"{name}.{kind}" for name in NAMES for kind in ("png", "svg"))
    assert sorted(drawn) == sorted(drawn[0].parent.iterdir())
    for path in drawn:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert len(image.convert("L").getcolors()) > 10  # something is drawn
        else:
            tags = {element.tag.split("}")[1] for element in ElementTree.parse(path).iter()}
            assert not tags & {"script", "foreignObject", "a"}


def test_the_same_contents_give_the_same_files(of_a_run, tmp_path):
    again = draw_figures(hand_made(), tmp_path, *OWN_RATES)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in of_a_run[0]]


def test_the_grid_has_every_layer_and_head_with_its_weights(own):
    figure = own["attention_encoder"]
    panels = [axes for axes in figure.axes if axes.get_title(loc="left") or axes.get_title()]
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in panels]
    assert titles == [f"layer {layer}, head {head}" for layer in (1, 2) for head in (1, 2)]
    weights = hand_made().attention["encoder"].layers[1].weights
    np.testing.assert_allclose(panels[3].images[0].get_array(), np.reshape(weights.values, weights.shape)[1])
    assert [label.get_text() for label in panels[2].get_yticklabels()] == ["je", "suis", "‿étudiant", "</s>"]


def test_the_learning_rate_is_the_runs_own_or_else_the_papers(own, of_hostile_tokens):
    (axes,) = own["learning_rate"].axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.5, 0.25])
    (paper,) = of_hostile_tokens[1]["learning_rate"].axes
    steps, rates = paper.lines[0].get_data()
    assert steps[np.argmax(rates)] == 4000
    assert max(rates) == pytest.approx(512**-0.5 * 4000**-0.5)  # equation 3


def test_the_smoothed_target_adds_up_to_1(own):
    (axes,) = own["smoothed_target"].axes
    one_hot, smoothed = ([bar.get_height() for bar in bars] for bars in axes.containers)
    assert one_hot == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert sum(smoothed) == pytest.approx(1.0)
    assert smoothed[0] == pytest.approx(0.9 + 0.1 / 100)


def test_token_probabilities_name_another_greedy_choice(own):
    """The likeliest candidate is always the first word."""
    (axes,) = own["token_probabilities"].axes
    assert [bar.get_height() for bar in axes.containers[0]] == [step.chosen.probability for step in hand_made().steps]
    assert [text.get_text() for text in axes.texts] == ["je"] * 3


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "figures").write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"Figures go to a folder, but .* is a file"):
        draw_figures(hand_made(), tmp_path / "figures")
    assert (tmp_path / "figures").read_text() == "mine"
