"""`vanilla-transformer illustrate`: the page and the figures it writes, and what it refuses."""

import json

import pytest
from illustrations import data_of

from hf_vanilla_transformer.cli import main


def test_it_writes_the_page_and_the_figures(tiny_model_folder, tmp_path, capsys):
    page, figures = tmp_path / "page.html", tmp_path / "figures"
    argv = ["illustrate", "--model", str(tiny_model_folder), "--text", "merci", "--target", "thanks"]
    assert main([*argv, "--output", str(page), "--figures", str(figures), "--num_beams", "2"]) == 0
    out = capsys.readouterr().out
    assert f"The page is {page}: " in out
    assert f"14 figures are in {figures}." in out
    data = data_of(page.read_text(encoding="utf-8"))
    assert data["source"]["text"] == "merci"
    assert data["training"]["text"] == "thanks"
    assert data["model"] == "model"
    assert data["beam"]["width"] == 2
    assert len(list(figures.iterdir())) == 14


def test_the_learning_rates_are_those_of_the_models_run(tiny_model_folder, tmp_path):
    from illustrations import hand_made

    from hf_vanilla_transformer.cli.illustrate import _with_rates
    from hf_vanilla_transformer.illustration import Illustration

    illustration = Illustration(hand_made())
    assert _with_rates(illustration, str(tiny_model_folder)).learning_rates == ()
    lines = [{"step": 10, "learning_rate": 0.001}, {"step": 20, "learning_rate": 0.002}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert _with_rates(illustration, str(tmp_path)).learning_rates == [(10, 0.001), (20, 0.002)]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--text", "merci"], 2, "at least one of --output and --figures is needed"),
        (["--output", "page.html"], 2, "the following arguments are required: --text"),
        (["--text", "", "--output", "page.html"], 1, "`text` must be a sentence, but it is empty"),
        (["--text", "merci", "--output", "nowhere/page.html"], 1, "There is no folder"),
        (["--text", "merci", "--output", "page.html", "--target", " "], 1, "`target` must be a sentence"),
        (["--text", "merci", "--output", "page.html", "--device", "tpu9"], 1, "The device tpu9 cannot be used here"),
    ],
)
def test_what_it_refuses_is_said_in_a_sentence(
    tiny_model_folder, tmp_path, monkeypatch, capsys, options, code, message
):
    monkeypatch.chdir(tmp_path)
    assert main(["illustrate", "--model", str(tiny_model_folder), *options]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []
