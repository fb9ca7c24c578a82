"""Find implausible test sets and scores, which enter a ledger only if the user insists.

Before translating, the test set is checked: blank lines, identical sides, languages other than the model's, and, by
the model's own probabilities, swapped sides or misaligned lines. Afterwards, the translations: empty ones, copies of
the source, and a BLEU far below that of the model's validation.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..data.languages import languages_of_files, other_language, same_language
from .scores import TranslationScores

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Pair = tuple[str | None, str | None]

_MOST = 0.5  # of the lines
_SAMPLE = 64  # pairs whose probability is computed
_FEWEST = 8  # pairs needed to tell whether lines belong together
_SWAPPED = 2.0  # nats per token; for an untrained model the directions differ by 0.5
_TOGETHER = 0.2
_LEARNED = 5.0  # validation BLEU of a model that translates
_FAR_BELOW = 0.1  # of the validation BLEU; text of another domain has a quarter


def require_text(sources: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Check that neither side of a test set is blank.

    Raises:
        ValueError: every source, or every reference of one file, is blank.
    """
    for side, texts in _sides(sources, references):
        if all(map(_is_blank, texts)):
            raise ValueError(
                f"A score compares translations with references, but all {len(texts):,} {side} are blank. Check the "
                "files."
            )


def faults_of_test_set(sources: Sequence[str], references: Sequence[Sequence[str]]) -> list[str]:
    """List what is wrong with the texts of a test set, one sentence per fault.

    Args:
        sources: one per sentence.
        references: a list of references per sentence.
    """
    faults = []
    for side, texts in _sides(sources, references):
        blank = [number for number, text in enumerate(texts, 1) if _is_blank(text)]
        if blank:
            faults.append(f"{len(blank):,} of {len(texts):,} {side} are blank, the first in line {blank[0]:,}.")
        elif len(texts) > 1 and len(set(texts)) == 1:
            faults.append(f"All {len(texts):,} {side} are the same.")
    streams = list(zip(*references, strict=True))
    for stream in streams:
        same = sum(_squeezed(source) == _squeezed(text) for source, text in zip(sources, stream, strict=True))
        if same > _MOST * len(sources):
            faults.append(f"{same:,} of {len(sources):,} references equal their sources.")
    if len(set(streams)) < len(streams):
        faults.append("The same references were given twice.")
    return faults


def faults_of_languages(model: Pair, said: Pair, files: Sequence[str] = ()) -> list[str]:
    """List differences between the languages of a test set and of the model, one sentence per difference.

    Args:
        model: source and target language from the model's record; `None` where unknown.
        said: languages of the test set from options or its dataset; `None` where unknown.
        files: paths of its source file and reference files, if it consists of files.
    """
    names = [languages_of_files(files[0], path) for path in files[1:]]
    if _is(model, said[::-1]) or any(_is(model, pair[::-1]) for pair in names):
        return [f"The sides are swapped: the model translates {model[0]} to {model[1]}, the test set the other way."]
    faults = []
    for side, place in (("source", 0), ("target", 1)):
        of_names = [(pair[place], f"{side} is {pair[place]} by the names of its files") for pair in names]
        of_test_set = [(said[place], f"{side} is said to be {said[place]}"), *of_names]
        expected = [(model[place], f"the model's is {model[place]}"), (said[place], f"it is said to be {said[place]}")]
        for language, what in of_test_set:
            for wanted, whose in expected:
                if language and wanted and other_language(language, wanted):
                    faults.append(f"The test set's {what}, but {whose}.")
    return list(dict.fromkeys(faults))


def faults_by_probability(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    sources: Sequence[str],
    references: Sequence[Sequence[str]],
    batch_tokens: int,
    validation_bleu: float | None,
) -> list[str]:
    """Find swapped sides or misaligned lines by the model's own probabilities.

    Args:
        model, tokenizer: the model to evaluate.
        sources, references: the test set; a sample of sentences, evenly spread, is checked with its first references.
        batch_tokens: maximum number of tokens per side of a batch.
        validation_bleu: BLEU in validation, if known; alignment is checked only for a model that has learned to
            translate.
    """
    pairs = [(source, each[0]) for source, each in zip(sources, references, strict=True)]
    pairs = [pair for pair in pairs if not any(map(_is_blank, pair))]
    pairs = pairs[:: max(1, -(-len(pairs) // _SAMPLE))]
    if not pairs:
        return []
    left, right = (list(side) for side in zip(*pairs, strict=True))

    def mean(texts: list[str], translations: list[str]) -> float:
        return _mean_log_probability(model, tokenizer, texts, translations, batch_tokens)

    try:
        forward, backward = mean(left, right), mean(right, left)
        if backward > forward + _SWAPPED:
            return [
                f"The sides look swapped: to the model, the sources are likelier as translations of the references "
                f"({backward:.1f} nats per token) than the references as translations of the sources ({forward:.1f})."
            ]
        if len(pairs) < _FEWEST or (validation_bleu or 0) < _LEARNED:
            return []
        others = mean(left, right[1:] + right[:1])
    except (TypeError, ValueError, RuntimeError):  # too long, too large, or a model that needs language codes
        return []
    if forward < others + _TOGETHER:
        return [
            f"Sources and references do not belong together: to the model, the references ({forward:.1f} nats per "
            f"token) are no likelier than those of other lines ({others:.1f})."
        ]
    return []


def doubts_of_scores(scores: TranslationScores, validation_bleu: float | None) -> list[str]:
    """List reasons to doubt the scores, one sentence per reason.

    Args:
        scores: scores of the model on the test set.
        validation_bleu: BLEU of the model in validation, if known.
    """
    doubts = []
    if scores.empty_hypotheses > _MOST * scores.sentences:
        doubts.append(f"{scores.empty_hypotheses:,} of {scores.sentences:,} translations are empty.")
    if (scores.copied_sources or 0) > _MOST * scores.sentences:
        doubts.append(f"{scores.copied_sources:,} of {scores.sentences:,} translations are copies of their sources.")
    bleu = scores["bleu"].value
    if validation_bleu is not None and validation_bleu >= _LEARNED and bleu < _FAR_BELOW * validation_bleu:
        doubts.append(f"BLEU {bleu:.2f} is far below the {validation_bleu:.2f} that the model had in validation.")
    return doubts


def _mean_log_probability(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    sources: list[str],
    targets: list[str],
    batch_tokens: int,
) -> float:
    from ..translation import target_log_probabilities

    found = target_log_probabilities(model, tokenizer, sources, targets, batch_tokens, warns=False)
    return sum(each.log_probability for each in found) / sum(each.tokens for each in found)


def _sides(sources: Sequence[str], references: Sequence[Sequence[str]]) -> list[tuple[str, Sequence[str]]]:
    return [("sources", sources), *(("references", stream) for stream in zip(*references, strict=True))]


def _is_blank(text: str) -> bool:
    """Whether a text has no visible character: only white space or non-printing characters."""
    return not any(character.isprintable() and not character.isspace() for character in text)


def _squeezed(text: str) -> str:
    return " ".join(text.split()).lower()


def _is(model: Pair, other: Pair) -> bool:
    """Whether all four languages are known and the pairs are equal."""
    return all(
        one is not None and two is not None and same_language(one, two) for one, two in zip(model, other, strict=True)
    )
