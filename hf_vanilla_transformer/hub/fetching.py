"""A repository's files in the local cache, all of one commit."""

from pathlib import Path

from huggingface_hub import HfApi, snapshot_download

from ..evaluation import LEDGER_NAME
from ..model.manifest import MANIFEST_NAME
from .answers import explained
from .files import CARD_NAME

EVIDENCE = (CARD_NAME, LEDGER_NAME, MANIFEST_NAME)
"""What a verification from stored translations needs."""


def fetch(repo_id: str, revision: str | None = None, *, whole: bool = False) -> Path:
    """Download the card, the ledger and the manifest of a model, or all of it.

    Args:
        repo_id: its name on the Hub.
        revision: branch, tag or commit; the main branch if not given.
        whole: its weights, tokenizer and configs too.

    Returns:
        The folder they are in.

    Raises:
        ConnectionError, FileNotFoundError, PermissionError: as `explained`.
    """
    with explained(repo_id, revision):
        commit = HfApi().model_info(repo_id, revision=revision).sha
        patterns = None if whole else list(EVIDENCE)
        return Path(snapshot_download(repo_id, revision=commit, allow_patterns=patterns))
