"""Is this checkpoint sound? Checks for any sequence-to-sequence model, each with what to do about a failure."""

from .examination import CHECKS, examine
from .findings import Finding

__all__ = ["CHECKS", "Finding", "examine"]
