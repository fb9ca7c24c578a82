"""Put a model on the Hub: checked, staged, and published in one commit, so that a repository is never half updated.

A push that fails is finished by the same call again: what was uploaded is not uploaded twice, and what has not changed
makes no commit. The token comes from `hf auth login` or `HF_TOKEN`, and is written nowhere.
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
    """What came of a push.

    Attributes:
        repo_id: the repository, with its owner.
        url: its page.
        commit: the commit that holds the model now.
        changed: whether this push made it; false if everything was there already.
        files: all that was published.
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
        model: a complete folder of a model of ours.
        repo_id: `owner/name`, or a name alone for the token's owner; made if it does not exist.
        private: whether only its owner may see it, if it is made.
        revision: a branch that exists; the main one if not given.
        card: what becomes of a card that somebody changed since the last push: `"keep"`, `"replace"`, or `"ask"`,
            which raises.
        commit_message: the first line of the commit.
        token: an access token that may write; that of `hf auth login` or `HF_TOKEN` if not given.
        details: what the card says and no file knows: `license`, `source_lang`, `target_lang`, `datasets`, `data`,
            `limits`, as of `CardDetails`.

    Returns:
        What was published, and where.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such model folder, or something in it is missing.
        PermissionError: no token, or one that may not write there.
        ConnectionError: the Hub cannot be reached, or fails for longer than a few seconds; the same call goes on.
        ValueError: the folder is not sound, not a model of ours, or holds an access token; a card that was changed; a
            name, branch or detail that is none; or the repository changed during the push.
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
    """Write what `push_to_hub` would publish to a new folder, and nothing to the Hub.

    Args:
        model, repo_id, details: as of `push_to_hub`.
        output: the folder to make.

    Returns:
        The notes of a push.

    Raises:
        FileExistsError: `output` holds something.
        FileNotFoundError, NotADirectoryError, ValueError: as of `push_to_hub`.
    """
    validate_repo_id(repo_id)
    with new_folder(output) as beside:
        publication = prepare(Path(model).expanduser(), beside, CardDetails(**details))
        publication.write_card(repo_id, None)
    return publication.notes


@dataclass(frozen=True)
class Publication:
    """A copy of what is published, and what its card can say.

    Attributes:
        staged: the folder of the copy.
        facts: for the card.
        notes: on what was left out.
    """

    staged: Path
    facts: ModelFacts
    notes: tuple[str, ...]

    def write_card(self, repo_id: str, token: str | None) -> None:
        """Add the card, and see that nothing secret is anywhere."""
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
        """Make the repository if need be, and commit the copy; arguments and errors as of `push_to_hub`."""
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
    """Check a model's folder, and copy what is published of it, the card left out.

    Args:
        folder: the model's.
        staged: an empty folder.
        details: what the owner says.

    Returns:
        The copy, without its card.

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError: as of `push_to_hub`.
    """
    if not folder.is_dir():
        missing = NotADirectoryError if folder.exists() else FileNotFoundError
        raise missing(f"A model's folder is pushed, but {folder} is {'a file' if folder.exists() else 'not there'}.")
    return read_whole(folder, lambda: _copy_what_is_published(folder, staged, details))


def _copy_what_is_published(folder: Path, staged: Path, details: CardDetails) -> Publication:
    for path in staged.iterdir():  # of a first try, if the folder was written to meanwhile
        path.unlink()
    model, tokenizer = load_model_and_tokenizer(folder)
    if not is_ours(model):
        raise ValueError(
            f"Models of ours are pushed, but {folder} holds one of type {model.config.model_type}. Convert it first: "
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
    notes = [f"Left out are scores of earlier weights ({', '.join(left_out)}): evaluate again."] if left_out else []
    if not current:
        notes.append("The card has no scores: `vanilla-transformer evaluate` makes them.")
    return current, notes


def _known_tokens(token: str | None = None) -> list[str]:
    return [known for known in (token, get_token()) if known]
