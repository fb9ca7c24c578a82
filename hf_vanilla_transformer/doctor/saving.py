"""Is a model bit-identical after saving and loading?"""

import tempfile
from pathlib import Path

import torch

from ..model.sound_folders import trusting
from ..translation.loading import load_model
from .decoding import batched
from .files import listed
from .findings import Finding, Patient


def check_saving(patient: Patient) -> Finding:
    """Whether weights and log-probabilities are bit-identical after saving and loading."""
    name = "save and load"
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        patient.model.save_pretrained(folder)
        with trusting(folder):
            again = load_model(Path(folder))
    remedy = "Part of the model is not saved: every tensor must be a parameter or a persistent buffer."
    before, after = patient.model.state_dict(), again.state_dict()
    changed = sorted(key for key in before | after if not same(before.get(key), after.get(key)))
    if changed:
        return Finding(name, "fail", f"{listed(changed)} changed", remedy)
    ids, mask = batched(patient.source_ids, patient.pad)
    decoder_ids = torch.full_like(ids[:, :1], patient.start)
    with torch.inference_mode():
        logits = [
            model.eval()(input_ids=ids, attention_mask=mask, decoder_input_ids=decoder_ids).logits
            for model in (patient.model, again)
        ]
    if not same(*logits):
        return Finding(name, "fail", "the same weights give other logits", remedy)
    return Finding(name, "pass", f"{len(before)} tensors and the logits are bit-identical")


def same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    """Whether two tensors are bit-identical, NaN included."""
    if one is None or other is None or one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
