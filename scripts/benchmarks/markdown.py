"""Tables in Markdown, and the blocks of README files that they replace.

A block stands between `<!-- report NAME -->` and `<!-- end of report NAME -->`, each on its own line. The block
`results` is a summary with a row per headline; a new measurement replaces the row with the same first cell.

The modules in this folder import the package inside functions, so that other sides do not wait for its import.
"""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUMMARY = "results"
SUMMARY_HEADER = ("what", "figure", "measured")


@dataclass(frozen=True)
class Figures:
    """The results of a measurement.

    Attributes:
        header, rows: the table.
        notes: sentences of the caption before date and machine, in Markdown.
        headlines: subject and figure of each row of the summary.
        raw: all figures, for JSON.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: str
    headlines: Sequence[tuple[str, str]]
    raw: Mapping[str, Any] = field(default_factory=dict)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table; cells are escaped."""
    for row in rows:
        assert len(row) == len(header), row
    return "\n".join([table_row(header), f"|{'---|' * len(header)}", *map(table_row, rows)])


def table_row(cells: Sequence[str]) -> str:
    """Format one row of a table."""
    return f"| {' | '.join(escaped(cell) for cell in cells)} |"


def escaped(text: str) -> str:
    """Escape line breaks, bars, tags and backslashes, which would otherwise undo the escape of a bar."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "&#124;")


def code(text: str) -> str:
    """Format text as inline code, on one line, even if it contains backticks."""
    text = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"


def readme_files(root: Path) -> list[Path]:
    """The README files that may hold blocks."""
    return sorted(
        path for path in (root / "README.md", *root.glob("hf_vanilla_transformer/*/README.md")) if path.exists()
    )


def files_with_block(root: Path, name: str) -> list[Path]:
    """The README files that hold the block with this name.

    Raises:
        ValueError: a block's start or end marker is missing.
    """
    return [path for path in readme_files(root) if _blocks(path.read_text(encoding="utf-8"), name, path)]


def replace_block(text: str, name: str, content: str) -> str:
    """Replace the content of every block with this name in a text."""
    for _, start, end in reversed(_blocks(text, name)):
        text = f"{text[:start]}{content}\n{text[end:]}"
    return text


def replace_headlines(text: str, headlines: Sequence[tuple[str, str]], measured: str) -> str:
    """Replace these rows of the summary in a text; add new ones."""
    for content, start, end in reversed(_blocks(text, SUMMARY)):
        lines = content.rstrip("\n").split("\n") if content.strip() else []
        if not any(line.startswith("|") for line in lines):
            lines = [*table(SUMMARY_HEADER, []).split("\n"), *lines]
        for what, figure in headlines:
            _put_row(lines, (what, figure, measured))
        text = f"{text[:start]}{chr(10).join(lines)}\n{text[end:]}"
    return text


def write_blocks(root: Path, name: str, content: str, headlines: Sequence[tuple[str, str]], measured: str) -> None:
    """Replace a table's blocks and its rows of the summary in every file; each file is written atomically."""
    from hf_vanilla_transformer.model.whole_folders import replaced_file

    for path in readme_files(root):
        before = path.read_text(encoding="utf-8")
        after = replace_headlines(replace_block(before, name, content), headlines, measured)
        if after != before:
            with replaced_file(path) as beside:
                beside.write_text(after, encoding="utf-8", newline="\n")


def _put_row(lines: list[str], row: Sequence[str]) -> None:
    of_table = [number for number, line in enumerate(lines) if line.startswith("|")]
    same = [number for number in of_table[2:] if _first_cell(lines[number]) == escaped(row[0])]
    if same:
        lines[same[0]] = table_row(row)
    else:
        lines.insert(of_table[-1] + 1, table_row(row))


def _first_cell(line: str) -> str:
    return line.split("|")[1].strip()


def _blocks(text: str, name: str, path: Path | None = None) -> list[tuple[str, int, int]]:
    """Content, start and end of every block with a name."""
    marks = list(re.finditer(rf"^<!-- (end of )?report {re.escape(name)} -->[ \t]*$\n?", text, re.MULTILINE))
    kinds = [mark.group(1) is None for mark in marks]
    if kinds != [True, False] * (len(marks) // 2):
        raise ValueError(
            f"A table stands between `<!-- report {name} -->` and `<!-- end of report {name} -->`, but in "
            f"{path or 'this text'} one of them is missing or in the wrong place. Correct the file."
        )
    pairs = zip(marks[::2], marks[1::2], strict=True)
    return [(text[begin.end() : end.start()], begin.end(), end.start()) for begin, end in pairs]
