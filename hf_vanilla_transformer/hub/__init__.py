"""Models on the Hub: what is published, the card, the push, and the check of a card's figures."""

from .facts import CardDetails
from .push import Publication, Push, prepare, push_to_hub, write_publication

__all__ = ["CardDetails", "Publication", "Push", "prepare", "push_to_hub", "write_publication"]
