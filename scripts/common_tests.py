"""Run transformers' common model tests on our models and, in the same harness, on its Marian and Bart.

python scripts/common_tests.py
python scripts/common_tests.py --checkout ../transformers

The tests come from the source distribution of the installed version of transformers, fetched from the package registry
into a temporary folder; four modules that it lacks have stand-ins in `scripts/common_tests/`. A checkout of the
transformers repository, at the tag of the installed version, replaces them, including the mixins for generation and
exporters, whose slow tests are run too.

Prints each outcome that differs, each failure and each test that ours skips, with its reason. The exit code is 0 if
ours fails none and passes every test that either of the others passes. Takes about ten minutes on two cores.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent / "common_tests"
MIXINS = ("modeling_common", "configuration_common", "training_mixin", "fsdp_mixin", "tensor_parallel_mixin")
STAND_INS = {
    "generation_test_utils.py": "generation/test_utils.py",
    "exporters_test_export.py": "exporters/test_export.py",
    "distributed_testing_utils.py": "distributed_testing_utils.py",
    "configuration_test_utils.py": "utils/test_configuration_utils.py",
    "test_models.py": "test_models.py",
}
OF_CHECKOUT = ("generation/test_utils.py", "exporters", "utils/test_configuration_utils.py", "test_memory_leak.py")
"""Files of a checkout that replace the stand-ins, except those for the models and the processes."""
OURS, PEERS = "VanillaTransformerTest", ("MarianTest", "BartTest")


def fetch_source(folder: Path) -> Path:
    """Download the source distribution of the installed transformers."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    wanted = f"transformers=={version('transformers')}"
    subprocess.run([*command, "--no-build-isolation", "--dest", str(folder), wanted], check=True)
    return next(folder.glob("transformers-*.tar.gz"))


def lay_out(source: Path, folder: Path) -> None:
    """Copy the mixins and our stand-ins as a package `tests` into `folder`."""
    root = source.name.removesuffix(".tar.gz")
    with tarfile.open(source) as archive:
        for mixin in MIXINS:
            archive.extract(f"{root}/tests/test_{mixin}.py", folder, filter="data")
    shutil.move(folder / root / "tests", folder / "tests")
    for ours, place in STAND_INS.items():
        target = folder / "tests" / place
        target.parent.mkdir(exist_ok=True)
        shutil.copy(HERE / ours, target)
    for package in {path.parent for path in (folder / "tests").rglob("*.py")}:
        (package / "__init__.py").touch()


def take_from_checkout(checkout: Path, folder: Path) -> list[str]:
    """Replace the source distribution's tests and the stand-ins with those of a checkout; return their names.

    Raises:
        SystemExit: it is not a checkout of transformers.
    """
    theirs = checkout / "tests"
    if not (theirs / "generation" / "test_utils.py").is_file():
        raise SystemExit(
            f"--checkout needs a checkout of the repository of transformers, with tests/generation/test_utils.py in "
            f"it, but {checkout} has none. Clone it at the tag of the installed version, v{version('transformers')}."
        )
    wanted = [*(f"test_{mixin}.py" for mixin in MIXINS), *OF_CHECKOUT]
    found = [name for name in wanted if (theirs / name).exists()]
    for name in found:
        target = folder / "tests" / name
        if (theirs / name).is_dir():
            shutil.copytree(theirs / name, target, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(theirs / name, target)
    for package in {path.parent for path in (folder / "tests").rglob("*.py")}:
        (package / "__init__.py").touch()
    return found


def run(folder: Path, selection: str, slow: bool = False) -> dict[str, dict[str, tuple[str, str]]]:
    """Run the tests; return the outcome and reason of each test by test class."""
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "tests/test_models.py", "-q", "--tb=short", "-p", "no:cacheprovider"]
    command += [f"--junitxml={report}", "-k", selection] if selection else [f"--junitxml={report}"]
    environment = {**os.environ, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if slow:
        environment["RUN_SLOW"] = "1"
    log = folder / "log.txt"
    with log.open("w") as output:
        subprocess.run(command, cwd=folder, env=environment, check=False, stdout=output, stderr=subprocess.STDOUT)
    if not report.exists():
        raise SystemExit(log.read_text()[-3000:])
    outcomes: dict[str, dict[str, tuple[str, str]]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("classname", "").split(".")[-1]
        outcomes.setdefault(name, {})[case.get("name", "")] = outcome_of(case)
    return outcomes


def outcome_of(case: ElementTree.Element) -> tuple[str, str]:
    """Return passed, failed or skipped, and the reason."""
    for tag, outcome in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        found = case.find(tag)
        if found is not None:
            return outcome, (found.get("message") or "").split("\n")[0][:200]
    return "passed", ""


def report(outcomes: dict[str, dict[str, tuple[str, str]]]) -> list[str]:
    """Print the comparison; return the tests in which ours falls short."""
    names = [name for name in (OURS, *PEERS) if name in outcomes]
    print(f"{'':<28}" + "".join(f"{outcome:>10}" for outcome in ("passed", "failed", "skipped")))
    for name in names:
        counts = [sum(o == outcome for o, _ in outcomes[name].values()) for outcome in ("passed", "failed", "skipped")]
        print(f"{name.removesuffix('Test'):<28}" + "".join(f"{count:>10}" for count in counts))
    ours = outcomes[OURS]
    short, differing = [], []
    for test, (outcome, _) in ours.items():
        others = [outcomes[name][test][0] for name in names[1:] if test in outcomes[name]]
        if outcome == "failed" or (outcome != "passed" and "passed" in others):
            short.append(test)
        if any(other != outcome for other in others):
            differing.append(f"  {test:<62}{outcome:<10}" + "".join(f"{other:<10}" for other in others))
    print("\nOutcomes that differ (ours, " + ", ".join(name.removesuffix("Test") for name in names[1:]) + "):")
    print("\n".join(differing) or "  none")
    for title, wanted in (("Ours fails", "failed"), ("Ours skips", "skipped")):
        print(f"\n{title}:")
        rows = [f"  {test}: {reason}" for test, (outcome, reason) in ours.items() if outcome == wanted]
        print("\n".join(rows) or "  none")
    return short


def main() -> int:
    """Fetch, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", metavar="FILE", help="a source distribution already downloaded")
    parser.add_argument("--checkout", metavar="DIR", help="a checkout of the transformers repository")
    parser.add_argument("--keep", metavar="DIR", help="a new folder for the tests and the log")
    parser.add_argument(
        "-k", dest="selection", default="", metavar="EXPRESSION", help="run only matching tests, as in pytest"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="common-tests-") as temporary:
        folder = Path(options.keep or temporary).resolve()
        folder.mkdir(exist_ok=True)
        lay_out(Path(options.source) if options.source else fetch_source(folder), folder)
        if options.checkout:
            print(f"From the checkout: {', '.join(take_from_checkout(Path(options.checkout), folder))}")
        short = report(run(folder, options.selection, slow=options.checkout is not None))
    print(f"\nOurs falls short in {len(short)}: {', '.join(short)}" if short else "\nOurs falls short in none.")
    return 1 if short else 0


if __name__ == "__main__":
    raise SystemExit(main())
