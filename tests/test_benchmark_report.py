"""`scripts/benchmark.py report`: what becomes of figures, not the measuring itself."""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from originals import marian_folder
from tiny import tiny_model

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from benchmarks import decoding, lines, markdown, provenance, report, stock_models, trained_models
from benchmarks.markdown import Figures
from benchmarks.rounds import Spread, ratios

from hf_vanilla_transformer import Translator

sys.path.pop(0)

SOURCE = provenance.Provenance("2026-01-31", "abc1234", "a <fast> machine", {"Python": "3.11.1"}, "python x | y")
README = """# Title

<!-- report results -->
| what | figure | measured |
|---|---|---|
| speed | 1 | long ago |
| another | 2 | long ago |
<!-- end of report results -->

Text.
"""
BLOCK = "<!-- report training -->\nold\n<!-- end of report training -->\n"


@pytest.fixture
def checkout(tmp_path):
    """Two files with blocks, and one without."""
    for room in ("training", "data"):
        (tmp_path / "hf_vanilla_transformer" / room).mkdir(parents=True)
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    (tmp_path / "hf_vanilla_transformer/training/README.md").write_text(f"Before.\n\n{BLOCK}\nAfter.\n")
    (tmp_path / "hf_vanilla_transformer/data/README.md").write_text("No table.\n")
    return tmp_path


@pytest.fixture
def measured(monkeypatch):
    """The settings of what was measured; every table gives the same figures."""
    calls = []

    def measure(options):
        calls.append(options)
        sys.stdout.write("progress")
        figures = [("speed", "3 times"), ("new", "4 | 5")]
        return Figures(["side", "figure"], [["ours", "3"], ["a | b\n<!-- c", "1"]], "Notes.", figures, {"runs": [3]})

    for name, known in report.TABLES.items():
        monkeypatch.setitem(report.TABLES, name, report.Table(**{**vars(known), "measure": measure}))
    monkeypatch.setattr(report, "find_provenance", lambda *args: SOURCE)
    return calls


def asked(*arguments):
    """Options as of the command line."""
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    return parser.parse_args(list(arguments))


