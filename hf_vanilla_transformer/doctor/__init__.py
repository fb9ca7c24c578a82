"""Is this checkpoint sound? Checks for any sequence-to-sequence model, each with what to do about a failure."""

from .examination import CHECKS, examine
from .findings import Finding
from .sealing import require_sealable, seal

__all__ = ["CHECKS", "Finding", "examine", "require_sealable", "seal"]
