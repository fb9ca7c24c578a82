"""Is a model's folder complete and undamaged? Checks without running the model."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ..model.manifest import MANIFEST_NAME, damaged_files, read_manifest
from ..model.sound_folders import unsound_files
from .findings import Finding, Outcome, Patient

NAMES_SHOWN = 5


def check_manifest(folder: Path, accept: Sequence[str] = ()) -> Finding:
    """Whether every file is as saved, or accepted as changed."""
    name = "manifest"
    try:
        manifest = read_manifest(folder)
        unsound = unsound_files(folder) or {}
        problems = [problem for file, problem in unsound.items() if file not in accept]
        others = [problem for problem in damaged_files(folder) if problem not in problems]
    except ValueError as error:
        outcome: Outcome = "note" if MANIFEST_NAME in accept else "fail"
        return Finding(name, outcome, str(error), "Copy or download the folder again.")
    if manifest is None:
        return Finding(name, "note", f"there is no {MANIFEST_NAME}: changed files cannot be detected", "--seal")
    if problems:
        remedy = "Copy or download the folder again; or, if the change is intended, seal it: --seal " + " ".join(
            f"--accept {file}" for file in unsound
        )
        return Finding(name, "fail", listed(problems), remedy)
    if others:
        return Finding(name, "note", listed(others), "accepted" if accept else "which changes no output")
    return Finding(name, "pass", f"{len(manifest['files'])} files are as saved")


def check_finite_weights(folder: Path) -> Finding:
    """Whether all weights are finite."""
    name = "finite weights"
    wrong, count = [], 0
    try:
        for tensor_name, tensor in saved_tensors(folder):
            count += tensor.numel()
            if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
                wrong.append(tensor_name)
    except (SafetensorError, OSError) as error:
        return Finding(name, "fail", f"the weights cannot be read: {error}", "Copy or download them again.")
    if not count:
        return Finding(name, "fail", f"{folder} holds no *.safetensors", "Save the model with `save_pretrained`.")
    if wrong:
        return Finding(
            name, "fail", f"infinities or NaN in {listed(wrong)}", "Use another checkpoint, or train again."
        )
    return Finding(name, "pass", f"{count:,} numbers")


def check_complete_weights(patient: Patient) -> Finding:
    """Whether the file holds exactly the tensors that the config describes."""
    name = "complete weights"
    problems = []
    for key, what in (
        ("missing_keys", "lacks"),
        ("unexpected_keys", "has the unexpected"),
        ("mismatched_keys", "has the wrong shape for"),
    ):
        names = sorted(entry if isinstance(entry, str) else entry[0] for entry in patient.report.get(key) or ())
        if names:
            problems.append(f"the file {what} {listed(names)}")
    if problems:
        remedy = "Check that config.json and the weights come from the same model; missing weights would be random."
        return Finding(name, "fail", "; ".join(problems), remedy)
    return Finding(name, "pass", f"{len(patient.model.state_dict())} tensors, each in its place")


def check_ties(patient: Patient) -> Finding:
    """Whether weights that the config ties are shared in memory and equal in the file."""
    name = "ties"
    ties = meant_ties(patient)
    if not ties:
        return Finding(name, "pass", "the config ties none")
    weights = dict(patient.model.named_parameters(remove_duplicate=False))
    apart = [
        f"{one} and {other}"
        for one, other in sorted(ties.items())
        if one in weights and other in weights and weights[one].data_ptr() != weights[other].data_ptr()
    ]
    saved = {key: tensor for key, tensor in saved_tensors(patient.folder) if key in {*ties, *ties.values()}}
    apart += [
        f"{one} and {other} in the file"
        for one, other in sorted(ties.items())
        if one in saved and other in saved and not torch.equal(saved[one], saved[other])
    ]
    if apart:
        remedy = (
            "The config says that they are tied. Set `tie_word_embeddings` (and, for this package's models, "
            "`share_encoder_decoder_embeddings`) as the model was trained, or take the weights from another copy."
        )
        return Finding(name, "fail", listed(list(dict.fromkeys(apart))), remedy)
    return Finding(name, "pass", f"{len(ties)} weights share the memory of another")


def meant_ties(patient: Patient) -> dict[str, str]:
    """The ties that the config alone asks for: `from_pretrained` drops ties of weights that differ in the file."""
    config = type(patient.model.config).from_pretrained(patient.folder)
    with torch.device("meta"):
        return dict(type(patient.model)(config).all_tied_weights_keys)


def saved_tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor in a folder."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - a file is not a dict
                yield key, file.get_tensor(key)


def listed(names: list[str]) -> str:
    """List up to five names, and the number of further ones."""
    more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
