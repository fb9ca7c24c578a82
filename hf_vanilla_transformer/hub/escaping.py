"""Escape untrusted text for a card, so that it is shown literally.

File names, names of test sets, settings and the owner's words can end no line, table cell or code block, and add no
markup, HTML or links.
"""

import html
import re
from collections.abc import Sequence

_MARKDOWN = re.compile(r"([\\`*{}\[\]#|~$]|(?<!\w)_|_(?!\w))")  # an underscore within a word is not markup


def one_line(text: object) -> str:
    """Remove line breaks and what UTF-8 cannot encode, so that the text cannot end a card's metadata."""
    return " ".join(str(text).encode("utf-8", "replace").decode("utf-8").split())


def plain(text: object) -> str:
    """Escape text for Markdown, on one line: no markup, HTML, cell boundary or link."""
    escaped = _MARKDOWN.sub(r"\\\1", html.escape(one_line(text), quote=False))
    return escaped.replace("://", ":&#47;&#47;").replace("www.", "www&#46;").replace("@", "&#64;")


def code(text: object) -> str:
    """Format text as inline code that may stand in a table."""
    flat = one_line(text).replace("`", "'")
    return f"`{flat.replace('|', chr(92) + '|')}`"


def fenced(text: str, language: str) -> str:
    """Format text as a code block that its content cannot end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def bullets(lines: Sequence[str]) -> str:
    """Format lines as a list, each escaped."""
    return "\n".join(f"- {plain(line)}" for line in lines)
