"""Two models on the test sets that both have translated: whether their figures differ by more than chance."""

from pathlib import Path

from ..evaluation import compare_systems, read_ledger
from .ledger_texts import TestSets


def compare_ledgers(folder: str | Path, other_folder: str | Path, test_sets: TestSets) -> list[str]:
    """Compare the stored translations of two models by paired bootstrap.

    Args:
        folder, other_folder: each holds a score ledger.
        test_sets: where the references come from.

    Returns:
        A line for each metric of each test set that both have, however decoded, the first model's figure first.

    Raises:
        ValueError: they have no test set in common, or its references are nowhere to be found.
    """
    others = read_ledger(other_folder)
    lines = []
    for entry in read_ledger(folder):
        for other in others:
            if entry.fingerprints.get("references") != other.fingerprints.get("references"):
                continue
            references = test_sets.references(entry) or test_sets.references(other)
            if references is None:
                raise ValueError(
                    f"Systems are compared by the references of {entry.test_set}, which are nowhere to be found. "
                    "Give the files: --reference FILE."
                )
            tokenize = entry.scoring.get("tokenize", "13a")
            found = compare_systems(entry.hypotheses, other.hypotheses, references, tokenize=tokenize)
            lines += [f"{entry.test_set}, {comparison}" for comparison in found]
    if not lines:
        raise ValueError(
            f"Two systems are compared on one test set, but {folder} and {other_folder} have none in common in their "
            "ledgers. Evaluate both on the same one."
        )
    return lines
