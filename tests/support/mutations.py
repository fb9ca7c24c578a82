"""Damage to the files of a model's folder, chosen by a seed: what disks, copies and editors do to them."""

import json
import random
from pathlib import Path
from typing import Any

ADDED = {
    "adapter_config.json": '{"peft_type": "LORA"}',
    "added_tokens.json": '{"<other>": 5}',
    "model-00001-of-00002.safetensors": "",
    "special_tokens_map.json": '{"eos_token": "a"}',
    "vocab.json": '{"a": 0}',
}
"""Files that a loader would read if somebody added them."""


def mutate(folder: Path, seed: int, other: Path) -> str:
    """Change one file of a folder for certain.

    Args:
        folder: to damage.
        seed: which file, and how.
        other: a folder of another model, to take files from.

    Returns:
        What was done.
    """
    rng = random.Random(seed)
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != "manifest.json")
    path = folder / rng.choice(names)
    how = rng.choice([_flip_a_bit, _cut, _repeat, _append, _edit, _take_from, _remove, _add])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = how(path, rng, other)
    if {path.name: path.read_bytes() for path in folder.iterdir()} == before:
        done = _flip_a_bit(path, rng, other)
    return f"seed {seed}: {done}"


def _flip_a_bit(path: Path, rng: random.Random, other: Path) -> str:
    data = bytearray(path.read_bytes())
    place = rng.randrange(len(data))
    data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return f"a bit of byte {place} in {path.name} flipped"


def _cut(path: Path, rng: random.Random, other: Path) -> str:
    data = path.read_bytes()
    start = rng.randrange(len(data))
    path.write_bytes(data[:start] + data[start + rng.choice([1, 20, len(data)]) :])
    return f"{path.name} cut at byte {start}"


def _repeat(path: Path, rng: random.Random, other: Path) -> str:
    data = path.read_bytes()
    start = rng.randrange(len(data))
    path.write_bytes(data[:start] + data[start : start + 40] + data[start:])
    return f"bytes of {path.name} repeated from {start}"


def _append(path: Path, rng: random.Random, other: Path) -> str:
    path.write_bytes(path.read_bytes() + b"\n")
    return f"a line added to {path.name}"


def _edit(path: Path, rng: random.Random, other: Path) -> str:
    """What a person with an editor does: the file stays JSON."""
    if path.suffix != ".json":
        return _flip_a_bit(path, rng, other)
    content = json.loads(path.read_text(encoding="utf-8"))
    leaves: list[tuple[Any, Any]] = []
    _collect_leaves(content, leaves)
    parent, key = rng.choice(leaves)
    value = parent[key]
    changed = {bool: not value, str: f"{value}x"}.get(type(value), 7 if value is None else None)
    parent[key] = value + 1 if isinstance(value, (int, float)) and not isinstance(value, bool) else changed
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return f"{key} of {path.name} changed from {value!r} to {parent[key]!r}"


def _collect_leaves(content: Any, leaves: list[tuple[Any, Any]]) -> None:
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        if isinstance(value, (dict, list)):
            _collect_leaves(value, leaves)
        else:
            leaves.append((content, key))


def _take_from(path: Path, rng: random.Random, other: Path) -> str:
    if not (other / path.name).is_file():
        return _append(path, rng, other)
    path.write_bytes((other / path.name).read_bytes())
    return f"{path.name} taken from another model"


def _remove(path: Path, rng: random.Random, other: Path) -> str:
    path.unlink()
    return f"{path.name} removed"


def _add(path: Path, rng: random.Random, other: Path) -> str:
    name = rng.choice(sorted(ADDED))
    (path.parent / name).write_text(ADDED[name])
    return f"{name} added"
