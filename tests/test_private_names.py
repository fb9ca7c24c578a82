"""No private name of another library is used but those of `private_names.py`, and each of those is there."""

import inspect
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import transformers
from packaging.version import Version
from private_names import DOCUMENTED, PRIVATE_NAMES, PrivateName
from private_uses import foreign_uses, foreign_uses_in, is_private

import hf_vanilla_transformer


@pytest.fixture(scope="module")
def used() -> dict[str, list[str]]:
    """Places of each."""
    places = defaultdict(list)
    for use in foreign_uses():
        places[use.name].append(use.place)
    return places


@pytest.mark.parametrize("row", PRIVATE_NAMES, ids=lambda row: row.name)
def test_it_is_there_and_takes_what_it_is_given(row: PrivateName):
    if row.since and Version(transformers.__version__) < Version(row.since):
        pytest.skip(f"since transformers {row.since}")
    try:
        found = row.find()
    except (AttributeError, KeyError) as error:
        pytest.fail(f"{row.name} is gone ({error}). It was there because {row.why}. What to do: {row.when_gone}.")
    if row.name.startswith("_linear") and found is None:
        pytest.skip("no oneDNN")
    missing = set(row.takes) - parameters_of(found) if found is not None else set()
    assert not missing, f"{row.name} no longer takes {missing}. What to do: {row.when_gone}."


def parameters_of(function: Any) -> set[str]:
    if hasattr(function, "_schema"):  # an operator of torch
        return {each.name for each in function._schema.arguments}
    return set(inspect.signature(function).parameters) if callable(function) else set()


def test_each_is_named_once_with_a_reason_and_a_way_on():
    names = [row.name for row in PRIVATE_NAMES]
    assert len(set(names)) == len(names)
    assert not set(names) & DOCUMENTED.keys()
    assert all(row.why and row.when_gone for row in PRIVATE_NAMES)


def test_no_other_is_used(used: dict[str, list[str]]):
    known = {row.name for row in PRIVATE_NAMES} | DOCUMENTED.keys()
    unknown = {name: places for name, places in used.items() if name not in known}
    assert not unknown, "use a public name, or say in tests/support/private_names.py why there is none"


def test_each_is_used(used: dict[str, list[str]]):
    source = "\n".join(path.read_text() for path in Path(hf_vanilla_transformer.__path__[0]).rglob("*.py"))
    spelled_publicly = [row.name for row in PRIVATE_NAMES if not is_private(row.name)]
    unused = [name for name in spelled_publicly if not re.search(rf"\b{name}\b", source)]
    unused += [row.name for row in PRIVATE_NAMES if is_private(row.name) and row.name not in used]
    unused += [name for name in DOCUMENTED if name not in used]
    assert not unused, "take them out of tests/support/private_names.py"


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch._utils",
        "from torch import _utils as helpers",
        "import torch._utils",
        "from torch._utils import ExceptionWrapper",
        "def f(config): return getattr(config, '_attn_was')",
        "def f(module): return vars(module)['_hooks']",
        "NAMES = ('_hooks', '_more')",
        "def f(trainer): trainer._memory_tracker = None",
        "def f(call): call(_from_auto=True)",
        "def f(_fast_init): pass",
        "from transformers import Trainer\nclass Ours(Trainer):\n    def _load_best_model(self): pass",
        "from transformers import Trainer\nclass Ours(Trainer):\n    _train_batch_size = 3",
        "from transformers import Trainer\nclass Ours(Trainer):\n    def f(self): self._memory_tracker = None",
        "from transformers import Trainer\nclass Ours(Trainer):\n    def f(self): return super()._wrap_model(1)",
        "class Mixin:\n    def _wrap_model(self): pass\n"
        "from transformers import Trainer\nclass Ours(Mixin, Trainer): pass",
        "class One:\n    def _f(self): pass\ndef f(other): return other._g",
    ],
)
def test_a_foreign_name_is_found(code: str):
    assert foreign_uses_in(code)


@pytest.mark.parametrize(
    "code",
    [
        "_CACHE = {}\ndef _f(): return _CACHE",
        "class One:\n    _field = 3\n    def _f(self): return self._field\ndef f(one: One): return one._f()",
        "from transformers import Trainer\nclass Ours(Trainer):\n    def _counts_ducks(self): self._ducks = 1",
        "def f(name): return name.endswith(('_layers', '_heads')) or '_to_' in name or f'{name}_ids'",
        "class _One:\n    def f(self) -> '_One': return self",
        "class Mixin:\n    def f(self): return self._g\nclass Ours(Mixin):\n    def _g(self): pass",
    ],
)
def test_our_own_name_is_not(code: str):
    assert not foreign_uses_in(code)
