"""Files to pairs: lines end at newlines alone, each format by its own rules, each refusal with file and line."""

import json
import logging
import os

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import arrow_writer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_vanilla_transformer.data import caching, files
from hf_vanilla_transformer.data.columns import ColumnChoice
from hf_vanilla_transformer.data.files import read_table, read_text_files
from hf_vanilla_transformer.data.text import plain

ODD = "a\u2028b\u0085c\vd\fe\x1cf\rg\u2029 i"  # every character but \n at which some reader ends a line
ANY = ColumnChoice()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def text_pairs(tmp_path, source, target):
    return pairs(read_text_files(write(tmp_path / "train.en", source), write(tmp_path / "train.de", target)))


def table_pairs(tmp_path, name, content, choice=ANY):
    return pairs(read_table(write(tmp_path / name, content), choice))


def pairs(corpus):
    assert corpus.column_names == ["source", "target"]
    assert {feature.dtype for feature in corpus.features.values()} == {"string"}
    return list(zip(corpus["source"], corpus["target"], strict=True))


def test_line_n_goes_with_line_n(tmp_path):
    assert text_pairs(tmp_path, "one\ntwo\n", "eins\nzwei\n") == [("one", "eins"), ("two", "zwei")]


def test_lines_end_at_newlines_alone(tmp_path):
    assert text_pairs(tmp_path, f"{ODD}\nx\n", f"y\n{ODD}\n") == [(ODD, "y"), ("x", ODD)]


def test_byte_order_mark_carriage_return_and_missing_last_newline(tmp_path):
    source = b"\xef\xbb\xbfone\r\n\r\n \xef\xbb\xbf two"
    assert text_pairs(tmp_path, source, "a\nb\nc\n") == [("one", "a"), ("", "b"), (" \ufeff two", "c")]


def test_blank_lines_are_kept_for_the_filters_to_count(tmp_path):
    assert text_pairs(tmp_path, "\n\n", "a\n\n") == [("", "a"), ("", "")]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"])), min_size=1))
def test_any_lines_come_back(tmp_path, lines):
    lines = [plain(line) for line in lines]
    lines[0] = lines[0].lstrip("\ufeff")
    content = "".join(f"{line}\n" for line in lines)
    assert text_pairs(tmp_path, content, content) == [(line, line) for line in lines]


def test_lines_across_chunks(tmp_path, monkeypatch):
    """Neither a character of several bytes nor a count is lost where one chunk ends."""
    monkeypatch.setattr(files, "CHUNK_BYTES", 3)
    monkeypatch.setattr(files, "LINES_BYTES", 3)
    monkeypatch.setattr(caching, "PAIRS_TOGETHER", 2)
    lines = ["über", "", "𝄞𝄞", "x"] * 3
    content = "\n".join(lines)
    assert text_pairs(tmp_path, content, content) == [(line, line) for line in lines]


def test_a_file_changed_under_the_same_name_size_and_time_is_read_anew(tmp_path):
    assert text_pairs(tmp_path, "one\n", "eins\n") == [("one", "eins")]
    times = os.stat(tmp_path / "train.en")
    write(tmp_path / "train.en", "two\n")
    os.utime(tmp_path / "train.en", ns=(times.st_atime_ns, times.st_mtime_ns))
    corpus = read_text_files(tmp_path / "train.en", tmp_path / "train.de")
    assert pairs(corpus) == [("two", "eins")]


