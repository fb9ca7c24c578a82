"""Additions to `save_pretrained` and `from_pretrained`: model folders are written and read whole or not at all."""

import inspect
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from .manifest import MANIFEST_NAME
from .sound_folders import ADAPTER_CONFIG, UnsoundFolderError, read_whole, require_sound_download
from .weight_headers import require_fitting_weights
from .whole_folders import replaced_files


class CheckedFolders:
    """Mixin for a `PreTrainedModel`: folders are written and read whole or not at all, with the umask's file modes."""

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As in `PreTrainedModel`, but the folder keeps its old content until everything is written.

        The folder has no manifest afterwards. If the model has adapters (`add_adapter`), only the adapters are saved,
        as with any model of `transformers`.

        Raises:
            NotADirectoryError: the path is a file.
        """
        save = super().save_pretrained  # type: ignore[misc]
        given = inspect.signature(save).bind(*args, **kwargs)
        options = {**given.arguments, **given.arguments.pop("kwargs", {})}
        folder = Path(options.pop("save_directory"))
        writes = getattr(self, "should_save_on_this_rank", bool)  # since transformers 5.20
        if not writes(options.get("is_main_process", True)):
            save(folder, **options)  # writes nothing
            return
        if options.get("distributed_checkpoint"):  # every process writes its part into the folder itself
            (folder / MANIFEST_NAME).unlink(missing_ok=True)
            save(folder, **options)
            return
        if options.get("push_to_hub"):
            options.setdefault("repo_id", folder.name)
        with replaced_files(folder) as beside:
            save(beside, **options)
            give_weights_the_mode_of_the_config(beside)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *model_args: Any, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """As in `PreTrainedModel`, but a folder that differs from what was saved is an error.

        Raises:
            ValueError: weights, configs or tokenizer differ from the folder's manifest, if it has one; weights hold
                infinities or NaN; weights are missing, unless `output_loading_info` asks for their names; or another
                process wrote to the folder during both attempts to read it.
        """
        name = pretrained_model_name_or_path
        from_files = name is not None and kwargs.get("state_dict") is None
        folder = Path(name, kwargs.get("subfolder") or "") if from_files and os.path.isdir(name) else None

        def read() -> tuple[Any, dict[str, Any]]:
            if folder is not None:
                require_fitting_weights(folder, reads_config=kwargs.get("config") is None)
            return super(CheckedFolders, cls).from_pretrained(  # type: ignore[misc]
                name, *model_args, output_loading_info=True, **kwargs
            )

        if not from_files:
            model, report = read()
        else:
            if folder is not None:
                model, report = read_whole(folder, read)
            else:
                model, report = read()
                require_sound_download(str(name), kwargs)
            require_finite_weights(model, str(name))
            _require_all_weights(() if output_loading_info else report["missing_keys"], str(name))
        return (model, report) if output_loading_info else model


def require_no_adapters(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder that holds adapters: its weights, if any, are only part of the model.

    Raises:
        ValueError: the folder holds adapters.
    """
    if (Path(folder) / ADAPTER_CONFIG).is_file():
        raise UnsoundFolderError(
            f"{folder} holds adapters ({ADAPTER_CONFIG}), which are not the weights of a whole model. Load it, merge "
            "them with PEFT's `merge_and_unload()`, and save the model to a new folder."
        )


def _require_all_weights(missing: Iterable[str], name: str) -> None:
    """Refuse missing tensors, which `transformers` would fill with random numbers."""
    names = sorted(missing)
    if names:
        more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
        raise UnsoundFolderError(
            f"The weights in {name} lack {', '.join(names[:3])}{more}, which would be random. Check that config and "
            "weights come from the same model, or pass `output_loading_info=True` to train what is missing."
        )


def require_finite_weights(model: torch.nn.Module, name: str) -> None:
    """Refuse a model whose weights hold infinities, NaN, or numbers so large that the computation overflows.

    Raises:
        ValueError: there are such numbers.
    """
    parts = ((key, part) for key, tensor in model.state_dict().items() for part in _plain_parts(tensor))
    for tensor_name, part in parts:
        largest, is_bias = _largest(part), part.dim() < 2 or part.shape[0] == 1  # Marian's has a first dimension of 1
        if not largest <= (LARGEST_BIAS if is_bias else LARGEST_WEIGHT):  # or it is NaN
            what = f"numbers of {largest:.0e}, which overflow," if math.isfinite(largest) else "infinities or NaN"
            raise UnsoundFolderError(
                f"The weights in {name} hold {what} in {tensor_name}. Take another checkpoint, or train again with a "
                "lower learning rate."
            )


def _plain_parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The plain tensors inside a tensor: this process's shard, or the numbers and scales of a quantised tensor."""
    if hasattr(tensor, "to_local"):
        yield from _plain_parts(tensor.to_local())
    elif hasattr(tensor, "__tensor_flatten__"):
        for part in tensor.__tensor_flatten__()[0]:
            yield from _plain_parts(getattr(tensor, part))
    else:
        yield tensor


LARGEST_WEIGHT, LARGEST_BIAS = 1e6, 1e10
"""Trained weights are below 1e4, and a bias that forbids a token is -1e9. Two matrices of 1e7 in a row give numbers
whose squares, which LayerNorm computes, overflow float32."""


def _largest(tensor: torch.Tensor) -> float:
    """The largest absolute value; NaN if the tensor holds one."""
    if not tensor.is_floating_point() or tensor.is_meta or not tensor.numel():
        return 0.0
    tensor = tensor.float() if tensor.element_size() == 1 else tensor  # torch cannot compare 8-bit floats
    low, high = (float(end) for end in tensor.detach().aminmax())
    return high if math.isnan(high) else max(-low, high)


def give_weights_the_mode_of_the_config(folder: Path) -> None:
    """Give weights the file mode of the config, which follows the umask: safetensors makes them private."""
    configs = [folder / name for name in ("config.json", ADAPTER_CONFIG) if (folder / name).is_file()]
    if not configs:
        return
    mode = configs[0].stat().st_mode & 0o777
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)


__all__ = [
    "CheckedFolders",
    "give_weights_the_mode_of_the_config",
    "require_finite_weights",
    "require_no_adapters",
]
