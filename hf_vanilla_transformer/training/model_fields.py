"""The hyperparameters of `VanillaTransformerConfig`, read from its source text.

Importing the class imports torch, which takes seconds: too long for `train --help`. A second list of names, types,
defaults and descriptions would soon differ from the first.
"""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_SOURCE = Path(__file__).parent.parent / "model" / "configuration_vanilla_transformer.py"
_CLASS = "VanillaTransformerConfig"
_ENTRY = re.compile(r"^    (\w+(?:, \w+)*) \(`.*\):\n((?:        .*\n|\n)+)", re.MULTILINE)


@dataclass(frozen=True)
class ModelField:
    """One field of the config.

    Attributes:
        annotation: the type as written in the source; `str` for a named `Literal`.
        choices: the values of a `Literal`, otherwise empty.
        help: the first sentence of the description.
    """

    name: str
    annotation: str
    default: Any
    choices: tuple[str, ...]
    help: str


@cache
def model_fields() -> tuple[ModelField, ...]:
    """All fields that the config declares, in order."""
    module = ast.parse(_SOURCE.read_text(encoding="utf-8"))
    [config] = [node for node in module.body if isinstance(node, ast.ClassDef) and node.name == _CLASS]
    literals = {
        node.targets[0].id: tuple(ast.literal_eval(node.value.slice))
        for node in module.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Subscript)
        and ast.unparse(node.value.value) == "Literal"
    }
    described = _descriptions(ast.get_docstring(config) or "")
    return tuple(
        _field(node, literals, described)
        for node in config.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
    )


def _field(node: ast.AnnAssign, literals: dict[str, tuple[str, ...]], described: dict[str, str]) -> ModelField:
    assert isinstance(node.target, ast.Name)
    assert node.value is not None
    name, annotation = node.target.id, ast.unparse(node.annotation)
    choices = literals.get(annotation, ())
    default = ast.literal_eval(node.value)
    return ModelField(name, "str" if choices else annotation, default, choices, described.get(name, ""))


def _descriptions(docstring: str) -> dict[str, str]:
    """The first sentence of each entry under `Args`, by the field's name."""
    found = {}
    for names, text in _ENTRY.findall(docstring + "\n"):
        sentence = re.split(r"(?<=[.:])\s", " ".join(text.split()), maxsplit=1)[0]
        for name in names.split(", "):
            found[name] = sentence.rstrip(".:").replace("`", "")
    return found
