"""The cache of text: if damaged it is made again with a word; whole or not there, for all who want it at once."""

import errno
import json
import logging
import os
import random
import re
import resource
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import datasets
import pytest
from test_data_encoding import word_tokenizer

from hf_vanilla_transformer.data import encode_corpus, load_parallel_corpus
from hf_vanilla_transformer.data.caching import TABLE, cached_table
from hf_vanilla_transformer.model.manifest import MANIFEST_NAME

SOURCE, TARGET = ["a b c", "", "b c a"] * 40, ["a", "c c", "a b a b"] * 40


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, "hf_vanilla_transformer")
    return caplog


def encoded(tmp_path):
    """From two files to token ids, as `train` does: two tables in the cache."""
    for name, lines in (("a", SOURCE), ("b", TARGET)):
        if not (tmp_path / name).exists():
            (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return encode_corpus(load_parallel_corpus(tmp_path / "a", tmp_path / "b"), word_tokenizer()).to_dict()


def prepared(tmp_path):
    """What `datasets` prepares from a folder, and what we make of its nulls."""
    rows = [{"source": source or None, "target": target} for source, target in zip(SOURCE, TARGET, strict=True)]
    path = tmp_path / "folder" / "data" / "train-00000-of-00001.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True)
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return load_parallel_corpus(dataset_name=str(tmp_path / "folder")).to_dict()


def cut(path, chance):
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])


def empty(path, chance):
    path.write_bytes(b"")


def flip(path, chance):
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def remove(path, chance):
    path.unlink()


def nest(path, chance):
    path.write_text("[" * 100_000, encoding="utf-8")


DAMAGES = [cut, empty, flip, remove, nest]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("read", [encoded, prepared])
def test_a_damaged_file_of_the_cache_changes_nothing_and_is_made_again(tmp_path, warnings, read, damage, seed):
    chance = random.Random(f"{damage.__name__} {seed}")
    expected = read(tmp_path)
    files = sorted((tmp_path / "cache").rglob("*.arrow"))
    assert len(files) == 2
    path = files[seed % 2]
    if seed > 1 and (path.parent / MANIFEST_NAME).exists():
        path = path.parent / MANIFEST_NAME
    damage(path, chance)
    assert read(tmp_path) == expected
    assert str(path.parent) in warnings.text or path.name == MANIFEST_NAME
    assert warnings.text.count("made again") <= 2  # what was made of a damaged table is another table
    warnings.clear()
    assert read(tmp_path) == expected
    assert not warnings.records


def test_a_bit_of_text_flipped_is_not_other_text(tmp_path, warnings):
    expected = encoded(tmp_path)
    [table] = (tmp_path / "cache" / "parallel_text").rglob(TABLE)
    data = table.read_bytes()
    table.write_bytes(data.replace(b"a b c", b"a b b", 1))
    assert encoded(tmp_path) == expected
    [record] = warnings.records
    assert record.getMessage() == (
        f"The cached text in {table.parent} is damaged ({TABLE} is not what was saved); it is rebuilt."
    )


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("damage", [cut, empty, flip, nest])
def test_what_datasets_says_of_what_it_prepared_is_made_again(tmp_path, warnings, damage, seed, sealed):
    expected = prepared(tmp_path)
    [info] = (tmp_path / "cache").rglob("dataset_info.json")
    if not sealed:  # only what is no JSON can be known
        if damage is flip:
            return
        shutil.rmtree(tmp_path / "cache" / "seals")
    damage(info, random.Random(seed))
    assert prepared(tmp_path) == expected
    assert re.search(rf"damaged and is rebuilt: .*{info} (is not what it was|cannot be read .*)\.", warnings.text)
    warnings.clear()
    assert prepared(tmp_path) == expected
    assert not warnings.records


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_seal_is_made_again_and_nothing_else(tmp_path, warnings, damage):
    expected = prepared(tmp_path)
    for seal in (tmp_path / "cache" / "seals").iterdir():
        damage(seal, random.Random(2))
    assert prepared(tmp_path) == expected
    warnings.clear()
    assert prepared(tmp_path) == expected
    assert not warnings.records


