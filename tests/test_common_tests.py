"""The script that runs the ecosystem's own tests: what it lays out, and what counts as falling short."""

import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def common_tests(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield __import__("common_tests")
    sys.modules.pop("common_tests", None)


def test_mixins_and_stand_ins_become_one_package(common_tests, tmp_path):
    source = tmp_path / "transformers-9.9.9"
    (source / "tests").mkdir(parents=True)
    for mixin in common_tests.MIXINS:
        (source / "tests" / f"test_{mixin}.py").write_text("# a mixin")
    with tarfile.open(tmp_path / "transformers-9.9.9.tar.gz", "w:gz") as archive:
        archive.add(source, source.name)

    common_tests.lay_out(tmp_path / "transformers-9.9.9.tar.gz", tmp_path / "there")

    tests = tmp_path / "there" / "tests"
    for path in ("test_modeling_common.py", "generation/test_utils.py", "exporters/__init__.py", "test_models.py"):
        assert (tests / path).exists(), path


def test_a_checkouts_tests_take_the_place_of_stand_ins(common_tests, tmp_path):
    checkout, run = tmp_path / "checkout", tmp_path / "run"
    mixins = ("generation/test_utils.py", "exporters/test_export.py", "test_modeling_common.py")
    for name in (*mixins, "trainer/other.py"):
        path = checkout / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# theirs")
    for name in ("generation/test_utils.py", "test_models.py"):
        path = run / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# ours")

    found = common_tests.take_from_checkout(checkout, run)

    assert found == ["test_modeling_common.py", "generation/test_utils.py", "exporters"]
    assert (run / "tests" / "generation" / "test_utils.py").read_text() == "# theirs"
    assert (run / "tests" / "exporters" / "test_export.py").read_text() == "# theirs"
    assert (run / "tests" / "exporters" / "__init__.py").exists()
    assert (run / "tests" / "test_models.py").read_text() == "# ours"
    assert not (run / "tests" / "trainer").exists()


def test_a_folder_that_is_no_checkout_is_refused(common_tests, tmp_path):
    with pytest.raises(SystemExit, match=r"--checkout needs a checkout of the repository of transformers"):
        common_tests.take_from_checkout(tmp_path, tmp_path / "run")


@pytest.mark.parametrize(
    ("ours", "peer", "short"),
    [
        ("passed", "passed", False),
        ("skipped", "skipped", False),
        ("passed", "failed", False),
        ("failed", "failed", True),
        ("skipped", "passed", True),
    ],
)
def test_ours_falls_short_where_it_fails_or_a_peer_alone_passes(ours, peer, short, common_tests, capsys):
    outcomes = {
        "VanillaTransformerTest": {"test_a": (ours, "why")},
        "MarianTest": {"test_a": (peer, "")},
        "BartTest": {"test_a": ("skipped", "")},
    }

    assert common_tests.report(outcomes) == (["test_a"] if short else [])
    assert ("test_a: why" in capsys.readouterr().out) == (ours != "passed")


def test_outcomes_are_read_with_their_reasons(common_tests):
    case = ElementTree.fromstring('<testcase name="a"><skipped message="no GPU&#10;here"/></testcase>')
    assert common_tests.outcome_of(case) == ("skipped", "no GPU")
    case = ElementTree.fromstring('<testcase name="a"><failure message="broken"/></testcase>')
    assert common_tests.outcome_of(case) == ("failed", "broken")
    assert common_tests.outcome_of(ElementTree.fromstring("<testcase/>")) == ("passed", "")
