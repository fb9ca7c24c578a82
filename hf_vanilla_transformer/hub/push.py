"""Push a model to the Hub: checked, staged, and published in one commit, so that a repository is never half updated.

Repeat a call that failed: files already uploaded are not uploaded twice, and unchanged files make no commit. The token
comes from `hf auth login` or `HF_TOKEN`, and is never written to disk.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.utils import validate_repo_id

from ..evaluation import LedgerEntry, read_ledger, weights_fingerprint
from ..model.configuration_vanilla_transformer import is_ours
from ..model.sound_folders import read_whole
from ..model.whole_folders import new_folder
from ..translation import load_model_and_tokenizer
from .answers import explained
from .card import write_card
from .facts import CardDetails, ModelFacts, gather_facts
from .files import CARD_NAME, require_no_token, stage
from .upload import Upload, create_repository, persistently

CARD_CHOICES = ("ask", "keep", "replace")
DEFAULT_BRANCH = "main"


@dataclass(frozen=True)
class Push:
    """The result of a push.

    Attributes:
        repo_id: the repository, with its owner.
        url: its page.
        commit: the commit that holds the model now.
        changed: whether this push made the commit; false if nothing had changed.
        files: all published files.
        notes: what the owner should know, one sentence each.
    """

    repo_id: str
    url: str
    commit: str
    changed: bool
    files: tuple[str, ...]
    notes: tuple[str, ...]


def push_to_hub(
    model: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    card: str = "ask",
    commit_message: str | None = None,
    token: str | None = None,
    **details: Any,
) -> Push:
    """Publish a model's folder on the Hub: weights, configs, tokenizer, code, card, ledger and manifest, nothing else.

    Args:
        model: a complete folder of one of this package's models.
        repo_id: `owner/name`, or only a name for the token's owner; created if it does not exist.
        private: create a new repository as private.
        revision: an existing branch; the main branch by default.
        card: what to do with a card that was edited since the last push: `"keep"`, `"replace"`, or `"ask"`, which
            raises an error.
        commit_message: the first line of the commit message.
        token: an access token with write permission; by default that of `hf auth login` or `HF_TOKEN`.
        details: facts for the card that no file states: `license`, `source_lang`, `target_lang`, `datasets`, `data`,
            `limits`, as in `CardDetails`.

    Returns:
        What was published, and where.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such model folder, or it is incomplete.
        PermissionError: there is no token, or it may not write there.
        ConnectionError: the Hub cannot be reached, or fails for longer than a few seconds; repeat the call to resume.
        ValueError: the folder is damaged, holds another kind of model or an access token; the card was edited; a name,
            branch or detail is invalid; or the repository changed during the push.
    """
    if card not in CARD_CHOICES:
        raise ValueError(f"card must be one of {', '.join(CARD_CHOICES)}, got {card!r}.")
    validate_repo_id(repo_id)
    with TemporaryDirectory(prefix="push-") as temporary:
        publication = prepare(Path(model).expanduser(), Path(temporary), CardDetails(**details))
        return publication.publish(
            repo_id, private=private, revision=revision, card=card, commit_message=commit_message, token=token
        )


def write_publication(
    model: str | os.PathLike[str], repo_id: str, output: str | os.PathLike[str], **details: Any
) -> tuple[str, ...]:
    """Write what `push_to_hub` would publish to a new folder, without contacting the Hub.

    Args:
        model, repo_id, details: as in `push_to_hub`.
        output: the folder to create.

    Returns:
        The notes that a push would return.

    Raises:
        FileExistsError: `output` is not empty.
        FileNotFoundError, NotADirectoryError, ValueError: as in `push_to_hub`.
    """
    validate_repo_id(repo_id)
    with new_folder(output) as beside:
        publication = prepare(Path(model).expanduser(), beside, CardDetails(**details))
        publication.write_card(repo_id, None)
    return publication.notes


@dataclass(frozen=True)
class Publication:
    """A copy of the files to publish, and the facts for their card.

    Attributes:
        staged: the folder of the copy.
        facts: facts for the card.
        notes: notes on what was left out.
    """

    staged: Path
    facts: ModelFacts
    notes: tuple[str, ...]

    def write_card(self, repo_id: str, token: str | None) -> None:
        """Add the card, and check that no file contains an access token."""
        text = write_card(self.facts, repo_id)
        (self.staged / CARD_NAME).write_text(text, encoding="utf-8", newline="\n")
        require_no_token(self.staged, _known_tokens(token))

    def publish(
        self,
        repo_id: str,
        *,
        private: bool = False,
        revision: str | None = None,
        card: str = "ask",
        commit_message: str | None = None,
        token: str | None = None,
    ) -> Push:
        """Create the repository if needed, and commit the copy; arguments and errors as in `push_to_hub`."""
        api = HfApi(token=token)
        with explained(repo_id, revision):
            repo_id = create_repository(api, repo_id, private)
        self.write_card(repo_id, token)
        message = commit_message or "Push with hf_vanilla_transformer"
        with explained(repo_id, revision):
            upload = Upload(api, repo_id, revision or DEFAULT_BRANCH, card, message)
            commit, changed, names = persistently(lambda: upload.attempt(self.staged))
        notes = (*self.notes, *upload.notes)
        return Push(repo_id, f"{api.endpoint}/{repo_id}", commit, changed, names, notes)


def prepare(folder: Path, staged: Path, details: CardDetails) -> Publication:
    """Check a model's folder, and copy the files to publish, except the card.

    Args:
        folder: the model's folder.
        staged: an empty folder.
        details: the owner's statements.

    Returns:
        The copy, without its card.

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError: as in `push_to_hub`.
    """
    if not folder.is_dir():
        missing = NotADirectoryError if folder.exists() else FileNotFoundError
        raise missing(
            f"A model's folder is pushed, but {folder} {'is a file' if folder.exists() else 'does not exist'}."
        )
    return read_whole(folder, lambda: _copy_what_is_published(folder, staged, details))


def _copy_what_is_published(folder: Path, staged: Path, details: CardDetails) -> Publication:
    for path in staged.iterdir():  # left by a first try, if the folder was written to meanwhile
        path.unlink()
    model, tokenizer = load_model_and_tokenizer(folder)
    if not is_ours(model):
        raise ValueError(
            f"Only this package's models can be pushed, but {folder} holds one of type {model.config.model_type}. "
            "Convert it first: "
            "vanilla-transformer convert."
        )
    entries, notes = _entries_of_these_weights(folder)
    facts = gather_facts(folder, model, tokenizer, entries, details)
    stage(folder, staged, type(tokenizer).vocab_files_names.values(), entries)
    require_no_token(staged, _known_tokens())
    return Publication(staged, facts, tuple(notes))


def _entries_of_these_weights(folder: Path) -> tuple[list[LedgerEntry], list[str]]:
    entries = read_ledger(folder)
    weights = weights_fingerprint(folder)
    current = [entry for entry in entries if entry.weights == weights]
    left_out = [entry.test_set for entry in entries if entry.weights != weights]
    notes = [f"Scores of earlier weights are left out ({', '.join(left_out)}): evaluate again."] if left_out else []
    if not current:
        notes.append("The card has no scores: run `vanilla-transformer evaluate` to add them.")
    return current, notes


def _known_tokens(token: str | None = None) -> list[str]:
    return [known for known in (token, get_token()) if known]
