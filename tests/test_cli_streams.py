"""Lines in as they come, lines out one for one, files whole or not at all."""

import errno
import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hf_vanilla_transformer.cli.streams import (
    PIECE_BYTES,
    count_lines,
    line_chunks,
    one_line,
    open_input,
    open_output,
    refuse_existing,
)
from hf_vanilla_transformer.model.disk_space import DiskFullError


class Slow(io.BytesIO):
    """A pipe that delivers a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self.size = size

    def read1(self, size: int | None = -1) -> bytes:
        return super().read1(self.size)


TEXT = "\ufeffé\u2028ü\r\n\n  \nlast\x0b\x85\rline\nno end"
LINES = ["é\u2028ü", "", "  ", "last\x0b\x85\rline", "no end"]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_lines_end_at_newlines_alone_however_they_arrive(size):
    chunks = line_chunks(Slow(TEXT.encode(), size), "stdin")
    assert [line for chunk in chunks for line in chunk] == LINES


@pytest.mark.parametrize(("data", "lines"), [(b"", []), (b"\n", [""]), (b"a\n\n", ["a", ""]), (b"a", ["a"])])
def test_as_many_lines_as_a_file_has(data, lines, tmp_path):
    assert [line for chunk in line_chunks(io.BytesIO(data), "stdin") for line in chunk] == lines
    (tmp_path / "file").write_bytes(data)
    assert count_lines(str(tmp_path / "file")) == len(lines)


def test_lines_are_handed_on_as_soon_as_they_are_there():
    chunks = line_chunks(Slow(b"ab\ncd\nef\n", 3), "stdin")
    assert [next(chunks), next(chunks), next(chunks)] == [["ab"], ["cd"], ["ef"]]


def test_a_line_longer_than_a_piece_stays_whole():
    long = "x" * (3 * PIECE_BYTES + 1)
    assert [line for chunk in line_chunks(io.BytesIO(f"{long}\nb\n".encode()), "f") for line in chunk] == [long, "b"]


@pytest.mark.parametrize("size", [3, 1000])
def test_invalid_utf8_names_the_line_and_the_file(size):
    with pytest.raises(ValueError, match=r"must be UTF-8, but line 3 of corpus\.txt holds the byte 0xe9"):
        list(line_chunks(Slow(b"a\nb\ncaf\xe9\nd\n", size), "corpus.txt"))


def test_one_line_leaves_nothing_that_any_tool_takes_for_a_line_break():
    text = "a\nb\rc\r\nd\x0be\x0cf\x1cg\x1dh\x1ei\x85j\u2028k\u2029l"
    assert one_line(text) == "a b c d e f g h i j k l"
    assert len(one_line(text).splitlines()) == 1
    assert one_line("\n") == " "


def test_counting_lines_is_for_regular_files():
    assert count_lines(None) is None
    assert count_lines(os.devnull) is None


def test_a_missing_input_is_named(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"There is no input file"), open_input(str(path)):
            pass


def test_output_appears_whole_at_the_end(tmp_path):
    path = tmp_path / "out"
    with open_output(str(path)) as file:
        file.write(b"a\n")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"a\n"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_the_old_file_and_no_half_one(tmp_path):
    path = tmp_path / "out"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(TypeError), open_output(str(path), overwrite=True) as file:
        file.writelines([b"new", None])
    assert path.read_text(encoding="utf-8") == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_an_existing_output_needs_overwrite(tmp_path):
    path = tmp_path / "out"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"out exists already\. Give --overwrite"), open_output(str(path)):
        pass
    with open_output(str(path), overwrite=True) as file:
        file.write(b"new")
    assert path.read_text(encoding="utf-8") == "new"


def test_an_output_needs_a_folder_and_a_name(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere for the output file"):
        refuse_existing(str(tmp_path / "nowhere" / "out"), False)
    with pytest.raises(FileExistsError, match=r"is a folder\. Name a file in it"):
        refuse_existing(str(tmp_path), True)


def test_a_device_is_written_to_and_stays_a_device():
    with open_output(os.devnull) as file:
        file.write(b"gone")
    assert not Path(os.devnull).is_file()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
@pytest.mark.parametrize("command", ["--version", "--help"])
def test_a_full_disk_under_stdout_is_an_error_of_one_line(command):
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m hf_vanilla_transformer {command} > /dev/full",
        shell=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 1
    assert "error: stdout cannot be written: No space left on device. Make room" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_full_disk_names_the_folder_of_the_output(tmp_path):
    with pytest.raises(DiskFullError, match=f"The disk of {tmp_path} is full: "), open_output(str(tmp_path / "out")):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []
