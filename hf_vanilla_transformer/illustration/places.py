"""Where a page may go; light, so that a wrong place is refused before anything is loaded."""

import os
from pathlib import Path

ENDING = ".html"
TITLE = "<title>The Illustrated Transformer: "
"""Stands near the beginning of each page."""
_BEGINNING = 4096


def check_ending(path: str | os.PathLike[str]) -> Path:
    """The place of a page, by its name alone.

    Raises:
        ValueError: it ends in something else than .html.
    """
    place = Path(path)
    if place.suffix.lower() != ENDING:
        raise ValueError(f"The page is an HTML file, but {place} does not end in {ENDING}. Name it page{ENDING}.")
    return place


def check_place(path: str | os.PathLike[str]) -> Path:
    """Where a page may go: to a new file, or in place of an earlier page.

    Raises:
        ValueError: it ends in something else than .html.
        FileExistsError: a file is there that is no page of `illustrate`.
        FileNotFoundError: its folder does not exist.
        IsADirectoryError: it is a folder.
    """
    place = Path(path)
    if place.is_dir():
        raise IsADirectoryError(f"The page goes to a file, but {place} is a folder. Name a file in it.")
    check_ending(place)
    if not place.absolute().parent.is_dir():
        raise FileNotFoundError(f"There is no folder {place.absolute().parent} for the page. Make it first.")
    if place.exists() and not _is_a_page(place):
        raise FileExistsError(
            f"A page replaces an earlier page and no other file, but {place} is another one. Move it, or give another "
            "name."
        )
    return place


def _is_a_page(place: Path) -> bool:
    if not place.is_file():
        return False
    with open(place, "rb") as file:
        return TITLE.encode() in file.read(_BEGINNING)
