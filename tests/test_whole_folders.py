"""A model is saved over another whole or not at all, whatever ends the save."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_model
from transformers import AutoModelForSeq2SeqLM

from hf_vanilla_transformer.hub import write_publication
from hf_vanilla_transformer.model import whole_folders
from hf_vanilla_transformer.model.disk_space import DiskFullError
from hf_vanilla_transformer.model.manifest import write_manifest
from hf_vanilla_transformer.model.whole_folders import new_folder, replaced_file

resource: Any = pytest.importorskip("resource")  # Unix alone limits the size of files


class KilledError(BaseException):
    """In place of a signal that ends the process."""


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """As on a full disk, writing fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("size", [100, 2_000, 20_000])
@pytest.mark.parametrize("sealed", [False, True])
def test_a_save_that_does_not_fit_leaves_what_was_there(sealed: bool, size: int, tmp_path: Path):
    """`size` bytes are too few for the config, for the generation config after it, or for the weights."""
    tiny_model(d_model=64).save_pretrained(tmp_path)
    if sealed:
        write_manifest(tmp_path)
    before = contents(tmp_path)

    with (
        no_file_longer_than(size),
        pytest.raises(DiskFullError, match=r"of this size.*; what was there is unchanged"),
    ):
        tiny_model(seed=1, d_model=32).save_pretrained(tmp_path)

    assert contents(tmp_path) == before
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path).config.d_model == 64


def test_a_new_folder_that_does_not_fit_is_not_there(tmp_path: Path):
    with no_file_longer_than(2_000), pytest.raises(DiskFullError, match="does not allow a file of this size"):
        tiny_model().save_pretrained(tmp_path / "some" / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_publication_that_does_not_fit_does_not_block_the_next(folder: Path, tmp_path: Path):
    with no_file_longer_than(5_000), pytest.raises(DiskFullError, match="does not allow a file of this size"):
        write_publication(folder, "me/model", tmp_path / "published")
    assert not (tmp_path / "published").exists()
    write_publication(folder, "me/model", tmp_path / "published")


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_save_that_is_killed_while_files_are_moved_passes_for_nothing(
    sealed: bool, sharded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """After each file that is moved the folder loads as one of the two models, or is refused."""
    old, new = tiny_model(), tiny_model(seed=1)
    old.save_pretrained(tmp_path / "old", max_shard_size="1MB" if not sharded else "100KB")
    if sealed:
        write_manifest(tmp_path / "old")
    moves = 0
    while True:
        folder = Path(shutil.copytree(tmp_path / "old", tmp_path / str(moves)))
        with monkeypatch.context() as killed:
            _kill_after(moves, killed)
            try:
                new.save_pretrained(folder, max_shard_size="100KB" if not sharded else "1MB")
                break
            except KilledError:
                pass
        try:
            loaded = AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict()
        except (ValueError, OSError):
            loaded = None
        assert loaded is None or any(_same(loaded, model) for model in (old, new)), moves
        moves += 1
    assert moves > 3
    assert _same(AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict(), new)


def _kill_after(moves: int, patch: pytest.MonkeyPatch) -> None:
    """Of the files of code, which are the same in both, the first counts as a move, and the others with it."""
    moved: set[str] = set()
    replace = os.replace

    def move(source: Any, target: Any) -> None:
        if Path(target).parent.name == str(moves):
            name = "code" if Path(target).suffix == ".py" else str(target)
            if name not in moved and len(moved) == moves:
                patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
                raise KilledError
            moved.add(name)
        replace(source, target)

    patch.setattr(whole_folders.os, "replace", move)


def _same(state: dict[str, torch.Tensor], model: torch.nn.Module) -> bool:
    return all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in state.items())


@pytest.mark.parametrize("sizes", [("1MB", "100KB"), ("100KB", "1MB"), ("100KB", "200KB")])
def test_weights_of_another_number_of_files_do_not_stay(sizes: tuple[str, str], tmp_path: Path):
    """`from_pretrained` would prefer an old model.safetensors to new shards."""
    for seed, size in enumerate(sizes):
        tiny_model(seed=seed).save_pretrained(tmp_path, max_shard_size=size)
    assert _same(AutoModelForSeq2SeqLM.from_pretrained(tmp_path).state_dict(), tiny_model(seed=1))
    fresh = tmp_path / "fresh"
    tiny_model(seed=1).save_pretrained(fresh, max_shard_size=sizes[1])
    assert {path.name for path in tmp_path.glob("model*")} == {path.name for path in fresh.glob("model*")}


def test_other_files_of_the_folder_stay(folder: Path):
    (folder / "notes.txt").write_text("mine")
    before = contents(folder)
    AutoModelForSeq2SeqLM.from_pretrained(folder).save_pretrained(folder)
    after = contents(folder)
    assert before.keys() <= after.keys()
    assert after["notes.txt"] == b"mine"
    assert after["tokenizer.json"] == before["tokenizer.json"]
    assert not [name for name in after if name.endswith(".tmp")]


def test_a_save_does_not_write_through_links(folder: Path, tmp_path: Path):
    """A folder of the Hub's cache links to files that other revisions share."""
    weights = folder / "model.safetensors"
    blob = weights.rename(tmp_path / "blob")
    weights.symlink_to(blob)
    before = blob.read_bytes()
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.shared.weight.add_(1)
    model.save_pretrained(folder)
    assert blob.read_bytes() == before
    assert _same(AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict(), model)


def test_a_file_is_no_folder_to_save_to(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"is saved to a folder, but .*file is a file"):
        tiny_model().save_pretrained(tmp_path / "file")


def test_a_process_that_is_not_the_main_one_writes_nothing(tmp_path: Path):
    tiny_model().save_pretrained(tmp_path / "model")
    before = contents(tmp_path)
    tiny_model(seed=1).save_pretrained(tmp_path / "model", is_main_process=False)
    assert contents(tmp_path) == before


def test_a_new_folder_appears_with_its_parents_or_not_at_all(tmp_path: Path):
    with pytest.raises(IsADirectoryError), new_folder(tmp_path / "a" / "b") as beside:
        beside.write_text("")
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "a" / "b") as beside:
        (beside / "file").write_text("")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="permissions are the system's own")
def test_replaced_files_have_the_mode_that_the_umask_asks_for(tmp_path: Path):
    before = os.umask(0o027)
    try:
        for seed in range(2):
            tiny_model(seed=seed).save_pretrained(tmp_path)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}


# Single files


def test_a_file_is_replaced_through_its_link(tmp_path: Path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with replaced_file(link) as beside:
        beside.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path):
    """As root, a rename would put a file in the place of /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    with replaced_file(tmp_path / "pipe") as place:
        assert place == tmp_path / "pipe"
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_file_that_does_not_fit_is_what_it_was(tmp_path: Path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(DiskFullError), no_file_longer_than(10), replaced_file(tmp_path / "file") as beside:
        beside.write_text("x" * 100)
    assert contents(tmp_path) == {"file": b"old"}
