"""Greedy decoding of an exported model with only onnxruntime and numpy; every export contains a copy of this file.

`OnnxTranslator(folder).generate(input_ids, attention_mask)` returns the same tokens as `generate(num_beams=1,
do_sample=False)`. `encoder.onnx` reads the source once and returns the keys and values of encoder-decoder attention;
`decoder.onnx` is one step: it reads the last token, those keys and values, and those of the past.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike

HONOURED = {
    *("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id"),
    *("max_length", "max_new_tokens", "max_extra_tokens", "min_length", "min_new_tokens"),
    *("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id"),
}
NO_MATTER = {  # settings that do not change the most probable token
    *("num_beams", "length_penalty", "early_stopping", "renormalize_logits", "use_cache", "transformers_version"),
    *(
        "do_sample",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
        "epsilon_cutoff",
        "eta_cutoff",
        "num_return_sequences",
    ),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
    *("gnmt_length_penalty", "coverage_penalty", "cache_implementation", "compile_config", "disable_compile"),
}
NEUTRAL = {"repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
DEFAULT_MAX_LENGTH = 20  # of `generate`, start token included


def refuse_unknown_settings(settings: dict[str, Any]) -> None:
    """Refuse settings that would change the most probable token but are not implemented here.

    Raises:
        ValueError: there is such a setting.
    """
    unknown = sorted(
        name
        for name, value in settings.items()
        if name not in HONOURED | NO_MATTER
        and not name.startswith("_")
        and value not in (None, False, [], {}, NEUTRAL.get(name))
    )
    if unknown:
        raise ValueError(
            f"Greedy decoding in onnxruntime supports the settings {', '.join(sorted(HONOURED))}, but the generation "
            f"config also has {', '.join(unknown)}. Remove these from generation_config.json."
        )


def _require_as_exported(folder: Path) -> None:
    """Compare all files with the export's manifest; without a manifest nothing is compared."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return
    try:
        sealed = {
            str(name): str(entry["sha256"]) for name, entry in json.loads(manifest.read_bytes())["files"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{manifest} is damaged: it must list files with their sha256. Export again.") from error
    changed = [name for name, sha256 in sealed.items() if _sha256(folder / name) != sha256]
    if changed:
        raise ValueError(
            f"{folder} must hold what was exported there, but {', '.join(changed[:3])} differs from manifest.json. "
            "Export again, or delete manifest.json if you made the change."
        )


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class OnnxTranslator:
    """An exported model in onnxruntime.

    Args:
        folder: a folder written by `export --to onnx`.
        providers: providers of onnxruntime, e.g. `["CUDAExecutionProvider"]`; the CPU by default.

    Raises:
        FileNotFoundError: a file of the export is missing.
        ValueError: the generation config has settings that are not supported here, or a file has changed since the
            export.
    """

    def __init__(self, folder: str | os.PathLike[str], providers: Sequence[str] | None = None) -> None:
        folder = Path(folder)
        names = ("encoder.onnx", "decoder.onnx", "generation_config.json")
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder} has no {', '.join(missing)}: give a folder of `export --to onnx`.")
        _require_as_exported(folder)
        self.settings = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
        refuse_unknown_settings(self.settings)
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(folder / name, providers=list(providers or ["CPUExecutionProvider"]))
            for name in names[:2]
        )
        # (batch, heads, past, width) of each key and value of the past
        self.past_shapes = {
            given.name: given.shape for given in self.decoder.get_inputs() if given.name.startswith("past_")
        }

    def generate(
        self, input_ids: ArrayLike, attention_mask: ArrayLike | None = None, max_new_tokens: int | None = None
    ) -> np.ndarray:
        """Decode greedily.

        Args:
            input_ids: integers, lists or an array, (batch, source_len), padded.
            attention_mask: (batch, source_len), 1 at tokens; derived from `pad_token_id` by default.
            max_new_tokens: at least 1, in place of the generation config's limits.

        Returns:
            int64 (batch, 1 + new tokens): the start token, the translation with its end, padding.

        Raises:
            ValueError: an input has another type or shape, or no new token is allowed.
        """
        input_ids = _whole_numbers("input_ids", input_ids)
        if attention_mask is None:
            attention_mask = input_ids != self.settings["pad_token_id"]
        attention_mask = _whole_numbers("attention_mask", attention_mask)
        if attention_mask.shape != input_ids.shape:
            raise ValueError(
                f"`attention_mask` must have the shape of `input_ids`, {input_ids.shape}, got {attention_mask.shape}."
            )
        batch = len(input_ids)
        source = self._run(self.encoder, {"input_ids": input_ids, "attention_mask": attention_mask})
        source["attention_mask"] = attention_mask
        past = {name: np.zeros((batch, shape[1], 0, shape[3]), np.float32) for name, shape in self.past_shapes.items()}
        limits = self._limits(attention_mask, max_new_tokens)  # (batch,)
        ends = np.atleast_1d(self.settings["eos_token_id"])
        tokens = np.full((batch, 1), self.settings["decoder_start_token_id"], np.int64)
        unfinished = np.ones(batch, bool)
        while unfinished.any():
            step = self._run(self.decoder, {"decoder_input_ids": tokens[:, -1:], **source, **past})
            past = {name: step[name.replace("past", "present")] for name in past}
            logits = self._constrain(step["logits"], tokens, limits)
            chosen = np.where(unfinished, logits.argmax(-1), self.settings["pad_token_id"])
            tokens = np.concatenate((tokens, chosen[:, None]), axis=1)
            unfinished &= ~np.isin(chosen, ends) & (tokens.shape[1] - 1 < limits)
        return tokens

    @staticmethod
    def _run(session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        wanted = {given.name for given in session.get_inputs()}
        values = session.run(None, {name: value for name, value in inputs.items() if name in wanted})
        return dict(zip([output.name for output in session.get_outputs()], values, strict=True))

    def _limits(self, attention_mask: np.ndarray, max_new_tokens: int | None) -> np.ndarray:
        """Maximum number of new tokens per sentence; (batch,)."""
        extra = self.settings.get("max_extra_tokens")
        if max_new_tokens is None and extra is not None:
            return attention_mask.sum(-1) + extra
        most = self.settings.get("max_new_tokens") if max_new_tokens is None else max_new_tokens
        if most is None:
            longest = self.settings.get("max_length")
            most = (DEFAULT_MAX_LENGTH if longest is None else longest) - 1
        if most < 1:
            raise ValueError(f"At least 1 new token must be allowed, got {most}. Raise `max_new_tokens`.")
        return np.full(len(attention_mask), most)

    def _constrain(self, logits: np.ndarray, tokens: np.ndarray, limits: np.ndarray) -> np.ndarray:
        """Set the logits (batch, vocab) of tokens that may not follow `tokens` (batch, length) to -inf.

        As in `generate`, suppressed tokens are applied after forced ones, and each target is forced to end at its own
        limit, (batch,).
        """
        settings, length = self.settings, tokens.shape[1]
        logits = logits.copy()
        ends = np.atleast_1d(settings["eos_token_id"])
        for *before, last in settings.get("bad_words_ids") or []:
            is_end = not before and last in ends  # `generate` does not let bad words forbid the end
            if len(before) <= length and not is_end:
                said = (tokens[:, length - len(before) :] == before).all(-1)
                logits[said, last] = -np.inf
        fewest = settings.get("min_new_tokens")  # before the end
        if length < (settings.get("min_length") or 0 if fewest is None else 1 + fewest):
            logits[:, ends] = -np.inf
        first = settings.get("forced_bos_token_id")
        for forced, places in ((first, 1), (settings.get("forced_eos_token_id"), limits)):
            rows = np.broadcast_to(length == places, len(logits))
            if forced is not None and rows.any():
                logits[rows] = -np.inf
                logits[np.ix_(rows, np.atleast_1d(forced))] = 0.0
        logits[:, settings.get("suppress_tokens") or []] = -np.inf
        if length == (1 if first is None else 2):
            logits[:, settings.get("begin_suppress_tokens") or []] = -np.inf
        return logits


def _whole_numbers(name: str, values: ArrayLike) -> np.ndarray:
    """Values as int64 (batch, length)."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of several lengths
        array = np.empty(0)
    if array.ndim != 2 or array.dtype.kind not in "biu":
        raise ValueError(
            f"`{name}` must be whole numbers, (batch, source_len), each sentence padded to the longest; got "
            f"{str(values)[:60]}."
        )
    return array.astype(np.int64)
