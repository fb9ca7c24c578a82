"""Figures: which there are, that they show the contents' numbers, and that any token can stand in them."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from illustrations import HOSTILE, hand_made
from PIL import Image

from hf_vanilla_transformer.illustration import figures
from hf_vanilla_transformer.illustration.figures import draw_figures

NAMES = (
    *("attention_encoder", "attention_decoder", "attention_cross", "positional_encodings"),
    *("learning_rate", "smoothed_target", "token_probabilities"),
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Figures of hostile tokens, into a folder that is not there yet."""
    folder = tmp_path_factory.mktemp("figures") / "new" / "folder"
    return draw_figures(hand_made(tokens=[*HOSTILE, "$x^2$"]), folder, 16)


def test_each_figure_is_there_as_png_and_svg(drawn):
    assert sorted(path.name for path in drawn) == sorted(f"{name}.{kind}" for name in NAMES for kind in ("png", "svg"))
    assert sorted(drawn) == sorted(drawn[0].parent.iterdir())
    for path in drawn:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert min(image.size) > 300
        else:
            tags = {element.tag.split("}")[1] for element in ElementTree.parse(path).iter()}
            assert not tags & {"script", "foreignObject", "a"}


def test_the_same_contents_give_the_same_files(tmp_path):
    contents = hand_made()
    one, two = (draw_figures(contents, tmp_path / name, 16) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_the_grid_has_every_layer_and_head_with_its_weights():
    contents = hand_made()
    figure = figures._attention_job(contents, "encoder", contents.attention["encoder"])()
    panels = [axes for axes in figure.axes if axes.get_title(loc="left") or axes.get_title()]
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in panels]
    assert titles == [f"layer {layer}, head {head}" for layer in (1, 2) for head in (1, 2)]
    weights = contents.attention["encoder"].layers[1].weights
    np.testing.assert_allclose(panels[3].images[0].get_array(), np.reshape(weights.values, weights.shape)[1])
    assert [label.get_text() for label in panels[2].get_yticklabels()] == ["je", "suis", "‿étudiant", "</s>"]


def test_the_learning_rate_is_the_runs_own_or_else_the_papers():
    (own,) = figures._learning_rate(16, [(1, 0.5), (2, 0.25)]).axes
    np.testing.assert_allclose(own.lines[0].get_ydata(), [0.5, 0.25])
    (paper,) = figures._learning_rate(512, []).axes
    steps, rates = paper.lines[0].get_data()
    assert steps[np.argmax(rates)] == 4000
    assert max(rates) == pytest.approx(512**-0.5 * 4000**-0.5)  # equation 3


def test_the_smoothed_target_adds_up_to_1():
    (axes,) = figures._smoothed_target(hand_made()).axes
    one_hot, smoothed = ([bar.get_height() for bar in bars] for bars in axes.containers)
    assert one_hot == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert sum(smoothed) == pytest.approx(1.0)
    assert smoothed[0] == pytest.approx(0.9 + 0.1 / 100)


def test_token_probabilities_name_another_greedy_choice():
    contents = hand_made()  # the likeliest candidate is always the first word
    (axes,) = figures._token_probabilities(contents).axes
    assert [bar.get_height() for bar in axes.containers[0]] == [step.chosen.probability for step in contents.steps]
    assert [text.get_text() for text in axes.texts] == ["je"] * 3


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "figures").write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"Figures go to a folder, but .* is a file"):
        draw_figures(hand_made(), tmp_path / "figures")
    assert (tmp_path / "figures").read_text() == "mine"
