"""Upload missing files to a repository, then commit all of them at once on top of the commit that was read.

If the Hub answers with a server error, or not at all, the upload is retried from the start: uploaded files are found
there, and a commit whose answer was lost is not made twice.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download

from ..model.json_files import read_json
from ..model.manifest import MANIFEST_NAME
from .answers import is_transient
from .files import CARD_NAME, is_publishable

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

WAITS = (1.0, 2.0, 4.0)
"""Seconds to wait before each retry after a server error or a lost connection."""

STOCK_ARGUMENTS = "training_args.bin"
"""The pickled arguments that the Trainer of `transformers` pushes."""


def create_repository(api: HfApi, repo_id: str, private: bool = False) -> str:
    """Create a repository if it does not exist, and return its full name."""
    # `private` is sent only if true: an organisation may forbid asking for a public repository
    return persistently(lambda: api.create_repo(repo_id, private=private or None, exist_ok=True).repo_id)


def persistently(attempt: Callable[[], Result]) -> Result:
    """Retry after a server error or a broken connection."""
    for wait in WAITS:
        try:
            return attempt()
        except Exception as error:
            if not is_transient(error):
                raise
            logger.warning(f"The Hub failed ({type(error).__name__}); trying again in {wait:g} s.")
            time.sleep(wait)
    return attempt()


class Upload:
    """An upload to one branch of a repository."""

    def __init__(self, api: HfApi, repo_id: str, revision: str, card: str, message: str) -> None:
        self.api, self.repo_id, self.revision, self.card, self.message = api, repo_id, revision, card, message
        self.notes: list[str] = []
        self.first_head: str | None = None

    def attempt(self, staged: Path) -> tuple[str, bool, tuple[str, ...]]:
        """Upload missing files, and commit all on top of the commit that was read; return commit, changed, files."""
        self.notes.clear()
        head = self.api.model_info(self.repo_id, revision=self.revision)
        self.first_head = self.first_head or head.sha
        there = {sibling.rfilename for sibling in head.siblings or ()}
        if STOCK_ARGUMENTS in there:
            self.notes.append(
                f"{self.repo_id} holds {STOCK_ARGUMENTS}, which may hold an access token in clear text: delete it "
                "there, and revoke the token if one was given to the trainer."
            )
        names = sorted(path.name for path in staged.iterdir())
        before = self._earlier_push(head.sha, there)
        if not self._may_replace_card(head.sha, there, before):
            names.remove(CARD_NAME)
            self.notes.append("The card was kept as it is: its scores may belong to other weights.")
        manifest = self._with_card(staged, before, CARD_NAME in names)
        obsolete = sorted(name for name in before.get("files", {}) if name in there and name not in names)
        operations: list[CommitOperationAdd | CommitOperationDelete] = []
        operations += [CommitOperationDelete(name) for name in obsolete if is_publishable(name)]
        operations += [
            CommitOperationAdd(name, manifest if name == MANIFEST_NAME else str(staged / name)) for name in names
        ]
        done = self.api.create_commit(
            self.repo_id, operations, commit_message=self.message, revision=self.revision, parent_commit=head.sha
        )
        self._require_all(done.oid, names)
        return done.oid, done.oid != self.first_head, tuple(names)

    def _with_card(self, staged: Path, before: dict[str, Any], writes_card: bool) -> bytes:
        """The manifest, including the card that this push writes or an earlier one wrote."""
        manifest = json.loads((staged / MANIFEST_NAME).read_text(encoding="utf-8"))
        kept = _sha256(staged / CARD_NAME) if writes_card else before.get("card")
        return (json.dumps({**manifest, "card": kept}, ensure_ascii=False, indent=1) + "\n").encode()

    def _earlier_push(self, commit: str | None, there: set[str]) -> dict[str, Any]:
        if MANIFEST_NAME not in there:
            return {}
        try:
            manifest = read_json(self._download(MANIFEST_NAME, commit))
            return manifest if isinstance(manifest.get("files"), dict) else {}
        except (ValueError, AttributeError):  # written by another program, or truncated
            return {}

    def _may_replace_card(self, commit: str | None, there: set[str], before: dict[str, Any]) -> bool:
        if CARD_NAME not in there or self.card == "replace":
            return True
        if _sha256(self._download(CARD_NAME, commit)) == before.get("card"):
            return True
        if self.card == "keep":
            return False
        raise ValueError(
            f"The card of {self.repo_id} was not written by a push, or was changed since. Choose what to do with it: "
            "`--card keep` or `--card replace`."
        )

    def _download(self, name: str, commit: str | None) -> Path:
        return Path(
            hf_hub_download(self.repo_id, name, revision=commit, token=self.api.token, endpoint=self.api.endpoint)
        )

    def _require_all(self, commit: str, names: list[str]) -> None:
        """Check that all files arrived: a `.gitignore` in the repository makes the Hub drop files silently."""
        missing = sorted(set(names) - set(self.api.list_repo_files(self.repo_id, revision=commit)))
        if missing:
            raise ValueError(
                f"{self.repo_id} lacks {', '.join(missing)} although they were pushed. Look for a .gitignore there "
                "that names them, delete it, and push again."
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
