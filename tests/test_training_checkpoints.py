"""Which checkpoint is the newest complete one, how one appears, and which folders a run may write to."""

import logging
from pathlib import Path

import pytest

from hf_vanilla_transformer.model.manifest import MANIFEST_NAME, damaged_files, write_manifest
from hf_vanilla_transformer.model.whole_folders import move_files
from hf_vanilla_transformer.training.checkpoints import (
    checkpoints_of,
    clear_strays,
    delete_oldest_checkpoints,
    newest_complete_checkpoint,
    nothing_to_resume,
    publish_checkpoint,
    publish_model,
    require_new_folder,
    staged_model,
    staging_folder,
    what_is_wrong,
)
from hf_vanilla_transformer.training.run_lock import LOCK_NAME


def write_checkpoint(run: Path, step: int) -> Path:
    folder = run / f"checkpoint-{step}"
    (folder / "shards").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "shards" / "optimizer.bin").write_bytes(b"moments")
    (folder / "trainer_state.json").write_text("{}")
    write_manifest(folder, {"step": step})
    return folder


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path):
    for step in (1000, 200, 30):
        write_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-best").mkdir()
    assert [path.name for path in checkpoints_of(tmp_path)] == ["checkpoint-30", "checkpoint-200", "checkpoint-1000"]


