"""A repository's files in the local cache, all of one commit."""

from pathlib import Path

from huggingface_hub import HfApi, snapshot_download

from ..evaluation import LEDGER_NAME
from ..hub_access import from_hub_or_cache
from ..model.manifest import MANIFEST_NAME
from .answers import explained
from .files import CARD_NAME

EVIDENCE = (CARD_NAME, LEDGER_NAME, MANIFEST_NAME)
"""What a verification from stored translations needs."""


def fetch(repo_id: str, revision: str | None = None, *, whole: bool = False) -> Path:
    """Download the card, the ledger and the manifest of a model, or all of it.

    Where the Hub cannot be reached, what was downloaded earlier is used, and a warning says so.

    Args:
        repo_id: its name on the Hub.
        revision: branch, tag or commit; the main branch if not given.
        whole: its weights, tokenizer and configs too.

    Returns:
        The folder they are in.

    Raises:
        HubNotReachedError: the Hub cannot be reached, and the cache lacks them.
        ConnectionError, FileNotFoundError, PermissionError: as `explained`.
    """
    patterns = None if whole else list(EVIDENCE)

    def read(local_files_only: bool) -> Path:
        if local_files_only:
            return _cached(repo_id, revision, patterns)
        with explained(repo_id, revision):
            commit = HfApi().model_info(repo_id, revision=revision).sha
            # by the branch's name, under which the cache finds it again; it takes an older copy if the Hub fails
            folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=patterns))
            if folder.name == commit:
                return folder
            return Path(snapshot_download(repo_id, revision=commit, allow_patterns=patterns))

    return from_hub_or_cache(repo_id, read)


def _cached(repo_id: str, revision: str | None, patterns: list[str] | None) -> Path:
    folder = snapshot_download(repo_id, revision=revision, allow_patterns=patterns, local_files_only=True)
    needed = Path(folder, CARD_NAME if patterns else "config.json")
    if not needed.is_file():  # other files were downloaded, such as a tokenizer's alone
        raise FileNotFoundError(f"There is no {needed}.")
    return needed.parent
