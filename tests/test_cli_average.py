"""`average`: the command around `average_checkpoints`."""

import shutil
from pathlib import Path

import pytest

from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.translation import load_model_and_tokenizer


@pytest.fixture
def run(tiny_model_folder: Path, tmp_path: Path) -> Path:
    for step in (1, 2):
        shutil.copytree(tiny_model_folder, tmp_path / "run" / f"checkpoint-{step}")
    return tmp_path / "run"


def test_the_average_of_equal_checkpoints_is_that_model(run, tmp_path, capsys):
    output = str(tmp_path / "average")
    assert main(["average", "--checkpoints", str(run), "--last", "2", "--output", output]) == 0
    assert capsys.readouterr().out == f"The average of 2 checkpoints is in {output}.\n"
    average, original = load_model_and_tokenizer(output)[0], load_model_and_tokenizer(run / "checkpoint-1")[0]
    for name, tensor in original.state_dict().items():
        assert tensor.equal(average.state_dict()[name])


def test_five_are_averaged_unless_told_otherwise_and_too_few_are_refused(run, tmp_path, capsys):
    assert main(["average", "--checkpoints", str(run), "--output", str(tmp_path / "average")]) == 1
    assert "needs 5 checkpoints, but" in capsys.readouterr().err
    assert not (tmp_path / "average").exists()
