"""Compare two models on the test sets that both have translated: do their scores differ significantly?"""

from pathlib import Path

from ..evaluation import compare_systems, read_ledger
from .ledger_texts import TestSets


def compare_ledgers(folder: str | Path, other_folder: str | Path, test_sets: TestSets) -> list[str]:
    """Compare the stored translations of two models by paired bootstrap.

    Args:
        folder, other_folder: folders with a score ledger each.
        test_sets: where the references come from.

    Returns:
        A line per metric of each shared test set, however decoded, with the first model's score first.

    Raises:
        ValueError: they have no test set in common, or its references cannot be found.
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
                    f"The comparison needs the references of {entry.test_set}, which cannot be found. "
                    "Give the files: --reference FILE."
                )
            tokenize = entry.scoring.get("tokenize", "13a")
            found = compare_systems(entry.hypotheses, other.hypotheses, references, tokenize=tokenize)
            lines += [f"{entry.test_set}, {comparison}" for comparison in found]
    if not lines:
        raise ValueError(
            f"Two systems are compared on the same test set, but {folder} and {other_folder} have none in common in "
            "their ledgers. Evaluate both on the same one."
        )
    return lines