def test_a_damaged_folder_of_the_users_own_is_named(tmp_path):
    datasets.Dataset.from_dict({"source": SOURCE, "target": TARGET}).save_to_disk(tmp_path / "saved")
    [table] = (tmp_path / "saved").glob("*.arrow")
    cut(table, random.Random(0))
    with pytest.raises(ValueError, match=rf"{tmp_path / 'saved'} is damaged: .*Save or copy it again"):
        load_parallel_corpus(dataset_name=str(tmp_path / "saved"))


def write_rows(path: Path) -> None:
    """A small table; each call is noted beside the cache."""
    with open(path.parents[3] / "calls", "a", encoding="utf-8") as file:
        file.write("called\n")
    with datasets.arrow_writer.ArrowWriter(path=str(path)) as writer:
        writer.write_batch({"text": ["x" * 100] * 1000})
        writer.finalize()


@contextmanager
def largest_file(size: int):
    """No file can be written beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def in_children(count: int, action) -> list[int]:
    """Fork, run, wait: how each child ended."""
    children = []
    for number in range(count):
        child = os.fork()
        if not child:
            try:
                action(number)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_that_want_the_same_table_make_it_once(tmp_path, damaged):
    if damaged:
        cached_table("text", "name", write_rows)
        cut(tmp_path / "cache" / "text" / "name" / TABLE, random.Random(1))
        (tmp_path / "calls").unlink()

    def read(number):
        assert len(cached_table("text", "name", write_rows)) == 1000

    assert in_children(4, read) == [0] * 4
    assert (tmp_path / "calls").read_text(encoding="utf-8") == "called\n"


def test_where_nothing_can_be_locked_the_first_one_stays(tmp_path, monkeypatch):
    def no_lock(*args, **kwargs):
        raise OSError(errno.ENOLCK, "No locks available")

    def write_and_be_overtaken(path):
        write_rows(path)
        if not (tmp_path / "cache" / "text" / "name").exists():
            in_children(1, lambda _: cached_table("text", "name", write_rows))

    monkeypatch.setattr("filelock.FileLock.acquire", no_lock)
    assert len(cached_table("text", "name", write_and_be_overtaken)) == 1000
    assert (tmp_path / "calls").read_text(encoding="utf-8") == "called\n" * 2
    assert sorted(path.name for path in (tmp_path / "cache" / "text").iterdir() if path.is_dir()) == ["name"]


def test_a_killed_process_leaves_nothing_that_stays(tmp_path, warnings):
    def die(path):
        write_rows(path)
        os.kill(os.getpid(), signal.SIGKILL)

    folder = tmp_path / "cache" / "text"
    assert in_children(1, lambda _: cached_table("text", "name", die)) == [-signal.SIGKILL]
    assert [path for path in folder.iterdir() if path.name.endswith(".tmp")]
    assert len(cached_table("text", "name", write_rows)) == 1000
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["name"]
    assert not warnings.records


@pytest.mark.parametrize("limit", [100, 5_000, 50_000])
def test_a_full_disk_names_the_cache_and_its_room_and_leaves_nothing(tmp_path, limit):
    message = rf"{tmp_path / 'cache'} cannot be written: File too large \(.* GB free\)"
    with largest_file(limit), pytest.raises(OSError, match=message):
        cached_table("text", "name", write_rows)
    assert [path.name for path in (tmp_path / "cache" / "text").iterdir() if path.is_dir()] == []
    assert len(cached_table("text", "name", write_rows)) == 1000


@pytest.mark.parametrize("read", [encoded, prepared])
def test_a_cache_that_cannot_be_is_named(tmp_path, monkeypatch, read):
    (tmp_path / "file").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file" / "cache")
    with pytest.raises(OSError, match=r"file/cache cannot be written: Not a directory .* set HF_DATASETS_CACHE to"):
        read(tmp_path)


def test_a_sound_table_is_read_where_nothing_can_be_written(tmp_path):
    expected = encoded(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}
    with largest_file(0):
        assert encoded(tmp_path) == expected
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")} == before


def test_without_caching_nothing_mapped_is_kept(tmp_path):
    expected = encoded(tmp_path)
    shutil.rmtree(tmp_path / "cache")
    datasets.disable_caching()
    try:
        assert encoded(tmp_path) == expected
    finally:
        datasets.enable_caching()
    assert not (tmp_path / "cache" / "mapped_text").exists()
