"""From parallel text to clean pairs to batches bounded by tokens (section 5.1); names are imported on first use.

Independent of the model and of how a tokenizer is learned.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batching import TokenBudgetBatchSampler as TokenBudgetBatchSampler
    from .builtin import BUILTIN_NAME as BUILTIN_NAME
    from .builtin import SPLITS as SPLITS
    from .builtin import builtin_corpus as builtin_corpus
    from .encoding import encode_corpus as encode_corpus
    from .encoding import sequence_lengths as sequence_lengths
    from .filtering import FilterReport as FilterReport
    from .filtering import FilterSettings as FilterSettings
    from .filtering import filter_pairs as filter_pairs
    from .reading import load_parallel_corpus as load_parallel_corpus
    from .stream_batching import StreamingBatches as StreamingBatches
    from .streaming import ParallelStream as ParallelStream
    from .streaming import stream_parallel_corpus as stream_parallel_corpus

_HOME = {
    "BUILTIN_NAME": ".builtin",
    "SPLITS": ".builtin",
    "builtin_corpus": ".builtin",
    "FilterReport": ".filtering",
    "FilterSettings": ".filtering",
    "ParallelStream": ".streaming",
    "StreamingBatches": ".stream_batching",
    "TokenBudgetBatchSampler": ".batching",
    "encode_corpus": ".encoding",
    "filter_pairs": ".filtering",
    "load_parallel_corpus": ".reading",
    "sequence_lengths": ".encoding",
    "stream_parallel_corpus": ".streaming",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return __all__
