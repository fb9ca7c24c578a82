"""Build one offline HTML file from plain contents, without torch or transformers.

Untrusted text enters the page in one place only, a JSON block that its content cannot end, and is displayed as text
nodes. A Content-Security-Policy allows only the page's own script and style, by their hashes, and no requests.
"""

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from math import prod
from typing import Any

from ..model.json_files import to_json
from .contents import Array, Attention, Contents, Layer, Token
from .positional_encodings import interleaved, two_halves
from .quantising import first_columns, quantise

STYLES = ("page.css", "panels.css", "pictures.css")
SCRIPTS = (
    *("data.js", "widgets.js", "heatmap.js", "overview.js", "stacks.js", "embeddings.js", "attention_steps.js"),
    *("layer.js", "heads.js", "decoding.js", "beam.js", "training.js", "main.js"),
)
LONGEST_PAGE = 2_900_000
"""Target size of a page in characters; numbers are rounded more coarsely to meet it."""
DETAILS = [(16, 16, 1024), (16, 16, 256), (8, 16, 1024), (8, 16, 256), (8, 16, 128), (8, 8, 128), (8, 8, 64)]
"""Bits of vectors, bits of attention, shown entries of vectors of width d_model or d_ff; from fine to coarse."""
DIGITS = 7
"""Significant digits of the numbers that are not quantised."""


def build_page(contents: Contents) -> str:
    """Build the whole page as one HTML string.

    Numbers are rounded as finely as a page of 2.9 MB allows; each section states the precision.

    Args:
        contents: what to show.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    data = page_data(contents)
    script = "\n".join(template(name) for name in SCRIPTS)
    style = "\n".join(template(name) for name in STYLES)
    policy = (
        f"default-src 'none'; script-src '{_hash_of(script)}'; style-src '{_hash_of(style)}'; base-uri 'none'; "
        "form-action 'none'"
    )
    parts = {
        "policy": html.escape(policy),
        "title": html.escape(contents.model),
        "style": style,
        "data": data,
        "script": script,
    }
    # one pass: inserted text is not searched again
    return re.sub(r"<!-- page:(\w+) -->", lambda match: parts[match[1]], template("page.html"))


@cache
def template(name: str) -> str:
    """Read a file from the folder `templates`."""
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def page_data(contents: Contents) -> str:
    """The data for the page's script: JSON without characters that have a meaning in HTML."""
    room = LONGEST_PAGE - _templates_length()
    # writing takes a second, so a precision whose arrays alone are too long is skipped
    for detail in [detail for detail in DETAILS if _length_of_arrays(contents, *detail) <= room] or DETAILS[-1:]:
        written = _escape(to_json(_written(contents, *detail), ensure_ascii=True, separators=(",", ":")))
        if len(written) <= room:
            break
    return written


def _length_of_arrays(contents: Contents, vector_bits: int, attention_bits: int, shown: int) -> float:
    """Number of characters for the arrays: four of base64 per three bytes."""
    vectors, weights = 0, 0
    for attention in contents.attention.values():
        for heads in attention.layers:
            weights += sum(len(each.values) for each in (heads.weights, heads.scores) if each)
            vectors += sum(len(each.values) for each in (heads.query, heads.key, heads.value, heads.output) if each)
    long = [stage.values for layers in contents.layers.values() for layer in layers for stage in layer.stages]
    long += [each for side in contents.embeddings.values() for each in (side.tokens, side.total)]
    vectors += sum(prod(each.shape[:-1]) * min(each.shape[-1], shown) for each in long)
    vectors += 3 * len(contents.positions.values.values) if contents.positions else 0
    return (vectors * vector_bits + weights * attention_bits) / 6


def _templates_length() -> int:
    return sum(len(template(name)) for name in (*SCRIPTS, *STYLES, "page.html"))


def _escape(text: str) -> str:
    """Escape HTML characters; non-ASCII ones, including line separators and lone surrogates, are escaped already."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _hash_of(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _written(contents: Contents, vector_bits: int, attention_bits: int, shown: int) -> dict[str, Any]:
    vectors = _Vectors(vector_bits, shown)
    return {
        "model": contents.model,
        "facts": [list(fact) for fact in contents.facts],
        "source": {"text": contents.source_text, "tokens": _tokens(contents.source)},
        "target": {"text": contents.target_text, "tokens": _tokens(contents.target)},
        "inputs": _tokens(contents.decoder_inputs),
        "attention": {
            kind: _attention(attention, kind, vector_bits, attention_bits)
            for kind, attention in contents.attention.items()
        },
        "layers": {side: [_layer(layer, vectors) for layer in layers] for side, layers in contents.layers.items()},
        "embeddings": {
            side: {"tokens": vectors.write(each.tokens), "total": vectors.write(each.total), "width": each.width}
            for side, each in contents.embeddings.items()
        },
        "positions": _positions(contents, vectors),
        "steps": _rounded([asdict(step) for step in contents.steps]),
        "beam": None if contents.beam is None else _rounded(asdict(contents.beam)),
        "training": _training(contents, attention_bits),
        "missing": dict(contents.missing),
    }


class _Vectors:
    """Writes long vectors, quantised and cut to the shown entries."""

    def __init__(self, bits: int, shown: int) -> None:
        self.bits, self.shown = bits, shown

    def write(self, numbers: Array) -> dict[str, Any]:
        return quantise(first_columns(numbers, self.shown), self.bits)


def _tokens(tokens: Sequence[Token]) -> list[dict[str, Any]]:
    return [asdict(token) for token in tokens]


def _attention(attention: Attention, kind: str, vector_bits: int, attention_bits: int) -> dict[str, Any]:
    layers = []
    for heads in attention.layers:
        written = {"weights": quantise(heads.weights, attention_bits, 0.0, 1.0)}
        if heads.scores is not None:
            written["scores"] = quantise(heads.scores, attention_bits)
        for name in ("query", "key", "value", "output"):
            numbers = getattr(heads, name)
            if numbers is not None:
                written[name] = quantise(numbers, vector_bits)
        layers.append(written)
    return {"scaling": attention.scaling, "causal": kind == "decoder", "layers": layers}


def _layer(layer: Layer, vectors: _Vectors) -> dict[str, Any]:
    stages = [
        {
            "kind": stage.kind,
            "sublayer": stage.sublayer,
            "values": vectors.write(stage.values),
            "width": stage.width,
            "mean": _rounded(list(stage.mean)),
            "deviation": _rounded(list(stage.deviation)),
            "active": list(stage.active),
        }
        for stage in layer.stages
    ]
    return {"parameters": layer.parameters, "stages": stages}


def _positions(contents: Contents, vectors: _Vectors) -> dict[str, Any] | None:
    if contents.positions is None:
        return None
    used = contents.positions.values
    count, d_model = used.shape
    low = min(-1.0, *used.values)
    high = max(1.0, *used.values)
    return {
        "name": contents.positions.name,
        "values": quantise(used, vectors.bits, low, high),
        "interleaved": quantise(interleaved(count, d_model), vectors.bits, -1.0, 1.0),
        "halves": quantise(two_halves(count, d_model), vectors.bits, -1.0, 1.0),
    }


def _training(contents: Contents, bits: int) -> dict[str, Any] | None:
    training = contents.training
    if training is None:
        return None
    written = asdict(training)
    if training.alignment is not None:
        written["alignment"] = quantise(training.alignment, bits, 0.0, 1.0)
    return _rounded(written)


def _rounded(value: Any) -> Any:
    """Round floats at any depth to `DIGITS` significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: inner if key in ("data", "step", "low") else _rounded(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(inner) for inner in value]
    return value
