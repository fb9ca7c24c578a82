"""Train a recipe by the command line and score the model: the quickstart, or the user's corpus.

The folder of a measurement holds the run, the scores and `begun.json`, which records the recipe and the text of the
run, so that it can be stopped and resumed on the same text.
"""

import argparse
import contextlib
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .markdown import Figures, code, escaped
from .provenance import describe_commit
from .rounds import SCRIPT

ROOT = SCRIPT.parents[1]
METRICS = ("bleu", "chrf", "ter")
QUICKSTART_SETS = {"test": "held-out sentences", "test_combinations": "held-out combinations of words"}
QUICKSTART_RECIPE = "builtin-fr-en"
CORPUS_SIDES = (("train_source", "train_target"), ("validation_source", "validation_target"))
AVERAGED = 5


def vanilla_transformer(*arguments: str) -> None:
    """Run a command of this checkout, with its output sent to stderr.

    Raises:
        SystemExit: it failed; its own output says why.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "hf_vanilla_transformer", *arguments]
    if subprocess.run(command, stdout=sys.stderr, check=False, env=environment).returncode:
        raise SystemExit(f"`vanilla-transformer {arguments[0]}` failed. No table was written.")


@contextlib.contextmanager
def folder_of(options: argparse.Namespace) -> Iterator[Path]:
    """The user's folder, or a temporary one."""
    if options.folder is not None:
        yield Path(options.folder)
        return
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


def train(folder: Path, recipe: str, text: Mapping[str, str]) -> list[str]:
    """Start or resume the run in a folder; return the commits that trained it.

    Args:
        folder: the measurement's folder; the run is in its subfolder `run`.
        recipe: name or file of the recipe.
        text: options of `train` with their files.

    Raises:
        ValueError: the folder holds a run with another recipe or text.
    """
    begun, run = folder / "begun.json", folder / "run"
    of = {"recipe": recipe, "text": {name: fingerprint(Path(path)) for name, path in text.items()}}
    before = json.loads(begun.read_text(encoding="utf-8")) if begun.exists() else None
    if before is None and run.exists():
        raise ValueError(
            f"Only a run that was started by this command can be resumed, but {run} was not. Name another --folder."
        )
    if before is not None and {"recipe": before["recipe"], "text": before["text"]} != of:
        raise ValueError(f"{folder} holds a run with another recipe or text. Name another --folder.")
    commits = [] if before is None else before["commits"]
    commits += [commit for commit in [describe_commit(ROOT)] if commit not in commits]
    folder.mkdir(parents=True, exist_ok=True)
    begun.write_text(json.dumps({**of, "commits": commits}, indent=1) + "\n", encoding="utf-8")
    resume = ["--resume"] if any(run.glob("checkpoint-*")) else []
    files = [part for name, path in text.items() for part in (f"--{name}", path)]
    vanilla_transformer("train", "--recipe", recipe, "--output_dir", str(run), *files, *resume)
    return commits


