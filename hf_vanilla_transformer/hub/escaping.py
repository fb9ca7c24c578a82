"""Untrusted text in a card: shown as it is, doing nothing.

Names of files and test sets, settings and what an owner types end no line, no cell of a table and no block of code,
and bring no markup, no HTML and no link.
"""

import html
import re
from collections.abc import Sequence

_MARKDOWN = re.compile(r"([\\`*{}\[\]#|~$]|(?<!\w)_|_(?!\w))")  # an underscore within a word is no markup


def one_line(text: object) -> str:
    """Text without line breaks and without what UTF-8 cannot hold: no line of it can end a card's metadata."""
    return " ".join(str(text).encode("utf-8", "replace").decode("utf-8").split())


def plain(text: object) -> str:
    """Text that Markdown shows as it is, on one line: no markup, no HTML, no cell's end, no link."""
    escaped = _MARKDOWN.sub(r"\\\1", html.escape(one_line(text), quote=False))
    return escaped.replace("://", ":&#47;&#47;").replace("www.", "www&#46;").replace("@", "&#64;")


def code(text: object) -> str:
    """The same as code within a table."""
    flat = one_line(text).replace("`", "'")
    return f"`{flat.replace('|', chr(92) + '|')}`"


def fenced(text: str, language: str) -> str:
    """A block of code that its content cannot end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def bullets(lines: Sequence[str]) -> str:
    """A list, each line escaped."""
    return "\n".join(f"- {plain(line)}" for line in lines)
