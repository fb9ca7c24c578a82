"""The manifest of a saved folder, written last: if a folder does not match its manifest, it was not saved completely.

A manifest is a JSON file with the size and SHA-256 of every other file in the folder and a digest of that list, plus
the step, the versions, and what the weights were trained on. It also lists the files of sharded states, which are in
folders of their own.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from .json_files import LARGEST_TABLE, read_json

MANIFEST_NAME = "manifest.json"
_FORMAT = 1


def write_manifest(
    folder: str | os.PathLike[str], about: Mapping[str, Any] | None = None, names: Iterable[str] | None = None
) -> None:
    """List the files of `folder` in its `manifest.json`, after flushing each of them to disk.

    Args:
        folder: a complete folder, which nobody is writing to.
        about: other entries of the manifest: step, versions, fingerprints.
        names: the files to list; defaults to all files, subfolders included.
    """
    folder = Path(folder)
    if names is None:
        found = (path for path in folder.rglob("*") if path.is_file())
        names = (path.relative_to(folder).as_posix() for path in found)
    files = {name: _seal(folder / name) for name in sorted(set(names) - {MANIFEST_NAME})}
    _put(folder, {**(about or {}), "files": files})


def renew_entry(folder: str | os.PathLike[str], name: str) -> None:
    """Update the entry of one file, such as a ledger that has grown; the other entries stay unchanged.

    Args:
        folder: a folder with a manifest that lists the file.
        name: name of the file.

    Raises:
        ValueError: the manifest is damaged.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    assert manifest is not None
    manifest["files"][name] = _seal(folder / name)
    _put(folder, manifest)


def _put(folder: Path, manifest: Mapping[str, Any]) -> None:
    manifest = {"format": _FORMAT, **manifest, "list": _digest(manifest["files"])}
    beside = folder / f".{MANIFEST_NAME}.tmp"
    beside.write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", encoding="utf-8", newline="\n")
    flush(beside)
    os.replace(beside, folder / MANIFEST_NAME)
    flush(folder)


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The manifest of `folder`, or None if it has none; a `manifest.json` of another kind does not count.

    Raises:
        ValueError: the manifest is truncated, of an unknown format, or names files outside the folder.
    """
    path = Path(folder) / MANIFEST_NAME
    try:
        manifest = read_json(path, LARGEST_TABLE)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged: it must list files with their sizes. Copy the folder again.") from error
    if isinstance(manifest, dict) and manifest and not {"format", "files"} & manifest.keys():
        return None  # a web page's, say
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise ValueError(f"{path} is damaged: it must list files with their sizes. Copy the folder again.")
    if manifest.get("format") != _FORMAT:
        raise ValueError(
            f"{path} must be of format {_FORMAT}, but is of format {manifest.get('format')}. Copy the folder again, "
            "or install a newer version of this package."
        )
    if manifest.get("list", _digest(manifest["files"])) != _digest(manifest["files"]):
        raise ValueError(f"{path} is damaged: it does not list what it listed. Copy the folder again.")
    if not all(_is_inside(name) and _is_seal(entry) for name, entry in manifest["files"].items()):
        raise ValueError(f"{path} is damaged: it names files outside its folder or without size and sha256.")
    return manifest


def damaged_files(folder: str | os.PathLike[str], names: Iterable[str] | None = None) -> list[str]:
    """What is wrong with the files of a folder that has a manifest, one phrase for each file; empty if all match.

    Args:
        folder: a folder with a manifest.
        names: check only these files; defaults to all that the manifest lists.

    Raises:
        ValueError: the manifest itself is damaged.
    """
    folder = Path(folder)
    files = (read_manifest(folder) or {"files": {}})["files"]
    wanted = files if names is None else {name: files[name] for name in names if name in files}
    problems = (_compare(folder / name, name, entry) for name, entry in wanted.items())
    return [problem for problem in problems if problem]


def _compare(path: Path, name: str, entry: Mapping[str, Any]) -> str | None:
    if not path.is_file():
        return f"{name} is missing"
    size = path.stat().st_size
    if size != entry["size"]:
        return f"{name} has {size:,} bytes instead of {entry['size']:,}"
    return None if sha256_of_file(path) == entry["sha256"] else f"{name} is not what was saved"


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _digest(files: Mapping[str, Any]) -> str:
    """Digest of the list itself, which can be damaged on disk too; earlier versions did not write one."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _is_seal(entry: Any) -> bool:
    is_entry = isinstance(entry, dict) and {"size", "sha256"} <= entry.keys()
    return is_entry and isinstance(entry["size"], int) and isinstance(entry["sha256"], str)


def _seal(path: Path) -> dict[str, Any]:
    flush(path)
    return {"size": path.stat().st_size, "sha256": sha256_of_file(path)}


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal; the file is read a megabyte at a time."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def flush(path: Path) -> None:
    """Have the system write a file or a folder's entries to disk, where it supports that."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders
        return
    may_write = not path.is_dir() and os.access(path, os.W_OK)  # Windows flushes only writable files
    descriptor = os.open(path, os.O_RDWR if may_write else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = [
    "MANIFEST_NAME",
    "damaged_files",
    "flush",
    "read_manifest",
    "renew_entry",
    "sha256_of_file",
    "write_manifest",
]
