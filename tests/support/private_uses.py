"""Which private names of other libraries the package uses: those with one underscore in front that it does not define.

A name that a class of ours defines is a foreign one all the same if a class of another library that it inherits from,
or is mixed with, speaks of it: then it is an override, or would be one by accident. Of an object whose class is not
known a name is ours if a class in the same file defines it. A string is a name unless it is a piece of text.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import hf_vanilla_transformer

PACKAGE = hf_vanilla_transformer.__name__
_PRIVATE = re.compile(r"_[A-Za-z]\w*")
_MADE_OF_WORDS = {"startswith", "endswith", "removeprefix", "removesuffix", "split", "partition", "rpartition"}
"""Methods whose arguments are pieces of text."""


class Use(NamedTuple):
    """A private name at a place in the package."""

    name: str
    place: str


def foreign_uses() -> list[Use]:
    """Every use of a private name that is not the package's own."""
    found = pkgutil.walk_packages(hf_vanilla_transformer.__path__, f"{PACKAGE}.")
    names = [PACKAGE, *(each.name for each in found if not each.name.endswith("__main__"))]
    sources = {}
    for name in names:
        module = importlib.import_module(name)
        sources[module] = Path(str(module.__file__)).read_text(encoding="utf-8")
    return list(_Code(sources).foreign())


def foreign_uses_in(code: str) -> list[Use]:
    """The same of a file with this content, were it all of the package."""
    module = types.ModuleType(f"{PACKAGE}.example")
    exec(compile(code, module.__name__, "exec"), vars(module))
    return list(_Code({module: code}).foreign())


def is_private(name: object) -> bool:
    """Whether it has one underscore in front and is a name."""
    return isinstance(name, str) and _PRIVATE.fullmatch(name) is not None


class _Code:
    """Files of the package, and the classes in them."""

    def __init__(self, sources: Mapping[types.ModuleType, str]) -> None:
        self.trees = {module: ast.parse(source) for module, source in sources.items()}
        self.defined: dict[type, set[str]] = {}
        """Private names that each class of ours defines itself."""
        for module, tree in self.trees.items():
            for node in _classes_in(tree):
                found = getattr(module, node.name, None)
                if isinstance(found, type):
                    self.defined[found] = _names_defined_by(node)

    def foreign(self) -> Iterator[Use]:
        for module, tree in self.trees.items():
            file = _File(self, module, tree)
            yield from (Use(name, f"{module.__name__}:{line}") for name, line in file.read(tree, None))

    def relatives(self, of: type) -> set[type]:
        """The class, all that it inherits from, and all that it is mixed with in a class of ours."""
        return {base for each in {of, *self.defined} if issubclass(each, of) for base in each.__mro__}

    def is_own(self, name: str, of: type) -> bool:
        """Whether an object of this class has the name from us alone."""
        return any(name in self.defined.get(each, ()) for each in self.relatives(of)) and not self.is_foreign(name, of)

    def is_foreign(self, name: str, of: type) -> bool:
        """Whether classes of others that this one inherits from, or is mixed with, speak of the name."""
        return any(name in _names_spoken_of(each) for each in self.relatives(of) - self.defined.keys() - {object})


class _File:
    """One file of them."""

    def __init__(self, code: _Code, module: types.ModuleType, tree: ast.Module) -> None:
        self.code, self.module = code, module
        self.own = {name for node in _classes_in(tree) for name in _names_defined_by(node)}

    def read(self, node: ast.AST, owner: type | None) -> Iterator[tuple[str, int]]:
        """Foreign names and their lines in a piece of code that stands in the class `owner`."""
        if isinstance(node, ast.ClassDef):
            found = getattr(self.module, node.name, None)
            owner = found if found in self.code.defined else owner
        line = getattr(node, "lineno", 0)
        yield from ((name, line) for name in self._foreign_at(node, owner))
        for child in ast.iter_child_nodes(node):
            if not _is_text(child, node):
                yield from self.read(child, owner)

    def _foreign_at(self, node: ast.AST, owner: type | None) -> Iterable[str]:
        if isinstance(node, ast.ClassDef) and owner is not None:
            return [name for name in _names_defined_by(node) if self.code.is_foreign(name, owner)]
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            return _names_imported_by(node)
        if isinstance(node, ast.Attribute):
            return [] if not is_private(node.attr) or self._is_own(node, owner) else [node.attr]
        if isinstance(node, (ast.keyword, ast.arg)):
            return [node.arg] if node.arg is not None and is_private(node.arg) else []
        if isinstance(node, ast.Constant):
            return [node.value] if is_private(node.value) and not hasattr(self.module, node.value) else []
        return []

    def _is_own(self, node: ast.Attribute, owner: type | None) -> bool:
        if _is_self(node.value) and owner is not None:
            return self.code.is_own(node.attr, owner)
        return node.attr in self.own and not any(self.code.is_foreign(node.attr, each) for each in self.code.defined)


def _classes_in(tree: ast.AST) -> list[ast.ClassDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def _is_self(node: ast.expr) -> bool:
    is_super = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    return is_super or (isinstance(node, ast.Name) and node.id in ("self", "cls"))


def _is_text(child: ast.AST, parent: ast.AST) -> bool:
    if isinstance(parent, ast.JoinedStr):
        return isinstance(child, ast.Constant)
    if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Attribute):
        return parent.func.attr in _MADE_OF_WORDS and child in parent.args
    return isinstance(parent, ast.Compare) and child is parent.left and isinstance(parent.ops[0], ast.In)


def _names_imported_by(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.ImportFrom) and node.level:  # from the package itself
        return []
    paths = [each.name for each in node.names] + ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
    return [part for path in paths for part in path.split(".") if is_private(part)]


def _names_defined_by(node: ast.ClassDef) -> set[str]:
    """Private names of a class: methods, fields, and what its methods set on `self`."""
    found: set[str] = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store) and _is_self(each.value):
            found.add(each.attr)
    for each in node.body:
        if isinstance(each, (ast.FunctionDef, ast.ClassDef)):
            found.add(each.name)
        elif isinstance(each, (ast.Assign, ast.AnnAssign)):
            targets = each.targets if isinstance(each, ast.Assign) else [each.target]
            found.update(target.id for target in targets if isinstance(target, ast.Name))
    return {name for name in found if is_private(name)}


@cache
def _names_spoken_of(of: type) -> frozenset[str]:
    """All private names in a class and in its source, whatever they are there for."""
    try:
        source = inspect.getsource(of)
    except (OSError, TypeError):  # built in
        source = ""
    return frozenset({*vars(of), *re.findall(r"(?<![A-Za-z0-9_])_[A-Za-z]\w*", source)})