def test_the_same_content_is_written_once_and_mapped(tmp_path):
    text_pairs(tmp_path, "one\n", "eins\n")
    [cached] = (tmp_path / "cache").rglob("*.arrow")
    written = cached.stat()
    text_pairs(tmp_path, "one\n", "eins\n")
    assert (cached.stat().st_ino, cached.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    corpus = read_text_files(tmp_path / "train.en", tmp_path / "train.de")
    assert [entry["filename"] for entry in corpus.cache_files] == [str(cached)]


@pytest.mark.parametrize("change", ["longer\n" * 3, "two\n", "one\nmore\n"])
@pytest.mark.parametrize("name", ["t.tsv", "train.en"])
def test_a_file_that_changes_while_it_is_read_is_not_cached_under_the_name_of_what_it_was(
    tmp_path, monkeypatch, name, change
):
    header = "source\ttarget\n" if name == "t.tsv" else ""
    before, after = (f"{header}{text}".replace("\n", "\tx\n" if header else "\n") for text in ("one\n", change))
    before, after = (text.replace("target\tx", "target") for text in (before, after))
    write(tmp_path / "train.de", "eins\n")
    path = write(tmp_path / name, before)

    class Changing(arrow_writer.ArrowWriter):
        def __init__(self, **options):
            write(path, after)
            super().__init__(**options)

    monkeypatch.setattr(arrow_writer, "ArrowWriter", Changing)
    with pytest.raises(ValueError, match=rf"{name} changed while it was read\. Start again when nobody writes to it"):
        read_table(path, ANY) if header else read_text_files(path, tmp_path / "train.de")
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_sides_swapped_are_another_corpus(tmp_path):
    assert text_pairs(tmp_path, "one\n", "eins\n") == [("one", "eins")]
    assert text_pairs(tmp_path, "eins\n", "one\n") == [("eins", "one")]


def test_nothing_is_left_in_the_cache_by_a_file_that_was_refused(tmp_path):
    with pytest.raises(ValueError, match="must have 2 cells"):
        table_pairs(tmp_path, "t.tsv", "source\ttarget\na\tb\nc\n")
    assert [path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [".lock"]


def test_unequal_sides_name_both_files_and_counts(tmp_path):
    with pytest.raises(ValueError, match=r"train\.en has 2 lines and \S+train\.de has 1\. Check"):
        text_pairs(tmp_path, "a\nb\n", "c\n")


@pytest.mark.parametrize("line", [1, 2, 3])
def test_invalid_utf8_names_file_and_line(tmp_path, monkeypatch, line):
    monkeypatch.setattr(files, "CHUNK_BYTES", 4)
    source = b"\n".join(b"caf\xe9!" if number == line else b"caf\xc3\xa9" for number in (1, 2, 3))
    with pytest.raises(ValueError, match=rf"line {line} of \S+train\.en holds the byte 0xe9 where"):
        text_pairs(tmp_path, source, "a\nb\nc")


def test_a_character_cut_off_at_the_end_of_the_file(tmp_path):
    with pytest.raises(ValueError, match=r"line 2 of \S+train\.en"):
        text_pairs(tmp_path, b"a\nb\xc3", "a\nb")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_empty_files(tmp_path, content):
    with pytest.raises(ValueError, match=r"at least one pair of sentences, but there is none in \S+train\.en and"):
        text_pairs(tmp_path, content, b"")


@pytest.mark.parametrize("missing", ["train.en", "train.de"])
def test_missing_file(tmp_path, missing):
    for name in {"train.en", "train.de"} - {missing}:
        write(tmp_path / name, "a\n")
    with pytest.raises(FileNotFoundError, match=rf"There is no file \S+{missing}"):
        read_text_files(tmp_path / "train.en", tmp_path / "train.de")


def test_folder_for_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is a folder"):
        read_text_files(tmp_path, tmp_path)


def test_tsv_quotes_mean_nothing(tmp_path):
    content = f'source\ttarget\n"hi\tsalut"\nNA\tnull\n{ODD}\tx\n'
    assert table_pairs(tmp_path, "t.tsv", content) == [('"hi', 'salut"'), ("NA", "null"), (ODD, "x")]


def test_csv_quotes_hold_commas_newlines_and_quotes(tmp_path):
    content = '\ufeffid,de,en\r\n1,"a, b","c\nd"\r\n2,"say ""x""",NA\r\n'
    choice = ColumnChoice(source_lang="en", target_lang="de")
    assert table_pairs(tmp_path, "t.csv", content, choice) == [("c\nd", "a, b"), ("NA", 'say "x"')]


@pytest.mark.parametrize("name", ["t.jsonl", "t.JSON"])
def test_jsonl_flat(tmp_path, name):
    rows = [{"id": 1, "source": ODD, "target": "null"}, {"target": None, "source": "b"}]
    content = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert table_pairs(tmp_path, name, content) == [(ODD, "null"), ("b", "")]


NESTED_ROWS = [{"en": "one", "de": "eins", "fr": "un"}, {"en": "two", "de": None, "fr": ODD}]


@pytest.mark.parametrize("languages", [("de", "fr"), ("fr", "de")])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_nested_translation(tmp_path, suffix, languages):
    path = tmp_path / f"t.{suffix}"
    if suffix == "jsonl":
        write(path, "".join(json.dumps({"translation": row, "id": 1}) + "\n" for row in NESTED_ROWS))
    else:
        pq.write_table(pa.table({"id": [1, 2], "translation": NESTED_ROWS}), path)
    source, target = languages
    corpus = read_table(path, ColumnChoice(source_lang=source, target_lang=target))
    assert pairs(corpus) == [(row[source] or "", row[target] or "") for row in NESTED_ROWS]


def test_parquet_flat(tmp_path):
    pq.write_table(
        pa.table({"target": ["b", None], "source": pa.array(["a", ODD], pa.large_string())}), tmp_path / "t.parquet"
    )
    assert pairs(read_table(tmp_path / "t.parquet", ANY)) == [("a", "b"), (ODD, "")]


def test_the_choice_of_columns_is_part_of_what_is_cached(tmp_path):
    content = "a\tb\tc\n1\t2\t3\n"
    for target in "bc":
        choice = ColumnChoice(source_column="a", target_column=target)
        assert table_pairs(tmp_path, "t.tsv", content, choice) == [("1", "2" if target == "b" else "3")]


@pytest.mark.parametrize(("name", "separator"), [("t.tsv", "\t"), ("t.csv", ",")])
def test_columns_not_found_says_that_the_first_row_names_them(tmp_path, name, separator):
    content = separator.join("abc") + "\n" + separator.join("123")
    with pytest.raises(ValueError, match=r"it has 'a', 'b', 'c'\. .* The first row of a \.\wsv file must name"):
        table_pairs(tmp_path, name, content)


def test_a_first_row_of_unknown_names_is_pointed_out(tmp_path, caplog):
    """It may be a pair of sentences: eaten as a header, it would be gone without a word."""
    with caplog.at_level(logging.WARNING):
        table_pairs(tmp_path, "known.tsv", "source\ttarget\na\tb\n")
        assert not caplog.records
        table_pairs(tmp_path, "unknown.tsv", "hi\tsalut\na\tb\n")
    assert "source 'hi', target 'salut'" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.tsv",
            "hello\thello\na\tb\n",
            r"t\.tsv must name its columns, each differently, but it is 'hello', 'hello'",
        ),
        ("t.tsv", "source\ttarget\na\tb\nc\td\te\n", r"t\.tsv must have 2 cells, as .*, but row 3 has 3"),
        ("t.tsv", "source\ttarget\na\tb\n\n", r"row 3 has 1"),
        ("t.csv", "source,target\na,b\n\n", r"row 3 has 0"),
        (
            "t.csv",
            'source,target\n"a"b,c\n',
            r"t\.csv must be a CSV file by RFC 4180, but near line 2: .* named \.tsv",
        ),
        ("t.csv", 'source,target\n"a,b\n', r"near line 2: unexpected end of data"),
        ("t.jsonl", '{"source": "a", "target": "b"}\nhello\n', r"a JSON object, but line 2 is not: 'hello'"),
        ("t.json", '[{"source": "a"}]\n', r"must be a JSON object, but line 1 is not"),
        ("t.jsonl", '{"source": "a", "source": "b", "target": "c"}\n', r"line 1 is not: .* \(it names 'source' twice"),
        ("t.jsonl", '{"source": ' + "[" * 10**5 + "]" * 10**5 + "}\n", r"line 1 is not: .* nested more than 64 deep"),
        ("t.jsonl", '{"source": "a", "target": "b"}\n{"source": "a"}\n', r"must have 'target', but row 2 does not"),
        ("t.jsonl", '{"source": "a", "target": 7}\n', r"'target' must hold text, but in row 1 of \S+ it holds int"),
        ("t.jsonl", '{"source": "\\ud800", "target": "b"}\n', r"among rows 1 to 1 of \S+t\.jsonl one holds half"),
        ("t.tsv", "source\ttarget\n", r"at least one pair of sentences, but there is none in \S+t\.tsv"),
        ("t.csv", "", r"at least one pair of sentences, but there is none in \S+t\.csv"),
        ("t.tsv", b"source\ttarget\n\xff\tb\n", r"line 2 of \S+t\.tsv holds the byte 0xff"),
        ("t.parquet", "no", r"t\.parquet must be a Parquet file, but it cannot be read as one"),
    ],
)
def test_rows_that_break_the_format(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        table_pairs(tmp_path, name, content)


@pytest.mark.parametrize("name", ["none.tsv", "none.parquet"])
def test_missing_table(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=rf"There is no file \S+{name}"):
        read_table(tmp_path / name, ANY)


def test_parquet_of_numbers(tmp_path):
    pq.write_table(pa.table({"source": [1], "target": ["b"]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"'source' must hold text, but in row 1 of \S+ it holds int"):
        read_table(tmp_path / "t.parquet", ANY)
