"""Evaluate a model on a test set: translate, score, save the results, and add them to the right ledger.

`evaluate_model` runs all steps; `ModelEvaluation` runs them one by one, so that a caller can show progress in between.
"""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .baseline import nearest_neighbour_translations
from .ledger import N_BOOTSTRAP, add_to_ledger, decoding_in_words, make_entry, weights_fingerprint
from .origins import Origin
from .plausibility import (
    doubts_of_scores,
    faults_by_probability,
    faults_of_languages,
    faults_of_test_set,
    require_text,
)
from .results import refuse_existing_results, write_scores
from .run_records import averaged_checkpoints, recorded_languages, validation_bleu_of
from .scores import TranslationScores, evaluate_translations

if TYPE_CHECKING:
    from ..translation import Translator


class ImplausibleTestSetError(ValueError):
    """The texts do not look like a test set for the model's language pair."""


@dataclass(frozen=True)
class EvaluationResult:
    """The result of an evaluation.

    Attributes:
        scores: scores of the translations.
        baseline: scores of the nearest-neighbour baseline, if it was requested.
        settings: how the translations were made, as in `scores.json`.
        output_dir: folder of the translations and scores.
        ledger: path of the updated ledger; `None` if none was.
        doubts: reasons to doubt the scores; if there are any, the ledger changes only with `record=True`.
        problem: why the ledger could not be written, if it could not.
    """

    scores: TranslationScores
    baseline: TranslationScores | None
    settings: dict[str, Any]
    output_dir: Path
    ledger: Path | None = None
    doubts: tuple[str, ...] = ()
    problem: str | None = None

    def report(self) -> str:
        """The result as readable text."""
        lines = [
            f"{self.settings['model']}: {decoding_in_words(self.settings['decoding'])}",
            f"{self.settings['sentences_per_second']:,} sentences per second ({self.settings['device']}, "
            f"{self.settings['dtype']}, batches of {self.settings['batch_tokens']:,} source tokens); "
            f"{self.settings['translations_at_length_limit']:,} translations ran into their length limit",
            self.scores.table(),
        ]
        if self.baseline is not None:
            figures = ", ".join(f"{metric.label} {metric.value:.2f}" for metric in self.baseline)
            lines.append(f"nearest neighbour in the training text: {figures}")
        return "\n".join([*lines, f"kept in {self.output_dir}"])


def evaluate_model(
    model: str | os.PathLike[str],
    origin: Origin,
    output_dir: str | os.PathLike[str] | None = None,
    *,
    device: str | None = None,
    precision: str | None = None,
    overwrite: bool = False,
    record: bool | None = None,
    keep_references: bool = False,
    training_text: Origin | None = None,
    **translating: Any,
) -> EvaluationResult:
    """Translate a test set with a model, score the translations, save both, and add the scores to a ledger.

    Args:
        model: a model's folder, or its name on the Hub.
        origin: the test set.
        output_dir: folder for translations and scores; `evaluation/NAME` in the model's folder by default.
        device, precision: as in `Translator.from_pretrained`.
        overwrite, record, keep_references, training_text: as in `ModelEvaluation`.
        translating: as in `ModelEvaluation.run`.

    Raises:
        FileExistsError, FileNotFoundError, ImplausibleTestSetError, ValueError: as in `ModelEvaluation`.
    """
    from ..translation import Translator

    evaluation = ModelEvaluation(
        model,
        origin,
        output_dir,
        overwrite=overwrite,
        record=record,
        keep_references=keep_references,
        training_text=training_text,
    )
    translator = Translator.from_pretrained(model, device=device, precision=precision)
    evaluation.check_pairs(translator, translating.get("batch_tokens"))
    return evaluation.run(translator, **translating)


