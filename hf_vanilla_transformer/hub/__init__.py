"""Models on the Hub: published files, the model card, the push, and verification of a card's scores."""

from .facts import CardDetails
from .push import Publication, Push, prepare, push_to_hub, write_publication

__all__ = ["CardDetails", "Publication", "Push", "prepare", "push_to_hub", "write_publication"]
