"""Check that a folder's config fits its weights, before a model is built.

A model is built with the sizes of its config before any weight is read. The header of a safetensors file tells the
dtype and shape of each tensor, so a config that asks for more than the weights hold is refused at no cost.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .configuration_vanilla_transformer import LARGEST, MOST_LABELS
from .json_files import parse_json, read_json, read_json_object

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LARGEST_HEADER = 100_000_000
"""Maximum size of a header in bytes, the limit of safetensors itself."""
MOST_POSITIONS = 2**28
"""Maximum size of a table of positions that is computed when a model is built rather than read."""
WIDTHS = ("d_model", "hidden_size")
LAYERS = ("encoder_layers", "decoder_layers", "num_layers", "num_decoder_layers", "num_hidden_layers")
INNER = ("encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "intermediate_size")
HEADS = ("encoder_attention_heads", "decoder_attention_heads", "num_heads", "num_attention_heads")
HEAD_WIDTHS = ("head_dim", "value_head_dim", "d_kv")
WORDS = ("vocab_size", "src_vocab_size", "tgt_vocab_size", "decoder_vocab_size")
"""Names of sizes in the configs of encoder-decoders in `transformers`."""
_COUNTERS = ("position_ids", "token_type_ids")
"""Name endings of integer tensors that older models save with their weights."""


def require_fitting_weights(folder: str | os.PathLike[str], reads_config: bool = True) -> None:
    """Refuse a folder whose weights are not floating-point, or whose config asks for more than the weights hold.

    Files that cannot be read are accepted here, since the loader reports them. So are quantised weights, which are
    packed.

    Args:
        folder: a model folder.
        reads_config: whether the model is built from the folder's own config.

    Raises:
        ValueError: as above, or the config is not valid JSON.
    """
    folder = Path(folder)
    names = ("config.json", "generation_config.json")
    configs = [read_json_object(folder / name) if (folder / name).is_file() else {} for name in names]
    tensors = _tensors(folder)
    if tensors is None or configs[0].get("quantization_config") is not None:
        return
    _require_fractions(tensors, folder)
    if reads_config:
        _require_enough(configs[0], tensors, folder)


def _tensors(folder: Path) -> dict[str, tuple[str, list[int]]] | None:
    """Dtype and shape of each tensor; None if a file cannot be read as safetensors."""
    names = [WEIGHTS]
    found: dict[str, tuple[str, list[int]]] = {}
    try:
        if not (folder / WEIGHTS).is_file():
            names = sorted({Path(name).name for name in read_json(folder / INDEX)["weight_map"].values()})
        for name in names:
            for tensor, about in _header(folder / name).items():
                if tensor != "__metadata__":
                    found[tensor] = (str(about["dtype"]), [int(size) for size in about["shape"]])
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None
    return found


def _header(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > LARGEST_HEADER:
            raise ValueError(f"a header of {size:,} bytes")
        return parse_json(file.read(size))


def _require_fractions(tensors: Mapping[str, tuple[str, list[int]]], folder: Path) -> None:
    whole = [
        f"{name} ({kind})"
        for name, (kind, _) in sorted(tensors.items())
        if not kind.startswith(("F", "BF")) and not name.endswith(_COUNTERS)
    ]
    if whole:
        more = f" and {len(whole) - 3:,} more" if len(whole) > 3 else ""
        raise ValueError(
            f"The weights in {folder} must be floating-point numbers, since its config.json has no quantisation, "
            f"but there are {', '.join(whole[:3])}{more}. Use the weights as they were trained."
        )


def _require_enough(config: Mapping[str, Any], tensors: Mapping[str, tuple[str, list[int]]], folder: Path) -> None:
    held = sum(math.prod(shape) for _, shape in tensors.values())
    sizes = {name: value for name, value in config.items() if isinstance(value, int) and not isinstance(value, bool)}
    for name, most in (*((name, min(len(tensors), LARGEST["encoder_layers"])) for name in LAYERS), *_FIXED):
        if sizes.get(name, 0) > most:
            raise _too_large(folder, f"{name} {sizes[name]:,}", f"{len(tensors):,} tensors")
    width = max((sizes.get(name, 0) for name in WIDTHS), default=0)
    heads = max(sizes.get(name, 1) for name in HEADS)
    # each of these products is the size of one or more matrices
    factors = [*((name, 1) for name in WORDS), *((name, heads) for name in HEAD_WIDTHS)]
    factors += [(name, max(sizes.get(layers, 1) for layers in _layers_of(name))) for name in INNER]
    for name, times in factors:
        if sizes.get(name, 0) * times * width > held:
            said = f"{name} {sizes[name]:,} and a width of {width:,}" + (f", {times:,} times" if times > 1 else "")
            raise _too_large(folder, said, f"{held:,} numbers")
    positions, encoding = sizes.get("max_position_embeddings", 0), config.get("positional_encoding")
    most = held if encoding == "learned" else max(held, MOST_POSITIONS)
    if positions * width > most and encoding in (None, "learned"):  # our sinusoids grow as needed
        raise _too_large(folder, f"max_position_embeddings {positions:,}", f"{held:,} numbers")


_FIXED = (("num_labels", MOST_LABELS),)


def _layers_of(inner: str) -> tuple[str, ...]:
    """Config names of the number of layers that have this inner width."""
    side = inner.partition("_ffn_dim")[0]
    return (f"{side}_layers",) if inner.endswith("_ffn_dim") else ("num_layers", "num_hidden_layers")


def _too_large(folder: Path, asked: str, held: str) -> ValueError:
    return ValueError(
        f"The config.json of {folder} asks for a larger model than its weights are: {asked}, but they hold {held}. "
        "Check that both files come from the same model."
    )


__all__ = ["require_fitting_weights"]
