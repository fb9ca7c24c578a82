"""Test whether two systems differ significantly: sacreBLEU's paired bootstrap (Koehn 2004).

Both systems translated the same sentences. The corpus is resampled a thousand times with replacement; p is how often
the centred difference of the resampled scores exceeds the observed one. Left out: more than two systems at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from .corpus_checks import check_references, check_same_length, check_texts

if TYPE_CHECKING:
    from sacrebleu.significance import Result


@dataclass(frozen=True)
class Comparison:
    """Two systems compared by one metric.

    Attributes:
        signature: sacreBLEU's signature, which names resamples and seed.
        value, other_value: the scores of the first and the second system.
        p_value: probability of such a difference by chance; below 0.05 is called significant. Equal scores have 1,
            where sacreBLEU would give 0.001.
    """

    signature: str
    name: str
    value: float
    other_value: float
    p_value: float

    def __str__(self) -> str:
        verdict = "significant" if self.p_value < 0.05 else "not significant"
        return (
            f"{self.name}: {self.value:.2f} and {self.other_value:.2f}, difference "
            f"{self.value - self.other_value:+.2f}, p = {self.p_value:.4f} ({verdict} at 0.05)  {self.signature}"
        )


def compare_systems(
    hypotheses: Sequence[str],
    other_hypotheses: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    tokenize: str = "13a",
    n_bootstrap: int = 1000,
) -> list[Comparison]:
    """Compare two systems on one test set by BLEU, chrF and TER.

    Args:
        hypotheses, other_hypotheses: the translations of each system, one per sentence.
        references: as in `evaluate_translations`.
        tokenize: sacreBLEU's tokeniser for BLEU.
        n_bootstrap: number of resamples of the corpus.

    Returns:
        One comparison per metric.

    Raises:
        TypeError, ValueError: as in `evaluate_translations`.
    """
    import sacrebleu  # takes a second
    from sacrebleu.significance import PairedTest

    systems: list[tuple[str, Sequence[str]]] = [
        ("first", check_texts("hypotheses", hypotheses)),
        ("second", check_texts("other_hypotheses", other_hypotheses)),
    ]
    lists = check_references(references)
    for _, sentences in systems:
        check_same_length("hypotheses", sentences, "references", lists)
    streams = [list(stream) for stream in zip(*lists, strict=True)]
    metrics = {"BLEU": sacrebleu.BLEU(tokenize=tokenize), "chrF": sacrebleu.CHRF(), "TER": sacrebleu.TER()}
    labels = {"BLEU": f"BLEU ({tokenize}, cased)", "TER": "TER (lower is better)"}
    test = PairedTest(systems, metrics, streams, test_type="bs", n_samples=n_bootstrap)
    signatures, results = test()
    comparisons = []
    for name, signature in signatures.items():
        first, second = (cast("Result", result) for result in results[name])
        label = labels.get(name, name)
        p_value = 1.0 if first.score == second.score else cast("float", second.p_value)
        comparisons.append(Comparison(signature.format(), label, first.score, second.score, p_value))
    return comparisons
