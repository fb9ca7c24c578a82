"""Every way that text comes in: what is no text is refused with what to do, what is odd is counted, no line shifts."""

import bz2
import codecs
import gzip
import io
import json
import logging
import lzma
import os
import random
import tarfile
import zipfile
from pathlib import Path

import datasets
import pytest

from hf_vanilla_transformer.cli.streams import line_chunks
from hf_vanilla_transformer.data import load_parallel_corpus, stream_parallel_corpus, text
from hf_vanilla_transformer.data.files import examine_text
from hf_vanilla_transformer.data.text import plain, plain_pairs

LINES = ["le chat dort", "été", "", "日本語 😀", "la maison"] * 20


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    caplog.set_level(logging.WARNING, "hf_vanilla_transformer")


def from_pipe(path: Path) -> list[str]:
    return [line for lines in line_chunks(io.BytesIO(path.read_bytes()), str(path)) for line in lines]


def from_slow_pipe(path: Path) -> list[str]:
    """Three bytes at a time."""
    stream = io.BytesIO(path.read_bytes())
    stream.read1 = lambda size: io.BytesIO.read(stream, 3)
    return [line for lines in line_chunks(stream, str(path)) for line in lines]


def from_corpus(path: Path) -> list[str]:
    return list(load_parallel_corpus(path, path)["source"])


def from_stream(path: Path) -> list[str]:
    return [source for source, _ in stream_parallel_corpus(path, path)]


READERS = [from_pipe, from_slow_pipe, from_corpus, from_stream]


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("text", data)
    return file.getvalue()


