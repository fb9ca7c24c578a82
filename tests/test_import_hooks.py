"""What acts right after an import, however many of them there are and whoever finds the module."""

import importlib
import sys
from importlib.machinery import PathFinder

import pytest

from hf_vanilla_transformer.import_hooks import ImportHook

NAME = "a_module_of_the_tests"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that was never imported; what was put into `sys.meta_path` goes again."""
    (tmp_path / f"{NAME}.py").write_text("whole = True\n", encoding="utf-8")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.syspath_prepend(tmp_path)
    yield NAME
    sys.modules.pop(NAME, None)


@pytest.mark.parametrize("hooks", [1, 2, 3])
def test_each_hook_acts_once_on_the_whole_module(module, hooks):
    """Two of one module, as of a command that calls a command, must not look for it at each other."""
    seen = []
    sys.meta_path[:0] = [ImportHook({module: lambda found: seen.append(found.whole)}) for _ in range(hooks)]
    imported = importlib.import_module(module)
    assert imported.whole
    assert seen == [True] * hooks
    importlib.import_module(module)
    assert len(seen) == hooks


def test_the_module_may_be_found_by_any_finder_after_it(module, monkeypatch):
    seen = []
    place = sys.path[:1]

    class Other:
        @staticmethod
        def find_spec(name, path=None, target=None):
            return PathFinder.find_spec(name, place) if name == module else None

    monkeypatch.setattr(sys, "path", sys.path[1:])
    sys.meta_path[:] = [ImportHook({module: seen.append}), *sys.meta_path, Other()]
    assert seen == [importlib.import_module(module)]


def test_a_module_that_nobody_finds_is_missing_as_without_it():
    hook = ImportHook({"no_such_module_anywhere": lambda _: None})
    sys.meta_path.insert(0, hook)
    try:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("no_such_module_anywhere")
    finally:
        sys.meta_path.remove(hook)
