"""What a saved folder holds, written last of all: a folder that its manifest does not verify was not saved whole.

A manifest is a JSON file with the size and SHA-256 of every other file of the folder, the step, the versions, and what
the weights were trained on. Sharded states keep their own folders; a manifest lists these files too.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from transformers.utils import cached_file

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"
ADAPTER_CONFIG = "adapter_config.json"
"""PEFT's name for the config of adapters, which are trained beside the weights of another folder."""
_FORMAT = 1


def write_manifest(folder: str | os.PathLike[str], about: Mapping[str, Any] | None = None) -> None:
    """List all files of `folder`, those of its folders too, in its `manifest.json`; every one is on the disk by then.

    Args:
        folder: a folder that nobody writes to any more.
        about: what else the manifest says: step, versions, fingerprints.
    """
    folder = Path(folder)
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): _seal(path) for path in paths}
    manifest = {"format": _FORMAT, **(about or {}), "files": files}
    beside = folder / f".{MANIFEST_NAME}.tmp"
    beside.write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", encoding="utf-8", newline="\n")
    _flush(beside)
    os.replace(beside, folder / MANIFEST_NAME)
    _flush(folder)


@contextmanager
def sealed_folder(output: str | os.PathLike[str], about: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """Where to write what becomes the folder `output`, sealed and whole; if that fails there is no such folder.

    Args:
        output: the folder to make; may exist if it is empty. Folders above it are made too, and not left behind.
        about: as of `write_manifest`.

    Raises:
        FileExistsError: as of `require_empty_folder`.
    """
    require_empty_folder(output)
    output = Path(output).resolve()  # a link stays, and what it points to is made
    made = [folder for folder in output.parents if not folder.exists()]  # innermost first
    beside = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    done = False
    try:
        beside.mkdir(parents=True)
        yield beside
        write_manifest(beside, about)
        if output.exists():
            output.rmdir()
        os.replace(beside, output)
        done = True
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        for folder in () if done else made:
            with suppress(OSError):  # somebody else wrote there meanwhile
                folder.rmdir()


def require_empty_folder(output: str | os.PathLike[str]) -> None:
    """Refuse to write where something is, or where no folder can be put, before long work is done.

    Raises:
        FileExistsError: `output` is a file, a folder that holds something, the folder that this process is in, or
            where a disk is mounted.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"A new folder is needed, but {output} exists and is not empty. Name another.")
    where = output.resolve()
    if where == Path.cwd() or os.path.ismount(where):
        what = "where a disk is mounted" if os.path.ismount(where) else "the folder you are in"
        raise FileExistsError(f"A new folder is needed, but {output} is {what}. Name one inside it.")


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The manifest of `folder`, or None if it has none.

    Raises:
        ValueError: it is cut off, or names files outside the folder.
    """
    path = Path(folder) / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files = manifest["files"]
        inside = all(_is_inside(name) and {"size", "sha256"} <= entry.keys() for name, entry in files.items())
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: it must list files with their sizes. Copy the folder again.") from error
    if not inside:
        raise ValueError(f"{path} is damaged: it names files outside its folder or without size and sha256.")
    return manifest


def damaged_files(folder: str | os.PathLike[str], names: Iterable[str] | None = None) -> list[str]:
    """What is wrong with the files of a folder that has a manifest, one phrase each; empty if nothing is.

    Args:
        folder: holds a manifest.
        names: only these files; all that the manifest lists if not given.

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


def _seal(path: Path) -> dict[str, Any]:
    _flush(path)
    return {"size": path.stat().st_size, "sha256": sha256_of_file(path)}


def sha256_of_file(path: Path) -> str:
    """Hexadecimal digits of a file's SHA-256, read a megabyte at a time."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    """Have the system write a file or a folder's entries to the disk, where it knows how to."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Models


class CheckedFolders:
    """Mixed into a `PreTrainedModel`: its folders load whole or not at all, and as the umask says."""

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As in `PreTrainedModel`; takes away the manifest of the weights that it replaces.

        Of a model with adapters (`add_adapter`) these alone are saved, as of any other model.
        """
        folder = Path(args[0] if args else kwargs["save_directory"])
        is_writer = kwargs.get("is_main_process", True)
        if is_writer:
            (folder / MANIFEST_NAME).unlink(missing_ok=True)
        super().save_pretrained(*args, **kwargs)  # type: ignore[misc]
        if is_writer:
            give_weights_the_mode_of_the_config(folder)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *model_args: Any, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """As in `PreTrainedModel`, but damaged weights are an error.

        Raises:
            ValueError: weights differ from the folder's manifest, if it has one; hold infinities or NaN; or are
                missing, unless `output_loading_info` asks for their names.
        """
        name = pretrained_model_name_or_path
        from_files = name is not None and kwargs.get("state_dict") is None
        local = from_files and os.path.isdir(name)
        if local:
            require_sound_files(Path(name) / (kwargs.get("subfolder") or ""))
        model, report = super().from_pretrained(  # type: ignore[misc]
            name, *model_args, output_loading_info=True, **kwargs
        )
        if from_files and not local:
            _require_sound_download(str(name), kwargs)
        if from_files:
            require_finite_weights(model, str(name))
            _require_all_weights(() if output_loading_info else report["missing_keys"], str(name))
        return (model, report) if output_loading_info else model


def require_no_adapters(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder with adapters in it: its weights, if it has any, are not all that its model computes with.

    Raises:
        ValueError: it holds some.
    """
    if (Path(folder) / ADAPTER_CONFIG).is_file():
        raise ValueError(
            f"{folder} holds adapters ({ADAPTER_CONFIG}), which are not the weights of a whole model. Load it, merge "
            "them by PEFT's `merge_and_unload()`, and save the model to a new folder."
        )


def require_sound_files(folder: str | os.PathLike[str], complete: bool = True) -> None:
    """Compare what `from_pretrained` reads of a folder with its manifest; a folder without one is let pass.

    Args:
        folder: a model folder.
        complete: whether every file must be there; a download holds only those that were asked for.

    Raises:
        ValueError: weights are missing or differ. A config that differs is warned of: people edit these.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        logger.info(f"{folder} has no {MANIFEST_NAME}; its files are taken as they are.")
        return
    names = [name for name in manifest["files"] if complete or (Path(folder) / name).is_file()]
    problems = damaged_files(folder, (name for name in names if name.endswith(_WEIGHTS)))
    if problems:
        raise ValueError(
            f"The weights in {folder} are not those that were saved there: {', '.join(problems[:3])}. Copy or "
            f"download the folder again; after a change of your own, delete its {MANIFEST_NAME}."
        )
    for problem in damaged_files(folder, (name for name in names if name in _CONFIGS)):
        logger.warning(f"{folder}: {problem}, by {MANIFEST_NAME}. Delete that file if the change was yours.")


_WEIGHTS = (".safetensors", ".safetensors.index.json")
_CONFIGS = ("config.json", "generation_config.json")


def _require_sound_download(repository: str, options: Mapping[str, Any]) -> None:
    known = ("cache_dir", "revision", "token", "local_files_only")
    manifest = cached_file(
        repository,
        MANIFEST_NAME,
        subfolder=options.get("subfolder") or "",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **{name: options[name] for name in known if name in options},
    )
    if manifest is not None:
        require_sound_files(Path(manifest).parent, complete=False)


def _require_all_weights(missing: Iterable[str], name: str) -> None:
    """`transformers` fills missing tensors with random numbers."""
    names = sorted(missing)
    if names:
        more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
        raise ValueError(
            f"The weights in {name} lack {', '.join(names[:3])}{more}, which would be random. Check that config and "
            "weights come from the same model, or pass `output_loading_info=True` to train what is missing."
        )


def require_finite_weights(model: torch.nn.Module, name: str) -> None:
    """Refuse a model with infinities or NaN among its weights.

    Raises:
        ValueError: there are some.
    """
    for tensor_name, tensor in model.state_dict().items():
        if not all(map(_is_finite, _plain_parts(tensor))):
            raise ValueError(
                f"The weights in {name} hold infinities or NaN in {tensor_name}. Take another checkpoint, or train "
                "again with a lower learning rate."
            )


def _plain_parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """What a tensor is made of: of a sharded one this process's shard, of a quantised one its numbers and scales."""
    if hasattr(tensor, "to_local"):
        yield from _plain_parts(tensor.to_local())
    elif hasattr(tensor, "__tensor_flatten__"):
        for part in tensor.__tensor_flatten__()[0]:
            yield from _plain_parts(getattr(tensor, part))
    else:
        yield tensor


def _is_finite(tensor: torch.Tensor) -> bool:
    if not tensor.is_floating_point() or tensor.is_meta:
        return True
    tensor = tensor.float() if tensor.element_size() == 1 else tensor  # torch compares no numbers of 8 bits
    return bool(torch.isfinite(tensor).all())


def give_weights_the_mode_of_the_config(folder: Path) -> None:
    """safetensors writes files that only their owner can read; the umask asked for what the config got."""
    configs = [folder / name for name in ("config.json", ADAPTER_CONFIG) if (folder / name).is_file()]
    if not configs:
        return
    mode = configs[0].stat().st_mode & 0o777
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)


__all__ = [
    "ADAPTER_CONFIG",
    "MANIFEST_NAME",
    "CheckedFolders",
    "damaged_files",
    "give_weights_the_mode_of_the_config",
    "read_manifest",
    "require_empty_folder",
    "require_finite_weights",
    "require_no_adapters",
    "require_sound_files",
    "sealed_folder",
    "sha256_of_file",
    "write_manifest",
]