def tarred(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("text")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


PLAIN = "".join(f"{line}\n" for line in LINES)
ENGLISH, RUSSIAN = "the cat sleeps\nthanks\n" * 9, "кошка спит\nспасибо\n" * 9
OTHER_FORMATS = {
    "gzip": (gzip.compress(PLAIN.encode()), "is compressed by gzip: unpack it first, for instance by `zcat`"),
    "bzip2": (bz2.compress(PLAIN.encode()), "compressed by bzip2: .* `bzcat`"),
    "xz": (lzma.compress(PLAIN.encode()), "compressed by xz: .* `xzcat`"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(range(40)), "compressed by zstd: .* `zstdcat`"),
    "zip": (zipped(PLAIN.encode()), "compressed by zip: .* if it is an office document, save it as plain text"),
    "tar": (tarred(PLAIN.encode()), "is a tar archive"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\n", r"is a document \(PDF\): save it as plain text in UTF-8"),
    "rtf": (b"{\\rtf1\\ansi text}\n", r"is a document \(RTF\)"),
    "doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), r"is a document \(Office 97\)"),
    "parquet": (b"PAR1" + bytes(80), "is a Parquet file: give it a name that ends in .parquet"),
    "utf-16": (PLAIN.encode("utf-16"), "is in UTF-16: convert it, for instance by `iconv -f UTF-16 -t UTF-8`"),
    "utf-32": (PLAIN.encode("utf-32"), "is in UTF-32: convert it"),
    "utf-16le": (ENGLISH.encode("utf-16le"), "is in UTF-16LE: convert it, for instance by `iconv -f UTF-16LE"),
    "utf-16be": (ENGLISH.encode("utf-16be"), "is in UTF-16BE"),
    "russian utf-16le": (RUSSIAN.encode("utf-16le"), "is in UTF-16LE"),
    "russian utf-16be": (RUSSIAN.encode("utf-16be"), "is in UTF-16BE"),
    "one line of utf-16": ("thanks".encode("utf-16le"), "is in UTF-16LE"),
    "utf-32le": (ENGLISH.encode("utf-32le"), "is in UTF-32LE"),
    "latin-1": ("été\n".encode("latin-1"), "line 1 of .* holds the byte 0xe9 where no character can have it"),
    "old Macintosh": (b"one\rtwo\rthree\r", r"Lines must end at \\n, but most of .* end at \\r .* `tr '\\r' '\\n'`"),
    "old Macintosh in one": (b"one\rtwo", r"Lines must end at \\n"),
    "old Macintosh with a newline": (b"one\rtwo\rthree\r\nfour\n", r"Lines must end at \\n"),
}


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", OTHER_FORMATS)
def test_what_is_no_text_in_utf8_is_refused_with_what_to_do(tmp_path, name, read):
    data, message = OTHER_FORMATS[name]
    path = tmp_path / "text"
    path.write_bytes(data)
    if read is from_slow_pipe and "russian" in name:  # its first line alone tells less
        message = "is full of control characters: .* or convert it by iconv if it is UTF-16"
    with pytest.raises(ValueError, match=message) as refusal:
        read(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("read", READERS)
def test_odd_characters_shift_no_line_and_are_counted(tmp_path, caplog, read, seed):
    """Control characters become spaces, carriage returns stay or end a line, a mark at the start goes."""
    chance = random.Random(seed)
    lines = list(LINES)
    controls = chance.sample([chr(code) for code in range(0xA0) if plain(chr(code)) == " " and code != 32], 5)
    for odd in (*controls, "\r", "\v", "\x85", "\u2028", "\ufeff", "\t"):
        number = chance.randrange(len(lines))
        place = chance.randrange(len(lines[number]) + 1) if number else 1
        lines[number] = lines[number][:place] + odd + "x" + lines[number][place:]
    end = chance.choice(["\n", "\r\n"])
    data = end.join(lines).encode() + chance.choice([end.encode(), b""])
    path = tmp_path / "text"
    path.write_bytes(chance.choice([codecs.BOM_UTF8, b""]) + data)
    assert read(path) == [plain(line) for line in lines]
    if read is from_stream:  # as for the next epoch
        read(path)
    said = [record.getMessage() for record in caplog.records if "same file" not in record.getMessage()]
    assert set(said) == {
        f"{path}: 5 control characters, such as NUL, are each read as a space.",
        rf"{path}: 1 carriage returns inside lines are kept, because lines end only at \n.",
    }
    assert len(said) == (4 if read is from_corpus else 2)  # of each of its two sides


@pytest.mark.parametrize(
    "data", [PLAIN.encode(), codecs.BOM_UTF8 + PLAIN.encode(), PLAIN.replace("\n", "\r\n").encode()]
)
@pytest.mark.parametrize("read", READERS)
def test_of_plain_text_nothing_is_said(tmp_path, caplog, read, data):
    path = tmp_path / "text"
    path.write_bytes(data)
    assert read(path) == LINES
    assert not [record for record in caplog.records if "same file" not in record.getMessage()]


@pytest.mark.parametrize(
    ("data", "lines"),
    [(b"", []), (codecs.BOM_UTF8, []), (b"\n", [""]), (b"\r", [""]), (b"a\n\r", ["a", ""]), (b"\0", [" "])],
)
def test_the_least_of_text(tmp_path, data, lines):
    path = tmp_path / "text"
    path.write_bytes(data)
    assert from_pipe(path) == from_slow_pipe(path) == lines
    assert examine_text(path)[1] == len(lines)


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("read", READERS)
def test_a_line_of_megabytes_is_refused_with_its_number_before_it_is_read_whole(tmp_path, monkeypatch, read, ends):
    monkeypatch.setattr(text, "MOST_BYTES", 1000)
    path = tmp_path / "text"
    path.write_bytes(b"short\n" + "é".encode() * 600 + (b"\nshort\n" if ends else b""))
    with pytest.raises(ValueError, match=r"line 2 of .*text has more than 1,000 bytes\. Split it into lines"):
        read(path)


def test_a_line_without_end_is_not_taken_into_memory():
    class Endless(io.RawIOBase):
        read_so_far = 0

        def read1(self, size):
            self.read_so_far += size
            return b"x" * size

    stream = Endless()
    with pytest.raises(ValueError, match="line 1 of stdin has more than 10,000,000 bytes"):
        list(line_chunks(stream, "stdin"))
    assert stream.read_so_far < 11_000_000


JSON_FAULTS = {
    '{"source": "a", "target": "b", "source": "c"}': "line 2 is not: .*names 'source' twice",
    '{"source": "a", "target": "b", "more": {"x": 1, "x": 2}}': "line 2 is not: .*names 'x' twice",
    '{"source": "a", "target": "b", "more": '
    + "[" * 100_000
    + "]" * 100_000
    + "}": "line 2 is not: .*nested more than",
    '{"source": "a", "target": "b", "more": ' + '{"a":' * 100_000: "line 2 is not: .*nested more than",
    '{"source": "a", "target": "b", "more": ' + "1" * 10_000 + "}": "line 2 is not",
    '{"source": "a", "target"': "line 2 is not",
}


@pytest.mark.parametrize("read", [load_parallel_corpus, stream_parallel_corpus])
@pytest.mark.parametrize("line", JSON_FAULTS, ids=JSON_FAULTS.values())
def test_json_that_says_two_things_or_never_ends_names_its_line(tmp_path, read, line):
    path = tmp_path / "t.jsonl"
    path.write_text(f'{{"source": "a", "target": "b"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=JSON_FAULTS[line]):
        list(read(path))


def test_what_a_table_hides_is_plain_too(tmp_path, caplog):
    """Escapes in JSON, cells of Parquet, columns of `datasets`, loaded and streamed."""
    row = {"source": "a\x00b", "target": "\x1bc\tд\x9f"}
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    datasets.Dataset.from_list([row]).to_parquet(tmp_path / "t.parquet")
    datasets.Dataset.from_list([row]).save_to_disk(tmp_path / "saved")
    for number, name in enumerate(("t.jsonl", "t.parquet", "saved")):
        place = {"dataset_name": str(tmp_path / name)}
        assert load_parallel_corpus(**place)[0] == {"source": "a b", "target": " c\tд "}
        assert list(stream_parallel_corpus(**place)) == [("a b", " c\tд ")]
        assert caplog.text.count("3 control characters") == 2 * (number + 1)


def test_plain_pairs_say_nothing_of_plain_text(caplog):
    assert list(plain_pairs([("a\tb", "c\r")], "here")) == [("a\tb", "c\r")]
    assert not caplog.records


def test_a_pipe_is_no_corpus(tmp_path):
    """It is read twice, and the second time there would be nothing."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"A corpus is read twice, but .*pipe is a pipe or device"):
        load_parallel_corpus(tmp_path / "pipe", tmp_path / "pipe")