def fingerprint(path: Path) -> str:
    """The first digits of a file's SHA-256.

    Raises:
        ValueError: there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"--source needs text files, but there is no file {path}.")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def score(model: Path, scores: Path, *test_set: str) -> dict[str, Any]:
    """Run `evaluate` on a model; return the scores that it wrote."""
    vanilla_transformer("evaluate", "--model", str(model), "--output_dir", str(scores), "--overwrite", *test_set)
    return json.loads((scores / "scores.json").read_text(encoding="utf-8"))


def values(scores: Mapping[str, Any]) -> list[str]:
    """BLEU, chrF2 and TER as text for cells."""
    by_name = {metric["name"]: metric["value"] for metric in scores["metrics"]}
    return [f"{by_name[name]:.1f}" for name in METRICS]


@dataclass(frozen=True)
class Run:
    """Facts about a finished run; None if not recorded."""

    parameters: int
    epochs: float
    steps: int
    seconds: float | None
    precision: str | None
    tokens_per_second: float | None
    padding: float | None

    @classmethod
    def of(cls, folder: Path) -> "Run":
        """Read the folder of a run."""
        from hf_vanilla_transformer import VanillaTransformerForConditionalGeneration
        from hf_vanilla_transformer.model.manifest import read_manifest
        from hf_vanilla_transformer.training.checkpoints import read_state
        from hf_vanilla_transformer.training.curves import read_curves

        record = (read_manifest(folder) or {}).get("training", {})
        state, curves = read_state(folder), read_curves(folder)
        assert state is not None, folder
        medians = {
            name: statistics.median(curves[name].values()) if name in curves else None
            for name in ("target_tokens_per_second", "padding_share")
        }
        return cls(
            VanillaTransformerForConditionalGeneration.from_pretrained(folder).num_parameters(),
            state["epoch"],
            state["global_step"],
            record.get("seconds"),
            record.get("precision"),
            *medians.values(),
        )

    def text(self) -> str:
        """A sentence for the caption."""
        told = [f"{self.parameters:,} parameters", f"{self.epochs:.4g} epochs", f"{self.steps:,} steps"]
        if self.seconds is not None:
            told.append(f"{self.seconds / 60:.1f} minutes of training")
        if self.precision is not None:
            told.append(f"in {self.precision}")
        if self.tokens_per_second is not None and self.padding is not None:
            told.append(f"{self.tokens_per_second:,.0f} real target tokens per second (median)")
            told.append(f"{self.padding:.1%} padding")
        return f"{', '.join(told)}."


def notes(what: str, run: Run, scores: Mapping[str, Any], commits: Sequence[str]) -> str:
    """The caption for a run and its scores."""
    decoding = ", ".join(f"{name} {value}" for name, value in scores["settings"]["decoding"].items())
    signature = next(metric["signature"] for metric in scores["metrics"] if metric["name"] == "bleu")
    pieces = "" if len(commits) == 1 else f" Trained in several parts, by commits {', '.join(commits)}."
    return f"{what}: {run.text()}{escaped(pieces)} Decoded with {escaped(decoding)}. BLEU is {code(signature)}."


def quickstart_table(options: argparse.Namespace) -> Figures:
    """Measure both held-out sets of the built-in corpus."""
    rows, headlines, kept = [], [], {}
    with folder_of(options) as folder:
        commits = train(folder, QUICKSTART_RECIPE, {})
        run = Run.of(folder / "run")
        for split, name in QUICKSTART_SETS.items():
            test_set = ["--dataset_name", QUICKSTART_RECIPE, "--split", split]
            test_set += ["--nearest_neighbour_from", QUICKSTART_RECIPE]
            kept[split] = scores = score(folder / "run", folder / "scores" / split, *test_set)
            nearest = scores["settings"]["nearest_neighbour"]["bleu"]
            rows.append([name, f"{scores['sentences']:,}", *values(scores), f"{nearest:.1f}"])
            headlines.append((f"BLEU, built-in corpus, {name}", values(scores)[0]))
    return Figures(
        ["test set", "sentences", "BLEU", "chrF2", "TER", "BLEU of the nearest training pair"],
        rows,
        notes(f"The recipe {code(QUICKSTART_RECIPE)}", run, kept["test"], commits),
        headlines,
        {"run": vars(run), "scores": kept},
    )


def corpus_table(options: argparse.Namespace) -> Figures:
    """Measure validation, validation after averaging checkpoints, and the test set if there is one."""
    names = [name for pair in CORPUS_SIDES for name in pair]
    training_text = dict(zip(names, options.source, strict=False))
    validation, test = options.source[2:4], options.source[4:]
    files = [f"{code(Path(path).name)} {fingerprint(Path(path))}" for path in options.source]
    with folder_of(options) as folder:
        commits = train(folder, options.recipe, training_text)
        run = Run.of(folder / "run")
        measured = {"validation": score(folder / "run", folder / "scores" / "validation", *_pair(validation))}
        if last := min(AVERAGED, sum(1 for _ in (folder / "run").glob("checkpoint-*"))):
            measured[f"validation, average of the last {last} checkpoints"] = _score_average(folder, last, validation)
        if test:
            measured["test"] = score(folder / "run", folder / "scores" / "test", *_pair(test))
    name = options.name or Path(options.recipe).stem
    told = notes(
        f"{escaped(name)}, by the recipe {code(Path(options.recipe).name)}", run, measured["validation"], commits
    )
    best = "test" if test else "validation"
    return Figures(
        ["set", "sentences", "BLEU", "chrF2", "TER"],
        [[what, f"{scores['sentences']:,}", *values(scores)] for what, scores in measured.items()],
        f"{told} Files, with the first digits of their SHA-256: {', '.join(files)}.",
        [(f"BLEU, {name}, {best}", values(measured[best])[0])],
        {"run": vars(run), "scores": measured},
    )


def _pair(files: Sequence[str]) -> list[str]:
    return ["--source", files[0], "--reference", files[1]]


def _score_average(folder: Path, last: int, validation: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        average = Path(place, "average")
        checkpoints = ["--checkpoints", str(folder / "run"), "--last", str(last)]
        vanilla_transformer("average", *checkpoints, "--output", str(average))
        return score(average, folder / "scores" / "average", *_pair(validation))
