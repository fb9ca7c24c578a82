"""Several batches at once on a processor: most steps of a search are too small for all its threads."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from ..model.generation import TranslationGenerationMixin
from ..model.step_decoder import packed_model

MOST_WORKERS = 4
"""Each holds a batch in memory."""

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def workers_for(model: Any) -> int:
    """How many batches at once this model translates here, if there are so many: more than one on processors only.

    Only models of ours are shared by threads: their search changes nothing of them.
    """
    ours = isinstance(model, TranslationGenerationMixin) and model.device.type == "cpu"  # type: ignore[attr-defined]
    return min(torch.get_num_threads(), MOST_WORKERS) if ours else 1


def side_by_side(model: Any, translate: Callable[[Batch], Result], batches: Sequence[Batch]) -> Iterator[Result]:
    """`map(translate, batches)`, on a processor by several threads at once.

    Args:
        model: what `translate` translates with.
        translate: called under `inference_mode`.
        batches: the costliest first, so that the threads end together.

    Yields:
        The results in the order of the batches.
    """
    threads = torch.get_num_threads()
    workers = min(workers_for(model), len(batches))
    if workers < 2:
        yield from map(translate, batches)
        return
    packed_model(model, model.decoding_precision)  # once, not once a thread

    def work(batch: Batch) -> Result:
        torch.set_num_threads(max(1, threads // workers))  # a thread's own, but for MKL's
        with torch.inference_mode():
            return translate(batch)

    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(work, batches)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
