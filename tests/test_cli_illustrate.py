"""`vanilla-transformer illustrate`: the page and the figures it writes, and what it refuses."""

import io
import json
import subprocess
import sys

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
        (["--text", "merci", "--output", "page.pdf"], 2, "--output: The page is an HTML file, but page.pdf does not"),
        (["--text", "merci", "--output", "page"], 2, "does not end in .html. Name it page.html"),
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


def test_without_a_place_the_page_is_in_the_current_folder_and_the_line_says_so(
    tiny_model_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    argv = ["illustrate", "--model", str(tiny_model_folder), "--text", "merci"]
    assert main(argv) == 0
    assert "The page is illustration.html: " in capsys.readouterr().out
    assert main(argv) == 0  # an earlier page is replaced
    assert [path.name for path in tmp_path.iterdir()] == ["illustration.html"]


def test_figures_alone_make_no_page(tiny_model_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["illustrate", "--model", str(tiny_model_folder), "--text", "merci", "--figures", "figures"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]


@pytest.mark.parametrize("name", ["illustration.html", "mine.html"])
def test_a_file_that_is_no_page_of_ours_stays_and_nothing_is_loaded(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("<title>mine</title>", encoding="utf-8")
    output = ["--output", name] if name != "illustration.html" else []
    assert main(["illustrate", "--model", "nowhere", "--text", "merci", *output]) == 1
    assert f"may replace only an earlier page, but {name} is another file" in capsys.readouterr().err
    assert (tmp_path / name).read_text(encoding="utf-8") == "<title>mine</title>"


def test_a_wrong_ending_is_wrong_usage_before_anything_is_imported(tmp_path):
    code = "import sys\nfrom hf_vanilla_transformer import cli\nbefore = set(sys.modules)\n"
    code += "code = cli.main(['illustrate', '--model', 'x', '--text', 'x', '--output', 'page.pdf'])\n"
    code += "late = {name.split('.')[0] for name in set(sys.modules) - before}\n"
    code += "assert not late & {'torch', 'transformers', 'numpy', 'tokenizers'}, late\nsys.exit(code)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr
    assert "does not end in .html" in done.stderr


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_what_is_done_is_shown_on_a_terminal_alone(tiny_model_folder, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(sys, "stderr", kind())
    argv = ["illustrate", "--model", str(tiny_model_folder), "--text", "merci", "--target", "thanks"]
    places = ["--output", str(tmp_path / "page.html"), "--figures", str(tmp_path / "figures")]
    assert main([*argv, *places]) == 0
    said = sys.stderr.getvalue()
    parts = ["loading the model", "decoding", "recording attention and layers", "reading the target"]
    for part in (*parts, "writing the page", "drawing attention_encoder", "drawing token_probabilities"):
        assert (part in said) == (kind is Terminal)
