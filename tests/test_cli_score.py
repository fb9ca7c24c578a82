"""`score`: one line of figures for each pair, the totals on stderr."""

import math
from pathlib import Path
from typing import Any

import pytest

from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.translation import TargetLogProbability, Translator, target_log_probabilities

SOURCES = ["merci", "le petit chat dort", "", "où est la gare ?"]
TARGETS = ["thanks", "the little cat sleeps", "nothing", ""]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name, lines in (("source", SOURCES), ("target", TARGETS)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return ["--source", str(tmp_path / "source"), "--target", str(tmp_path / "target"), "--device", "cpu"]


def test_figures_come_in_the_order_of_the_pairs(files, tiny_model_folder, capsys, monkeypatch):
    monkeypatch.setattr("hf_vanilla_transformer.cli.score.CHUNK_PAIRS", 3)
    assert main(["score", "--model", str(tiny_model_folder), *files]) == 0
    captured = capsys.readouterr()
    rows = [[float(cell) for cell in line.split("\t")] for line in captured.out[:-1].split("\n")]
    translator = Translator.from_pretrained(tiny_model_folder, device="cpu")
    expected = target_log_probabilities(translator.model, translator.tokenizer, SOURCES, TARGETS)
    assert rows == [
        [pytest.approx(score.log_probability, abs=1e-4), score.tokens, pytest.approx(score.mean, abs=1e-4)]
        for score in expected
    ]
    mean = sum(score.log_probability for score in expected) / sum(score.tokens for score in expected)
    total = captured.err[:-1].split("\n")[-1]
    tokens = sum(score.tokens for score in expected)
    said, perplexity = total.split(" per token, perplexity ")
    assert said == f"4 pairs, {tokens} tokens: {mean:.4f}"
    # other batches round otherwise: what the mean's fourth decimal leaves open
    assert float(perplexity) == pytest.approx(math.exp(-mean), rel=1e-4)


def test_messages_name_lines_of_the_files(files, tiny_model_folder, monkeypatch):
    """The second chunk begins where the first ended."""
    first_lines = []

    def watch(*arguments: Any, first_line: int, **options: Any) -> list[TargetLogProbability]:
        first_lines.append(first_line)
        return [TargetLogProbability(-1.0, 1)]

    monkeypatch.setattr("hf_vanilla_transformer.cli.score.CHUNK_PAIRS", 3)
    monkeypatch.setattr("hf_vanilla_transformer.translation.target_log_probabilities", watch)
    assert main(["score", "--model", str(tiny_model_folder), *files]) == 0
    assert first_lines == [1, 4]


def test_the_output_file_holds_what_stdout_would(files, tiny_model_folder, capsys, tmp_path):
    command = ["score", "--model", str(tiny_model_folder), *files]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").read_text(encoding="utf-8") == printed
    assert main([*command, "--output", str(tmp_path / "out")]) == 1
    assert "Give --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 2
    assert "--overwrite is for --output, which is not given" in capsys.readouterr().err


def test_unequal_files_are_refused_with_both_counts(files, tiny_model_folder, capsys, tmp_path):
    (tmp_path / "target").write_text("thanks\n", encoding="utf-8")
    assert main(["score", "--model", str(tiny_model_folder), *files]) == 1
    error = capsys.readouterr().err
    assert "source has 4 lines" in error
    assert "target has 1" in error
