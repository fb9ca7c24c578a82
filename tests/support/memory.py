"""What a computation holds in memory and what it makes anew, in bytes of tensors, whoever keeps them."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode  # torch's own way to see every operation


class Memory(TorchDispatchMode):
    """Counts what operations make in its `with` block.

    Attributes:
        held: bytes that were made here and are still there.
        peak: the most that were ever held.
        made: bytes of all that was made, kept or not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = self.made = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._known.update(_storages((args, kwargs)))
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage not in self._known:
                self._known.add(storage)
                self._take(storage.nbytes())
                weakref.finalize(storage, self._take, -storage.nbytes())
        return result

    def _take(self, size: int) -> None:
        self.held += size
        self.made += max(0, size)
        self.peak = max(self.peak, self.held)


def _storages(values: Any) -> Iterator[Any]:
    if isinstance(values, torch.Tensor):
        if values.layout == torch.strided:
            yield values.untyped_storage()
    elif isinstance(values, dict):
        yield from _storages(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _storages(value)


def living_tensors() -> int:
    """How many tensors there are, in whatever hands; what only a cycle keeps counts too, unless it was collected."""
    return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())