def cells(line):
    """Of a row, as Markdown splits it."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


@pytest.mark.parametrize("text", ["a | b", r"a \| b", "a\nb", "a\r\n\n| b |", "<!-- end of report x -->", "|", "\\"])
def test_no_text_breaks_a_table(text):
    lines = markdown.table(["one", "two"], [[text, "2"], ["3", text]]).split("\n")
    assert len(lines) == 4
    assert [len(cells(line)) for line in lines] == [2, 2, 2, 2]
    assert "<" not in lines[2] + lines[3]


@pytest.mark.parametrize("text", ["plain", "with `one`", "``two``", "in\n\nlines"])
def test_code_is_one_line_and_ends_where_it_should(text):
    found = markdown.code(text)
    fence = re.match("`+", found).group()
    assert "\n" not in found
    assert re.search(rf"(?<!`){fence}(?!`)", found[len(fence) :]).end() == len(found) - len(fence)


def test_a_caption_is_one_line_with_all_that_repeats_it():
    caption = SOURCE.caption("Notes.")
    assert caption == (
        "Notes. Measured 2026-01-31, commit abc1234, on a &lt;fast&gt; machine; Python 3.11.1: `python x | y`."
    )


def test_a_table_replaces_its_block_and_its_rows_of_the_summary(checkout, measured, capsys):
    report.report(asked("training"), checkout)
    block = (checkout / "hf_vanilla_transformer/training/README.md").read_text()
    assert block.startswith("Before.\n\n<!-- report training -->\n| side | figure |\n|---|---|\n| ours | 3 |\n")
    assert block.endswith("`python x | y`.\n<!-- end of report training -->\n\nAfter.\n")
    assert "old" not in block
    assert (checkout / "README.md").read_text() == README.replace(
        "| speed | 1 | long ago |", "| speed | 3 times | 2026-01-31, abc1234 |"
    ).replace("| another | 2 | long ago |", "| another | 2 | long ago |\n| new | 4 &#124; 5 | 2026-01-31, abc1234 |")
    assert (checkout / "hf_vanilla_transformer/data/README.md").read_text() == "No table.\n"
    shown = capsys.readouterr()
    assert shown.out.startswith("| side | figure |")
    assert "progress" in shown.err


def test_measuring_again_adds_nothing(checkout, measured):
    report.report(asked("training"), checkout)
    files = [path.read_text() for path in markdown.readme_files(checkout)]
    report.report(asked("training"), checkout)
    assert [path.read_text() for path in markdown.readme_files(checkout)] == files


def test_every_block_of_the_name_is_replaced_wherever_it_is(checkout, measured):
    with (checkout / "README.md").open("a") as readme:
        readme.write(f"{BLOCK}\n{BLOCK}")
    report.report(asked("training"), checkout)
    text = (checkout / "README.md").read_text()
    assert text.count("| ours | 3 |") == 2
    assert "old" not in text


def test_an_empty_summary_becomes_a_table():
    text = markdown.replace_headlines(
        "<!-- report results -->\n<!-- end of report results -->\n", [("speed", "3")], "today"
    )
    assert text.split("\n")[1:4] == ["| what | figure | measured |", "|---|---|---|", "| speed | 3 | today |"]


def test_what_fails_or_is_a_dry_run_replaces_nothing(checkout, measured, monkeypatch, capsys):
    before = [path.read_text() for path in markdown.readme_files(checkout)]
    report.report(asked("training", "--dry_run"), checkout)
    assert "| ours | 3 |" in capsys.readouterr().out

    def fail(options):
        raise SystemExit("no memory")

    monkeypatch.setitem(report.TABLES, "training", report.Table(fail, {}))
    with pytest.raises(SystemExit, match="no memory"):
        report.report(asked("training"), checkout)
    assert [path.read_text() for path in markdown.readme_files(checkout)] == before


def test_without_a_name_all_tables_that_have_a_block_and_need_no_file_are_measured(checkout, measured, tmp_path):
    with (checkout / "README.md").open("a") as readme:
        readme.write("".join(BLOCK.replace("training", name) for name in ("startup", "corpus")))
    report.report(asked("--output", str(tmp_path / "all.json"), "--rounds", "2"), checkout)
    assert [options.rounds for options in measured] == [2, 2]
    kept = json.loads((tmp_path / "all.json").read_text())
    assert list(kept) == ["training", "startup"]
    assert kept["startup"]["figures"] == {"runs": [3]}
    assert kept["startup"]["commit"] == "abc1234"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainig"], r"no table 'trainig'; there are quickstart, .*lines\. Did you mean training\?"),
        (["xyz"], r"no table 'xyz'; there are quickstart, .*lines\.$"),
        (["memory"], "`<!-- report memory -->` and `<!-- end of report memory -->`"),
        (["training", "--source", "a"], "2 files: SRC TGT; got 1"),
        (["corpus"], r"4 or 6 files: TRAIN_SRC TRAIN_TGT VAL_SRC VAL_TGT \[TEST_SRC TEST_TGT\]; got 0"),
        (["corpus", "--source", *"abcde"], "4 or 6 files.*got 5"),
        (["startup", "--source", "a", "b"], "the table startup names no file; got 2"),
        (["memory", "--model", "x", "--steps", "3"], "memory takes --rounds, not --model, --steps"),
        (["--model", "x", "--source", "a"], "--model, --source fits one table"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(arguments, message, checkout, measured):
    with pytest.raises(ValueError, match=message):
        report.report(asked(*arguments), checkout)
    assert not measured


def test_a_summary_is_needed_too(checkout, measured):
    (checkout / "README.md").write_text("Nothing.\n")
    for arguments in ([], ["training"]):
        with pytest.raises(ValueError, match="`<!-- report results -->`"):
            report.report(asked(*arguments), checkout)
    assert not measured


@pytest.mark.parametrize(
    "text",
    [
        "<!-- report training -->\n",
        "<!-- end of report training -->\n",
        "<!-- end of report training -->\n<!-- report training -->\n",
        "<!-- report training -->\n<!-- report training -->\n<!-- end of report training -->\n",
    ],
)
def test_a_block_without_its_end_is_refused(text, checkout, measured):
    (checkout / "hf_vanilla_transformer/data/README.md").write_text(text)
    with pytest.raises(ValueError, match=r"data.README\.md one of them is missing or in the wrong place"):
        report.report(asked("training"), checkout)
    assert not measured


def test_the_command_repeats_the_measurement_and_names_no_folder_of_the_users(tmp_path):
    options = asked("lines", "--model", str(tmp_path / "my model"), "--lines", "5", "6", "--output", "x", "--dry_run")
    command = provenance.find_provenance(tmp_path, report.command_of("lines", options), False, ["torch"]).command
    assert command == "python scripts/benchmark.py report lines --lines 5 6 --model 'my model'"


def test_a_peer_that_is_not_installed_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(provenance.PACKAGES, "CTranslate2", "no-such-package")
    with pytest.raises(ValueError, match=r"CTranslate2, which is not installed.*pip install -e '\.\[conversion\]'"):
        provenance.version_of("CTranslate2")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    decoding.require_peers(["call", "file"])
    with pytest.raises(ValueError, match=r"pip install -e '\.\[conversion\]'"):
        decoding.require_peers(["call", "file, int8"])


def test_changes_of_the_code_are_told_and_those_of_the_tables_are_not(tmp_path):
    assert provenance.describe_commit(tmp_path) == "unknown (no git checkout)"

    def git(*arguments):
        identity = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True)

    code, tables = tmp_path / "scripts/a.py", tmp_path / "hf_vanilla_transformer/data/README.md"
    for path in (code, tables):
        path.parent.mkdir(parents=True)
        path.write_text("1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    clean = provenance.describe_commit(tmp_path)
    assert re.fullmatch("[0-9a-f]{7,}", clean)
    tables.write_text("2\n")
    assert provenance.describe_commit(tmp_path) == clean
    code.write_text("2\n")
    assert provenance.describe_commit(tmp_path) == f"{clean} and uncommitted changes"
    git("checkout", "scripts")
    (tmp_path / "scripts/new.py").write_text("3\n")
    assert provenance.describe_commit(tmp_path) == f"{clean} and uncommitted changes"


def test_a_spread_is_of_ratios_round_by_round():
    assert ratios([2, 3, 8], [2, 1, 4]) == Spread(1, 2, 3)
    assert Spread(1, 2, 3).text() == "2.00 (1.00 to 3.00)"


@pytest.mark.parametrize("trained", [False, True])
def test_every_cell_of_the_decoding_table_is_filled(trained):
    row = {"ratio": Spread(1, 2, 3)._asdict(), "same_translations": 1.0, "bleu": [30.04, 30.06]}
    columns = ["small", "base", *(["trained"] if trained else [])]
    measured = {name: dict.fromkeys(decoding.ROWS, row) for name in columns}
    figures = decoding.decoding_figures(measured, dict.fromkeys(columns, 64), 3)
    assert all(cell for row in figures.rows for cell in row)
    markdown.table(figures.header, figures.rows)
    assert ("30.0 / 30.1" in figures.rows[0]) == trained
    assert "2.00 (1.00 to 3.00) (base)" in figures.headlines[0][1]


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_peer_computes_what_the_model_computes(pre_norm):
    torch.manual_seed(0)
    model = tiny_model(normalize_before=pre_norm)
    for name, weight in model.named_parameters():
        if "layer_norm" in name:  # fresh ones are all alike
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    peer = stock_models.to_stock_model(model)
    assert type(peer).__name__ == ("PegasusForConditionalGeneration" if pre_norm else "MarianMTModel")
    torch.nn.init.uniform_(model.model.encoder.layers[0].fc1.weight)
    with pytest.raises(AssertionError, match="computes something else"):
        stock_models.require_same_logits(model, peer)


def test_a_trained_model_comes_with_its_text():
    options = argparse.Namespace(rounds=1, source=[], model="runs/mine", sentences=10)
    with pytest.raises(ValueError, match=r"give --model DIR and --source SRC REF, or neither"):
        decoding.decoding_table(options)


def test_a_run_goes_on_by_the_same_recipe_and_text_alone(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(trained_models, "vanilla_transformer", lambda *arguments: commands.append(arguments))
    monkeypatch.setattr(trained_models, "describe_commit", lambda root: f"commit{len(commands)}")
    text, folder = tmp_path / "train.fr", tmp_path / "measured"
    text.write_text("oui\n")
    files = {"train_source": str(text)}
    assert trained_models.train(folder, "mine", files) == ["commit0"]
    (folder / "run/checkpoint-1").mkdir(parents=True)
    assert trained_models.train(folder, "mine", files) == ["commit0", "commit1"]
    assert ["--resume" in command for command in commands] == [False, True]

    with pytest.raises(ValueError, match="with another recipe or text"):
        trained_models.train(folder, "other", files)
    text.write_text("non\n")
    with pytest.raises(ValueError, match="with another recipe or text"):
        trained_models.train(folder, "mine", files)
    (folder / "begun.json").unlink()
    with pytest.raises(ValueError, match=r"run was not\. Name another --folder"):
        trained_models.train(folder, "mine", files)
    with pytest.raises(ValueError, match=r"no file .*missing\.fr"):
        trained_models.train(tmp_path / "new", "mine", {"train_source": str(tmp_path / "missing.fr")})
    assert len(commands) == 2


def test_translations_of_random_weights_are_as_long_as_the_caption_says(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "SIZES", {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8,
                                         "decoder_ffn_dim": 8, "encoder_attention_heads": 1,
                                         "decoder_attention_heads": 1})  # fmt: skip
    lines.prepare(str(tmp_path))
    translator = Translator.from_pretrained(tmp_path, device="cpu")
    source = "elle mange la pomme"
    (translation,) = translator.translate([source])
    tokens = len(translation.hypotheses[0].token_log_probabilities)
    assert tokens <= len(translator.tokenizer(source).input_ids) + lines.EXTRA_TOKENS


def test_a_tokenizer_that_the_other_side_cannot_read_is_named(tmp_path):
    model = marian_folder(tmp_path / "opus")
    given = {"model": str(model), "input": None, "sentences": 2, "against": None, "rows": ["file, CTranslate2"]}
    with pytest.raises(ValueError, match=f"the tokenizer of {model} has none"):
        decoding.prepare(argparse.Namespace(**given), tmp_path / "prepared")
