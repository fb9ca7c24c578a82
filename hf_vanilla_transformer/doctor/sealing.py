"""Seal a folder: write the manifest that every loader checks. Only this command seals files that have changed."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..model.manifest import MANIFEST_NAME, read_manifest, write_manifest
from ..model.sound_folders import files_that_change_outputs, unsound_files
from .findings import Finding

NEEDED = ("finite weights", "loads", "complete weights")
"""Checks that a folder must pass before it is sealed."""


def require_sealable(folder: str | os.PathLike[str], accept: Sequence[str] = ()) -> None:
    """Check, before the examination, that all changed files are accepted.

    Args:
        folder: a model's folder.
        accept: files that may differ from the folder's manifest.

    Raises:
        NotADirectoryError: `folder` is not a local folder.
        ValueError: files differ and are not accepted, or are accepted and do not differ; or the manifest is damaged
            and not accepted.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(
            f"Only a local folder can be sealed, but {folder} is not one. Download the model first."
        )
    problems = _differing(folder, accept) or {}
    unknown = [name for name in accept if name not in problems and name != MANIFEST_NAME]
    if unknown:
        raise ValueError(
            f"Only a file that differs from the manifest can be accepted, but {', '.join(unknown)} does not differ. "
            f"Leave out {' '.join(f'--accept {name}' for name in unknown)}."
        )
    refused = {name: problem for name, problem in problems.items() if name not in accept}
    if refused:
        raise ValueError(
            f"{folder} is sealed with the files that its {MANIFEST_NAME} lists, but {', '.join(refused.values())}. If "
            f"that is intended, give {' '.join(f'--accept {name}' for name in refused)}"
        )


def seal(folder: str | os.PathLike[str], accept: Sequence[str], findings: Sequence[Finding]) -> Path | None:
    """Write the manifest of an examined folder.

    Args:
        folder, accept: as in `require_sealable`, which is called again.
        findings: the findings of `examine`.

    Returns:
        The path of the manifest, or None if a required check failed.

    Raises:
        NotADirectoryError, ValueError: as in `require_sealable`.
    """
    folder = Path(folder)
    require_sealable(folder, accept)
    if any(finding.outcome != "pass" for finding in findings if finding.check in NEEDED):
        return None
    before = _manifest_to_keep(folder, accept)
    names = {name for name in before.pop("files", {}) if (folder / name).is_file()}
    write_manifest(folder, {**before, **_accepted(before, accept)}, names | set(files_that_change_outputs(folder)))
    return folder / MANIFEST_NAME


def _differing(folder: Path, accept: Sequence[str]) -> dict[str, str] | None:
    if MANIFEST_NAME not in accept:
        return unsound_files(folder)
    try:
        return unsound_files(folder)
    except ValueError:  # damaged, and accepted as lost
        return None


def _manifest_to_keep(folder: Path, accept: Sequence[str]) -> dict[str, Any]:
    try:
        return dict(read_manifest(folder) or {})
    except ValueError:
        if MANIFEST_NAME not in accept:
            raise
        return {}


def _accepted(before: dict[str, Any], accept: Sequence[str]) -> dict[str, list[str]]:
    """The manifest's record of files that were accepted after a change."""
    names = sorted({*before.get("accepted", ()), *accept})
    return {"accepted": names} if names else {}
