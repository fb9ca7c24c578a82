"""Which checkpoint is the newest, and which folders a run may write to."""

from pathlib import Path

import pytest

from hf_vanilla_transformer.training.checkpoints import (
    checkpoints_of,
    newest_complete_checkpoint,
    remove_pickled_arguments,
    require_new_folder,
)


def write_checkpoint(run: Path, step: int, state: str = "{}") -> Path:
    folder = run / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    (folder / "trainer_state.json").write_text(state)
    return folder


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path):
    for step in (1000, 200, 30):
        write_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-best").mkdir()
    assert [path.name for path in checkpoints_of(tmp_path)] == ["checkpoint-30", "checkpoint-200", "checkpoint-1000"]


@pytest.mark.parametrize("damage", ["no state", "half a state", "no weights"])
def test_a_half_written_checkpoint_is_passed_over_by_name(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    good, broken = write_checkpoint(tmp_path, 10), write_checkpoint(tmp_path, 20)
    if damage == "half a state":
        (broken / "trainer_state.json").write_text('{"global_step": 2')
    else:
        (broken / {"no state": "trainer_state.json", "no weights": "model.safetensors"}[damage]).unlink()
    assert newest_complete_checkpoint(tmp_path) == good


def test_a_run_without_checkpoints_has_no_newest(tmp_path: Path):
    assert newest_complete_checkpoint(tmp_path) is None


def test_the_pickle_of_the_arguments_goes(tmp_path: Path):
    (tmp_path / "training_args.bin").touch()
    remove_pickled_arguments(tmp_path)
    remove_pickled_arguments(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_new_run_takes_a_new_an_empty_or_a_barely_begun_folder(tmp_path: Path):
    require_new_folder(tmp_path / "new")
    require_new_folder(tmp_path)
    (tmp_path / "run.yaml").touch()
    (tmp_path / "tokenizer.json").touch()
    require_new_folder(tmp_path)


def test_a_new_run_overwrites_nothing(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"not empty and holds no run\. Choose another"):
        require_new_folder(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        require_new_folder(tmp_path / "file")
    write_checkpoint(tmp_path, 10)
    with pytest.raises(ValueError, match=r"already holds a run\. Continue it with `--resume`"):
        require_new_folder(tmp_path)
