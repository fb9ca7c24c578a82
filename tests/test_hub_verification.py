"""Every figure of a card is computed again; a number that somebody changed, anywhere, is found and named."""

import json
import re
import shutil
from pathlib import Path

import pytest

from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.hub import write_publication
from hf_vanilla_transformer.hub.ledger_texts import TestSets
from hf_vanilla_transformer.hub.verification import verify

SOURCES = ["merci", "le petit chat dort", "la petite maison est vieille", "où est la gare ?"]
REFERENCES = ["thanks", "the little cat sleeps", "the little house is old", "where is the station ?"]


@pytest.fixture(scope="module")
def scored(tiny_model_folder, tmp_path_factory) -> Path:
    """A folder as it is published, evaluated on files of this machine; the files are beside it."""
    place = tmp_path_factory.mktemp("scored")
    folder = shutil.copytree(tiny_model_folder, place / "model")
    for name, lines in (("test.fr", SOURCES), ("test.en", REFERENCES)):
        (place / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    files = ["--source", str(place / "test.fr"), "--reference", str(place / "test.en"), "--device", "cpu"]
    assert main(["evaluate", "--model", str(folder), *files, "--num_beams", "2"]) == 0
    write_publication(folder, "someone/fr-en", place / "published")
    return place


@pytest.fixture
def published(scored, tmp_path) -> Path:
    return Path(shutil.copytree(scored / "published", tmp_path / "published"))


def change(path: Path, pattern: str, replacement: str) -> None:
    text = path.read_text(encoding="utf-8")
    changed = re.sub(pattern, replacement, text, count=1)
    assert changed != text
    path.write_text(changed, encoding="utf-8")


def verified(folder: Path, scored: Path, capsys, *more: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["verify", "--model", str(folder), "--reference", str(scored / "test.en"), *more])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_all_figures_hold(published, scored, capsys):
    code, out, err = verified(published, scored, capsys)
    assert (code, err) == (0, "")
    for place in ("the ledger says", "the card says", "the card's table says"):
        assert len(re.findall(f"test, .*: {place} [\\d.]+ \\[.*the same\n", out)) == 4
    assert out.endswith("12 scores recomputed, 0 differ by more than 0.01\n")


def test_with_decode_the_model_says_it_again(published, scored, capsys):
    more = ("--decode", "--source", str(scored / "test.fr"), "--device", "cpu")
    code, out, err = verified(published, scored, capsys, *more)
    assert (code, err) == (0, "")
    assert out.count("by the stored translations") == 4


@pytest.mark.parametrize(
    ("name", "pattern", "replacement", "what"),
    [
        ("README.md", r"value: [\d.]+", "value: 99.5", "the card says 99.50"),
        ("README.md", r"interval_95:\n( +)- [\d.]+", r"interval_95:\n\1- 99.5", r"the card says [\d.]+ \[99.50"),
        ("README.md", r"cased\) \| [\d.]+ \[", "cased) | 99.5 [", "the card's table says 99.50"),
        ("score_ledger.json", r'"value": [\d.]+', '"value": 99.5', "the ledger says 99.50"),
        ("score_ledger.json", r'"interval": \[\s*[\d.]+', '"interval": [99.5', r"the ledger says [\d.]+ \[99.50"),
    ],
)
def test_a_changed_figure_is_named(published, scored, capsys, name, pattern, replacement, what):
    change(published / name, pattern, replacement)
    code, out, _ = verified(published, scored, capsys)
    assert code == 1
    assert re.search(f"{what}.*DIFFERS", out)
    assert "scores recomputed, 1 differ by more than 0.01" in out


def test_a_hundredth_is_no_difference_and_more_is_one(published, scored, capsys):
    path = published / "score_ledger.json"
    ledger = json.loads(path.read_text(encoding="utf-8"))
    chrf = ledger["entries"][0]["metrics"][1]
    value = chrf["value"]
    for shift, code in ((0.009, 0), (-0.011, 1), (float("nan"), 1)):
        chrf["value"] = value + shift
        path.write_text(json.dumps(ledger), encoding="utf-8")
        assert verified(published, scored, capsys)[0] == code


@pytest.mark.parametrize(
    ("name", "pattern", "replacement", "message"),
    [
        ("README.md", "hypotheses: sha256:.", "hypotheses: sha256:x", "which is not in the ledger"),
        ("README.md", r"\| test \| 4 \|", "| test | 5000 |", "A row of the card's table is not in the ledger"),
        ("README.md", "## Limits", "38 BLEU\n\n## Limits", "The card names a score without its signature"),
        ("score_ledger.json", r'"hypotheses": \[\s*"', '"hypotheses": ["x', "not those that were scored"),
        ("score_ledger.json", '"weights": "sha256:.', '"weights": "sha256:x', "scored with other weights"),
        ("score_ledger.json", r"case:mixed", "case:lc", "signature nrefs:1|bs:1000|seed:12345|case:lc"),
    ],
)  # fmt: skip
def test_what_is_wrong_beside_the_figures_is_named(published, scored, capsys, name, pattern, replacement, message):
    change(published / name, pattern, replacement)
    code, _, err = verified(published, scored, capsys)
    assert code == 1
    assert message in err


def test_another_version_of_sacrebleu_is_told_and_no_fault(published, scored, capsys):
    for name in ("score_ledger.json", "README.md"):
        text = (published / name).read_text(encoding="utf-8")
        (published / name).write_text(re.sub(r"version:[\d.]+", "version:2.4.0", text), encoding="utf-8")
    code, _, err = verified(published, scored, capsys)
    assert code == 0
    signature = "nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|ci:percentile|version:2.4.0"
    assert f"signature {signature}, computed" in err


def test_intervals_of_an_earlier_version_are_not_computed_again_which_is_told(published, scored, capsys):
    """Their bounds were the mean plus or minus half a width, and could lie where no score does."""
    for name in ("score_ledger.json", "README.md"):
        text = re.sub(r"\\?\|ci:percentile", "", (published / name).read_text(encoding="utf-8"))
        text = re.sub(r'"interval": \[\s*[\d.]+', '"interval": [-145.8', text)
        text = re.sub(r"interval_95:\n( +)- [\d.]+", r"interval_95:\n\1- -145.8", text)
        (published / name).write_text(re.sub(r" \[[\d.]+, ([\d.]+)\] ", r" [-145.80, \1] ", text), encoding="utf-8")
    code, out, err = verified(published, scored, capsys)
    assert code == 0, err
    assert "its intervals are of an earlier version" in err
    assert "signature" not in err
    assert "[" not in re.sub(r"\[-145.80, [\d.]+\]", "", out)
    change(published / "score_ledger.json", r'"value": [\d.]+', '"value": 99.5')
    assert verified(published, scored, capsys)[0] == 1


def test_without_the_references_it_says_which_are_needed(published, scored, capsys):
    assert main(["verify", "--model", str(published)]) == 1
    error = capsys.readouterr().err
    assert "test cannot be computed without test.en (fingerprint sha256:" in error
    assert "Give the files: --reference FILE." in error


@pytest.mark.parametrize("side", ["reference", "source"])
@pytest.mark.parametrize("kind", ["other side", "another text", "one line less", "not there", "beside the right one"])
def test_a_file_that_nothing_uses_is_an_error_that_names_what_is(side, kind, scored, published, tmp_path, capsys):
    right, other = (
        scored / name for name in (("test.en", "test.fr") if side == "reference" else ("test.fr", "test.en"))
    )
    given = tmp_path / "given"
    if kind == "other side":
        given = other
    elif kind == "one line less":
        given.write_text("\n".join(right.read_text(encoding="utf-8").split("\n")[:3]), encoding="utf-8")
    elif kind != "not there":
        given.write_text("another text\n", encoding="utf-8")
    files = [str(given), *([str(right)] if kind == "beside the right one" else [])]
    needed = [] if side == "reference" else ["--decode", "--device", "cpu", "--reference", str(scored / "test.en")]
    assert main(["verify", "--model", str(published), f"--{side}", *files, *needed]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    if kind == "not there":
        assert str(given) in captured.err
    else:
        assert f"{given} is not the {side} of a test set in the ledger (its fingerprint is sha256:" in captured.err
        assert f"Give one of these: test ({right.name}), fingerprint sha256:" in captured.err


@pytest.mark.parametrize("option", [["--source", "x"], ["--device", "cpu"]])
def test_what_is_for_decoding_alone_needs_it(option, published, capsys):
    assert main(["verify", "--model", str(published), *option]) == 2
    assert f"{option[0]} is for --decode" in capsys.readouterr().err


def test_on_this_machine_the_references_are_found_where_they_were(scored, capsys):
    assert main(["verify", "--model", str(scored / "model"), "--decode", "--device", "cpu"]) == 0
    assert "There is no card yet" in capsys.readouterr().err


def test_a_ledger_from_elsewhere_opens_no_files_here(published, scored):
    """Its paths are somebody else's; a published ledger has names alone."""
    ledger = json.loads((published / "score_ledger.json").read_text(encoding="utf-8"))
    assert ledger["entries"][0]["origin"] == {"source": "test.fr", "references": ["test.en"]}
    ledger["entries"][0]["origin"] = {"source": str(scored / "test.fr"), "references": [str(scored / "test.en")]}
    (published / "score_ledger.json").write_text(json.dumps(ledger), encoding="utf-8")
    assert not verify(published, TestSets(is_local=False)).passed
    assert verify(published, TestSets(is_local=True)).passed


def test_a_test_set_that_may_be_shared_needs_nothing_else(scored, tmp_path, tiny_model_folder):
    folder = Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))
    files = ["--source", str(scored / "test.fr"), "--reference", str(scored / "test.en"), "--device", "cpu"]
    assert main(["evaluate", "--model", str(folder), *files, "--num_beams", "1", "--keep_references"]) == 0
    write_publication(folder, "someone/fr-en", tmp_path / "published")
    assert verify(tmp_path / "published", TestSets()).passed


def test_a_folder_without_a_ledger_is_told_so(tiny_model_folder, capsys):
    assert main(["verify", "--model", str(tiny_model_folder)]) == 1
    assert "has none. `vanilla-transformer evaluate` writes it." in capsys.readouterr().err


def test_two_models_on_one_test_set_are_compared(published, scored, tmp_path, capsys, tiny_model_folder):
    other = Path(shutil.copytree(tiny_model_folder, tmp_path / "other"))
    files = ["--source", str(scored / "test.fr"), "--reference", str(scored / "test.en"), "--device", "cpu"]
    assert main(["evaluate", "--model", str(other), *files, "--num_beams", "1"]) == 0
    code, out, _ = verified(published, scored, capsys, "--compare_with", str(other))
    assert code == 0
    assert re.search(r"test, BLEU \(13a, cased\): [\d.]+ and [\d.]+, difference [+-][\d.]+, p = [\d.]+ \(", out)


def test_models_without_a_common_test_set_are_not_compared(published, scored, capsys, tiny_model_folder):
    code, _, err = verified(published, scored, capsys, "--compare_with", str(tiny_model_folder))
    assert code == 1
    assert "have none in common in their ledgers" in err
