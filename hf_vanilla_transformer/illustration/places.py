"""Check the path of a page; without heavy imports, so that a wrong path fails before anything is loaded."""

import os
from pathlib import Path

ENDING = ".html"
TITLE = "<title>The Illustrated Transformer: "
"""Appears near the beginning of each page."""
_BEGINNING = 4096


def check_ending(path: str | os.PathLike[str]) -> Path:
    """Check the ending of a page's path.

    Raises:
        ValueError: it does not end in .html.
    """
    place = Path(path)
    if place.suffix.lower() != ENDING:
        raise ValueError(f"The page is an HTML file, but {place} does not end in {ENDING}. Name it page{ENDING}.")
    return place


def check_place(path: str | os.PathLike[str]) -> Path:
    """Check a page's path: it must be a new file or an earlier page.

    Raises:
        ValueError: it does not end in .html.
        FileExistsError: the file exists and is not a page of `illustrate`.
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
            f"A page may replace only an earlier page, but {place} is another file. Move it, or give another name."
        )
    return place


def _is_a_page(place: Path) -> bool:
    if not place.is_file():
        return False
    with open(place, "rb") as file:
        return TITLE.encode() in file.read(_BEGINNING)
