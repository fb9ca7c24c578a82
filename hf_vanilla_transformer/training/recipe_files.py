"""Recipe files: those that come with the package, by name, and the user's own."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

RECIPES = Path(__file__).parent.parent / "recipes"


def recipe_names() -> list[str]:
    """Recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def find_recipe(name_or_file: str) -> Path:
    """The file of a recipe.

    Raises:
        FileNotFoundError: it is neither the name of a recipe nor a file.
    """
    named = RECIPES / f"{name_or_file}.yaml"
    if name_or_file in recipe_names():
        return named
    if Path(name_or_file).is_file():
        return Path(name_or_file)
    raise FileNotFoundError(
        f"There is no recipe {name_or_file!r}{did_you_mean(name_or_file, recipe_names())}; recipes are "
        f"{', '.join(recipe_names())}, or a YAML file of your own."
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known name, in parentheses, or nothing."""
    near = get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
