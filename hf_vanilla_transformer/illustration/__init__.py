"""Pictures of one's own trained model: one sentence through it as an offline page, in a notebook, and as figures.

`contents` is what a page shows, as lists; `page` builds it, knowing neither torch nor transformers; the templates are
plain HTML, CSS and JavaScript. `collecting` and what it imports fill the contents from a model.
"""

from .illustrating import Illustration, check_place, illustrate

__all__ = ["Illustration", "check_place", "illustrate"]
