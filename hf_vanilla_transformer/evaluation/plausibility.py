"""What cannot be a score of a model's pair of languages, or hardly: no such figure enters a ledger unasked.

Before anything is translated, the test set: lines without text, sides that are one text, languages that are not the
model's, and, by the model's own probabilities, sides that are swapped or lines that are not each other's translations.
Afterwards, the translations: none at all, copies, a figure far below that of the model's validation.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..data.languages import languages_of_files, other_language, same_language
from .scores import TranslationScores

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Pair = tuple[str | None, str | None]

_MOST = 0.5  # of the lines
_SAMPLE = 64  # pairs whose probability is asked for
_FEWEST = 8  # pairs that say whether lines belong together
_SWAPPED = 2.0  # nats a token; a model that has learned nothing differs by a half
_TOGETHER = 0.2
_LEARNED = 5.0  # validation BLEU of a model that translates
_FAR_BELOW = 0.1  # of the validation BLEU; text of another domain has a quarter


def require_text(sources: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Refuse a test set that has nothing on a side.

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
    """Why these texts are no test set, one sentence each.

    Args:
        sources: one for each sentence.
        references: for each sentence its references.
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
            faults.append(f"{same:,} of {len(sources):,} references are their own sources.")
    if len(set(streams)) < len(streams):
        faults.append("The same references were given twice.")
    return faults


def faults_of_languages(model: Pair, said: Pair, files: Sequence[str] = ()) -> list[str]:
    """Where the languages of a test set are not those of the model, one sentence each.

    Args:
        model: source and target that the model's record names, `None` where it names none.
        said: those of the test set, as far as options or its dataset say.
        files: paths of its sources and of each of its references, if it is in files.
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
    """What the model's own probabilities say of a test set: sides swapped, or lines that do not belong together.

    Args:
        model, tokenizer: the model to score.
        sources, references: the test set; the first reference of some sentences, spread over it, is asked about.
        batch_tokens: most tokens of a side in a batch.
        validation_bleu: of the model, if known: only of one that translates is it known that pairs are likelier.
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
                f"The sides look swapped: the model finds the sources likelier as translations of the references "
                f"({backward:.1f} nats a token) than the references as those of the sources ({forward:.1f})."
            ]
        if len(pairs) < _FEWEST or (validation_bleu or 0) < _LEARNED:
            return []
        others = mean(left, right[1:] + right[:1])
    except (TypeError, ValueError, RuntimeError):  # too long, too large, or a model that must be told its languages
        return []
    if forward < others + _TOGETHER:
        return [
            f"Sources and references do not belong together: the model finds the references ({forward:.1f} nats a "
            f"token) no likelier than those of other lines ({others:.1f})."
        ]
    return []


def doubts_of_scores(scores: TranslationScores, validation_bleu: float | None) -> list[str]:
    """What is wrong with translations, one sentence each.

    Args:
        scores: of the model on the test set.
        validation_bleu: of the model, if known.
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
    """Without a visible character: spaces of any kind, or marks that are not printed."""
    return not any(character.isprintable() and not character.isspace() for character in text)


def _squeezed(text: str) -> str:
    return " ".join(text.split()).lower()


def _is(model: Pair, other: Pair) -> bool:
    """Whether both sides of both are known and the same."""
    return all(
        one is not None and two is not None and same_language(one, two) for one, two in zip(model, other, strict=True)
    )