class ModelEvaluation:
    """The evaluation of one model on one test set; the constructor reads and checks the test set.

    Args:
        model: a model's folder, or its name on the Hub.
        origin: the test set.
        output_dir: as in `results_folder`.
        overwrite: replace existing results.
        record: `None` adds plausible scores to the ledger in the model's folder, or in `output_dir` if that lies
            elsewhere; `True` adds any scores to the model's ledger; `False` adds none.
        keep_references: store sources and references in the ledger.
        training_text: also score the nearest-neighbour baseline on this text.

    Attributes:
        faults: reasons why the test set does not fit the model's language pair, if it is evaluated anyway.

    Raises:
        FileExistsError: there are results already.
        FileNotFoundError: as in `results_folder` and `Origin.read`.
        ImplausibleTestSetError: the test set does not fit the model's language pair, and `record` is `None`.
        ValueError: there is no text, or as in `results_folder` and `Origin.read`.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        origin: Origin,
        output_dir: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        *,
        record: bool | None = None,
        keep_references: bool = False,
        training_text: Origin | None = None,
    ) -> None:
        self.model, self.origin, self.overwrite = str(model), origin, overwrite
        self.record, self.keep_references = record, keep_references
        self.output_dir = results_folder(model, origin, output_dir)
        refuse_existing_results(self.output_dir, overwrite=overwrite)
        self.texts = origin.read()
        require_text(*self.texts)
        self.faults: list[str] = []
        self._judge(faults_of_languages(recorded_languages(model), origin.languages, origin.files))
        self._judge(faults_of_test_set(*self.texts))
        self.training = None if training_text is None else training_text.read()

    def _judge(self, faults: list[str]) -> None:
        if faults and self.record is None:
            raise ImplausibleTestSetError(
                f"The test set does not fit the model's language pair. {' '.join(faults)} Correct the test set, or "
                "pass record=True to score it and add it to the model's ledger anyway, or record=False to score only."
            )
        self.faults += faults

    def check_pairs(self, translator: "Translator", batch_tokens: int | None = None) -> None:
        """Check by the model's probabilities that sources and references belong together.

        Raises:
            ImplausibleTestSetError: they do not, and `record` is `None`.
        """
        bleu, most = validation_bleu_of(self.model), _or_default(batch_tokens)
        self._judge(faults_by_probability(translator.model, translator.tokenizer, *self.texts, most, bleu))

    def run(
        self, translator: "Translator", *, batch_tokens: int | None = None, **translating: Any
    ) -> EvaluationResult:
        """Translate, score, save the results and update the ledger.

        Args:
            translator: a translator with this model.
            batch_tokens: maximum number of source tokens in a batch.
            translating: as in `Translator.translate`: settings such as `num_beams`, `max_source_tokens`, `progress`.

        Raises:
            TypeError, ValueError: as in `Translator.translate`.
        """
        batch_tokens = _or_default(batch_tokens)
        started = time.perf_counter()
        sources, references = self.texts
        translations = translator.translate(sources, batch_tokens=batch_tokens, first_line=1, **translating)
        speed = len(sources) / (time.perf_counter() - started)
        hypotheses = [each.text for each in translations]
        scoring = self._scoring()
        scores = evaluate_translations(hypotheses, references, sources=sources, **scoring)
        baseline = self._baseline()
        settings = {
            **self._origin_for_people(),
            "decoding": translator.decoding(**_without(translating, "max_source_tokens", "progress")),
            "batch_tokens": batch_tokens,
            "device": str(translator.model.device),
            "dtype": str(translator.model.dtype).removeprefix("torch."),
            "sentences_per_second": round(speed, 2),
            "translations_at_length_limit": sum(not each.finished for each in translations),
            **({} if baseline is None else {"nearest_neighbour": {each.name: each.value for each in baseline}}),
        }
        write_scores(self.output_dir, scores, hypotheses, references, sources, settings, overwrite=self.overwrite)
        result = EvaluationResult(scores, baseline, settings, self.output_dir)
        return self._recorded(result, hypotheses)

    def _scoring(self) -> dict[str, Any]:
        scoring = {"target_lang": self.origin.target_lang, "n_bootstrap": N_BOOTSTRAP}
        return {name: value for name, value in scoring.items() if value is not None}

    def _baseline(self) -> TranslationScores | None:
        if self.training is None:
            return None
        targets = [each[0] for each in self.training.references]
        copied = nearest_neighbour_translations(self.texts.sources, self.training.sources, targets)
        references, language = self.texts.references, self.origin.target_lang
        return evaluate_translations(copied, references, target_lang=language, metrics=("bleu", "chrf"))

    def _origin_for_people(self) -> dict[str, Any]:
        """Model and test set as the caller named them."""
        origin = self.origin
        if origin.dataset_name is not None:
            return {"model": self.model, "test_set": f"{origin.dataset_name}, {origin.split}"}
        source, *references = origin.files
        return {"model": self.model, "source": source, "references": references}

    def _recorded(self, result: EvaluationResult, hypotheses: list[str]) -> EvaluationResult:
        """The result, added to its ledger if it is plausible."""
        result = replace(result, doubts=tuple(doubts_of_scores(result.scores, validation_bleu_of(self.model))))
        if self.record is False or (result.doubts and self.record is None):
            return result
        entry = make_entry(
            self.origin.name,
            hypotheses,
            result.scores,
            *self.texts,
            keep_references=self.keep_references,
            decoding=result.settings["decoding"],
            scoring=self._scoring(),
            weights=weights_fingerprint(self.model),
            origin=self.origin.as_record(),
            settings={name: result.settings[name] for name in ("batch_tokens", "device", "dtype")},
            averaged_checkpoints=averaged_checkpoints(self.model),
        )
        folder = Path(self.model)
        if not folder.is_dir() or not (self.record or is_inside(self.output_dir, folder)):
            folder = self.output_dir
        try:
            return replace(result, ledger=add_to_ledger(folder, entry))
        except OSError as error:
            problem = f"The ledger of {folder} cannot be written ({error.strerror}); the results are kept."
            return replace(result, problem=problem)


def results_folder(
    model: str | os.PathLike[str], origin: Origin, output_dir: str | os.PathLike[str] | None = None
) -> Path:
    """The folder for a model's results on a test set: `output_dir`, or `evaluation/NAME` in the model's folder.

    Raises:
        FileNotFoundError: no `output_dir` is given, and the model is not a local folder.
        ValueError: `output_dir` is the folder of another model.
    """
    if output_dir is not None:
        chosen = Path(output_dir)
        if (chosen / "config.json").is_file() and not is_inside(chosen, Path(model)):
            raise ValueError(f"output_dir is for results, but {chosen} is the folder of another model.")
        return chosen
    if not Path(model).is_dir():
        raise FileNotFoundError(
            f"There is no model folder {model}; if it is a name on the Hub, give output_dir for the results."
        )
    return Path(model) / "evaluation" / origin.folder_name


def is_inside(output_dir: Path, model: Path) -> bool:
    """Whether `output_dir` lies in the model's folder."""
    return model.is_dir() and output_dir.resolve().is_relative_to(model.resolve())


def _or_default(batch_tokens: int | None) -> int:
    from ..translation import DEFAULT_BATCH_TOKENS

    return DEFAULT_BATCH_TOKENS if batch_tokens is None else batch_tokens


def _without(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}
