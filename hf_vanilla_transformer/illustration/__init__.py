"""Illustrate a trained model: how it translates one sentence, as an offline page, in a notebook, and as figures.

`contents` holds what a page shows, as plain lists; `page` builds the page, without torch or transformers; the
templates are plain HTML, CSS and JavaScript. `collecting` and its imports fill the contents from a model.
"""

from typing import TYPE_CHECKING, Any

from .places import check_ending, check_place

if TYPE_CHECKING:
    from .illustrating import Illustration, illustrate

__all__ = ["Illustration", "check_ending", "check_place", "illustrate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import illustrating

    return getattr(illustrating, name)
