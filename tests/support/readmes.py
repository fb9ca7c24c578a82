"""The READMEs as tests read them: their snippets, their shell commands, their links and headings."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "hf_vanilla_transformer"
DOCUMENTS = [
    *(ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "scripts" / "README.md"),
    *sorted(PACKAGE.glob("*/README.md")),
]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.M)


@dataclass(frozen=True)
class Snippet:
    """A block of code: where it stands, and what it says."""

    place: str
    language: str
    code: str


@dataclass(frozen=True)
class Command:
    """One command of a shell: its words, the first of which is a program's name, and what is piped into it."""

    words: tuple[str, ...]
    stdin: str = ""


def named(document: Path) -> str:
    """A document's name in the repository, which is also that of its tests."""
    return document.relative_to(ROOT).as_posix()


def snippets(document: Path, language: str) -> list[Snippet]:
    """The document's blocks of a language."""
    text = document.read_text(encoding="utf-8")
    return [
        Snippet(f"{named(document)}:{text.count(chr(10), 0, found.start()) + 1}", found[1], found[2])
        for found in _BLOCK.finditer(text)
        if found[1] == language
    ]


def shell_commands(snippet: Snippet) -> Iterator[Command]:
    """The commands of a block, in order; a line is one command, or `echo` piped into one."""
    for line in snippet.code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
        lexer.whitespace_split = True
        words = list(lexer)
        stdin = ""
        if words and words[0] == "echo" and words[2] == "|":
            stdin, words = f"{words[1]}\n", words[3:]
        assert not {"|", "&", ";", "<", ">"} & set(words), f"more than one command: {line}"
        if words:
            yield Command((words[0].removeprefix(".venv/bin/"), *words[1:]), stdin)


def without_snippets(document: Path) -> str:
    """The document's prose and tables."""
    return _BLOCK.sub("", document.read_text(encoding="utf-8"))


def links(document: Path) -> list[str]:
    """Where its links and pictures lead, but for those to the web."""
    return [target for target in _LINK.findall(without_snippets(document)) if not target.startswith("http")]


def anchors(document: Path) -> set[str]:
    """What its headings are called in links, as GitHub calls them."""
    headings = _HEADING.findall(without_snippets(document))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(document: Path, heading: str) -> str:
    """The text under a heading of the second level."""
    return document.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def in_backticks(text: str) -> set[str]:
    """All that is set as code within prose or a table."""
    return set(re.findall(r"`([^`\n]+)`", text))
