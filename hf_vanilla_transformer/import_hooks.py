"""Act right after a module is imported, whoever imports it and whichever finder finds it."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from itertools import dropwhile, islice
from types import ModuleType
from typing import Any

from . import starting


class ImportHook(MetaPathFinder):
    """Runs an action at the end of a module's import, in the same thread and before other code uses the module.

    Works while it stands in `sys.meta_path`, before the finders that it delegates to.
    """

    def __init__(self, actions: Mapping[str, Callable[[ModuleType], None]]) -> None:
        """Take the names of modules, and what is called with each of them."""
        self._actions = actions

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of one of these modules from another finder, changed; `None` for all other modules."""
        if fullname not in self._actions:
            return None
        spec = self.found_by_others(fullname, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            loader.exec_module = _then(loader.exec_module, self._actions[fullname])
        return spec

    def found_by_others(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        """The spec from a finder after this one: an editable installation, for example, has its own."""
        finders = dropwhile(lambda finder: finder is not self, list(sys.meta_path))
        for finder in islice(finders, 1, None):  # not those before it, which may delegate to it
            find = getattr(finder, "find_spec", None)
            if find is not None:
                spec = find(fullname, path, target)
                if spec is not None:
                    return spec
        return None


def _then(execute: Callable[[ModuleType], None], action: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def execute_and_act(module: ModuleType) -> None:
        with starting.importing():
            execute(module)
        action(module)

    return execute_and_act