DAMAGE = {
    "no manifest": (lambda folder: (folder / MANIFEST_NAME).unlink(), "has no manifest.json"),
    "half a manifest": (lambda folder: (folder / MANIFEST_NAME).write_text('{"files": {'), "is damaged"),
    "a file less": (lambda folder: (folder / "trainer_state.json").unlink(), "trainer_state.json is missing"),
    "half a file": (lambda folder: (folder / "model.safetensors").write_bytes(b"wei"), "has 3 bytes instead of 7"),
    "another bit": (lambda folder: (folder / "model.safetensors").write_bytes(b"weightz"), "is not what was saved"),
    "a shard": (lambda folder: (folder / "shards" / "optimizer.bin").write_bytes(b"MOMENTS"), "shards/optimizer.bin"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_by_name(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    good, broken = write_checkpoint(tmp_path, 10), write_checkpoint(tmp_path, 20)
    assert newest_complete_checkpoint(tmp_path) == broken
    do_damage, message = DAMAGE[damage]
    do_damage(broken)
    with caplog.at_level(logging.WARNING):
        assert newest_complete_checkpoint(tmp_path) == good
    assert "checkpoint-20" in caplog.text
    assert message in caplog.text


def test_a_run_without_checkpoints_has_no_newest(tmp_path: Path):
    assert newest_complete_checkpoint(tmp_path) is None


def test_a_checkpoint_takes_the_place_of_one_of_the_same_step(tmp_path: Path):
    write_checkpoint(tmp_path, 10)
    staged = write_checkpoint(staging_folder(tmp_path), 10)
    (staged / "model.safetensors").write_bytes(b"better")
    published = publish_checkpoint(staged, tmp_path, {"step": 10})
    assert published == tmp_path / "checkpoint-10"
    assert what_is_wrong(published) is None
    assert (published / "model.safetensors").read_bytes() == b"better"


def test_a_model_is_never_whole_before_its_last_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Stopped before or after any file, the folder of an older model does not verify; the next call finishes it."""
    import os

    for files_moved in range(4):
        run, staged = tmp_path / str(files_moved), tmp_path / f"staged{files_moved}"
        for folder, content in ((run, b"old"), (staged, b"new")):
            folder.mkdir()
            for name in ("config.json", "model.safetensors", "tokenizer.json"):
                (folder / name).write_bytes(content)
        write_manifest(run)
        moved: list[str] = []

        def move(source: Path, target: Path, moved: list[str] = moved, most: int = files_moved) -> None:
            if len(moved) == most and not Path(source).name.startswith("."):
                raise KeyboardInterrupt
            if not Path(source).name.startswith("."):
                moved.append(Path(source).name)
            os.rename(source, target)

        with monkeypatch.context() as patch:
            patch.setattr("os.replace", move)
            with pytest.raises(KeyboardInterrupt):
                publish_model(staged, run, {})
        if files_moved < 3:
            assert what_is_wrong(run) is not None
        move_files(staged, run)
        assert what_is_wrong(run) is None
        assert (run / "model.safetensors").read_bytes() == b"new"
        assert moved == ["config.json", "tokenizer.json", "model.safetensors"][:files_moved]


def test_the_newest_and_the_best_are_kept(tmp_path: Path):
    for step in (10, 20, 30, 40, 50):
        write_checkpoint(tmp_path, step)
    delete_oldest_checkpoints(tmp_path, None, None)
    assert len(checkpoints_of(tmp_path)) == 5
    delete_oldest_checkpoints(tmp_path, 3, best="elsewhere/checkpoint-20")
    assert [path.name for path in checkpoints_of(tmp_path)] == ["checkpoint-20", "checkpoint-40", "checkpoint-50"]
    delete_oldest_checkpoints(tmp_path, 1, best="elsewhere/checkpoint-20")
    assert [path.name for path in checkpoints_of(tmp_path)] == ["checkpoint-20", "checkpoint-50"]


def test_what_killed_writes_left_behind_goes(tmp_path: Path):
    checkpoint = write_checkpoint(tmp_path, 10)
    write_checkpoint(staging_folder(tmp_path), 20)
    (tmp_path / ".tmpAbC123").write_bytes(b"half of the weights")
    clear_strays(tmp_path)
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_a_folder_that_is_no_runs_is_left_as_it_is(tmp_path: Path):
    for name in (".tmpAbC123", ".mine.tmp", "letter"):
        (tmp_path / name).write_bytes(b"somebody's")
    staging_folder(tmp_path).mkdir()
    before = sorted(tmp_path.iterdir())
    clear_strays(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("files_moved", [0, 1, 2, 3])
def test_a_sealed_model_that_was_cut_while_it_appeared_is_finished(files_moved: int, tmp_path: Path):
    (tmp_path / "run.yaml").touch()
    staged = staged_model(staging_folder(tmp_path))
    staged.mkdir(parents=True)
    names = ("config.json", "tokenizer.json", "model.safetensors")
    for name in names:
        (staged / name).write_bytes(b"new")
    write_manifest(staged)
    for name in names[:files_moved]:
        (staged / name).rename(tmp_path / name)
    clear_strays(tmp_path)
    assert what_is_wrong(tmp_path) is None
    assert {path.name for path in tmp_path.iterdir()} == {*names, "run.yaml", MANIFEST_NAME}


def test_a_folder_with_nothing_to_resume_says_which_way_is_open(tmp_path: Path):
    """A start without `--resume` only where that is not refused."""
    assert "Start without `--resume`" in str(nothing_to_resume(tmp_path))
    (write_checkpoint(tmp_path, 10) / "model.safetensors").write_bytes(b"half")
    assert newest_complete_checkpoint(tmp_path) is None
    assert "Delete the folder or choose another `--output_dir`" in str(nothing_to_resume(tmp_path))


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", ""])
def test_a_manifest_reaches_nowhere_else(name: str, tmp_path: Path):
    entry = f'{{"format": 1, "files": {{"{name}": {{"size": 1, "sha256": "0"}}}}}}'
    (tmp_path / MANIFEST_NAME).write_text(entry)
    with pytest.raises(ValueError, match="names files outside its folder"):
        damaged_files(tmp_path)


def test_a_new_run_takes_a_new_an_empty_or_a_barely_begun_folder(tmp_path: Path):
    require_new_folder(tmp_path / "new")
    require_new_folder(tmp_path)
    (tmp_path / LOCK_NAME).touch()  # what is there of a run that was killed before its settings were
    (tmp_path / ".run.yaml.tmp").touch()
    require_new_folder(tmp_path)
    (tmp_path / "run.yaml").touch()
    (tmp_path / "tokenizer.json").touch()
    (tmp_path / "trainer_state.json").touch()  # killed while its final model appeared, before the weights
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
