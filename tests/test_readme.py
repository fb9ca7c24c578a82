"""What the READMEs say: snippets and commands run as printed, and whatever is named or linked to is there."""

import argparse
import io
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fresh_process import FreshProcesses
from model_folders import save_model_folder
from readmes import (
    DOCUMENTS,
    PACKAGE,
    ROOT,
    Command,
    anchors,
    in_backticks,
    links,
    named,
    section,
    shell_commands,
    snippets,
    without_snippets,
)
from tiny import tiny_model

import hf_vanilla_transformer
from hf_vanilla_transformer.cli import COMMANDS, main
from hf_vanilla_transformer.model import modeling_vanilla_transformer
from hf_vanilla_transformer.model.manifest import write_manifest

README = ROOT / "README.md"
PYTHON = [snippet for document in DOCUMENTS for snippet in snippets(document, "python")]
WITH_COMMANDS = [document for document in DOCUMENTS if snippets(document, "bash")]
OF_OTHER_PROGRAMS = {
    *("--lenpen", "--normalize", "--length-penalty-alpha"),  # of fairseq, Marian and Sockeye
    *("--logdir", "--pdb"),  # of tensorboard and pytest
}
SHAPE = {
    **{"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32},
    **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 280, "max_tokens": 200},
}
CHEAPER = {
    "train": ["--max_steps", "2", "--save_strategy", "steps", "--save_steps", "1", "--eval_strategy", "no"],
    "average": ["--last", "2"],
    "evaluate": ["--no_record", "--overwrite"],  # a random model's translations are no score
}
"""Added to what is run, so that it is done in seconds."""


class ParsedError(BaseException):
    """Ends a command once its options are known to be right; no `Exception`, so that no command catches it."""


@pytest.fixture(scope="module")
def prepared_workplace(tmp_path_factory: pytest.TempPathFactory, sentences: tuple[str, ...]) -> Path:
    """What the READMEs take to be there: models in `runs/`, and text in the files that they name."""
    place = tmp_path_factory.mktemp("workplace")
    for name in ("quickstart", "mine", "opus"):
        write_manifest(save_model_folder(place / "runs" / name, sentences * 2))
    for name in ("train", "val", "test", "more", "test_2016_flickr"):
        for language in ("en", "de", "fr"):
            lines = [f"{sentence} {number}" for number in range(20) for sentence in sentences[:5]]
            lines = lines if language == "en" else [f"{line} {language}" for line in lines]
            (place / f"{name}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place


@pytest.fixture
def workplace(prepared_workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workplace, as the current folder."""
    place = Path(shutil.copytree(prepared_workplace, tmp_path / "workplace"))
    monkeypatch.chdir(place)
    return place


# Snippets of Python


@pytest.mark.slow
@pytest.mark.parametrize("snippet", PYTHON, ids=[snippet.place for snippet in PYTHON])
def test_every_snippet_runs_alone_in_a_fresh_process(snippet: Any, workplace: Path, fresh_processes: FreshProcesses):
    """A reader copies one of them, not all: what it needs is imported in it, the registration included."""
    if "ctranslate2" in snippet.code:
        pytest.importorskip("ctranslate2")
        assert main(["export", "--to", "ctranslate2", "--model", "runs/opus", "--output", "runs/opus-int8"]) == 0
    ended = fresh_processes.run(snippet.code, cwd=workplace)
    assert ended.returncode == 0, ended.stderr[-2000:]


# Commands


@pytest.mark.parametrize("document", WITH_COMMANDS, ids=named)
def test_every_command_has_the_options_that_it_is_given(document: Path, monkeypatch, capsys):
    for snippet in snippets(document, "bash"):
        for command in shell_commands(snippet):
            check_command(command, monkeypatch)
    capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize("document", WITH_COMMANDS, ids=named)
def test_every_command_that_needs_no_network_runs(document: Path, workplace: Path, monkeypatch, capsys):
    for snippet in snippets(document, "bash"):
        for command in shell_commands(snippet):
            if command.words[0] == "vanilla-transformer" and not needs_network(command):
                prepare_place(command, workplace)
                monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(command.stdin.encode())))
                code = main(cheaper(command))
                assert code == 0, (snippet.place, command.words, capsys.readouterr().err[-2000:])


def check_command(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if its program would refuse it, or a file of the repository that it names is not there."""
    program, *arguments = command.words
    for word in arguments:
        if word.startswith(("scripts/", "hf_vanilla_transformer/")):
            assert (ROOT / word).is_file(), word
    if program == "vanilla-transformer":
        parse_only(arguments, monkeypatch)
    elif program == "accelerate":
        from accelerate.commands.launch import launch_command_parser

        assert arguments[0] == "launch"
        launch = launch_command_parser().parse_args(arguments[1:])
        assert launch.training_script == "scripts/train.py"
        parse_only(["train", *launch.training_script_args], monkeypatch)
    elif program == "pip":
        assert arguments == ["install", "-c", "scripts/constraints.txt", "-e", ".[conversion]"]
        assert "\nconversion = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    elif program == "hf":
        assert arguments == ["auth", "login"]
    else:
        assert program == "bash", command.words


def parse_only(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command of ours parse its options, and do no more."""
    real_parse = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> Any:
        real_parse(self, *args, **kwargs)
        raise ParsedError

    def train(*args: Any, **kwargs: Any) -> Any:
        raise ParsedError

    with monkeypatch.context() as patched:
        if arguments[0] == "train":
            patched.setattr("hf_vanilla_transformer.training.run.run_training", train)
        else:
            patched.setattr(argparse.ArgumentParser, "parse_args", parse)
        with pytest.raises(ParsedError):
            main(arguments)  # what it says of a wrong option is in pytest's report


def needs_network(command: Command) -> bool:
    """Whether it speaks to the Hub; a dry run does not."""
    names_repository = any(re.fullmatch(r"(someone|Helsinki-NLP)/[\w-]+", word) for word in command.words)
    return names_repository and "--dry_run" not in command.words


def cheaper(command: Command) -> list[str]:
    """The same command, done in seconds."""
    name, *arguments = command.words[1:]
    shape = [f"--{field}={size}" for field, size in SHAPE.items()]
    return [name, *arguments, *CHEAPER.get(name, []), *(shape if name == "train" and "--recipe" in arguments else [])]


def prepare_place(command: Command, workplace: Path) -> None:
    """A run starts in a folder of its own, and a changed file is accepted once it is changed."""
    words = command.words
    if words[1] == "train":
        shutil.rmtree(workplace / words[words.index("--output_dir") + 1], ignore_errors=True)
    if "--accept" in words:
        changed = workplace / words[words.index("--model") + 1] / words[words.index("--accept") + 1]
        changed.write_text(changed.read_text(encoding="utf-8") + "\n", encoding="utf-8")


# Names


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_leads_somewhere(document: Path):
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.fixture(scope="module")
def known_options() -> set[str]:
    """What the commands and our scripts list, and what the READMEs' commands are checked to have."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "scripts").rglob("*.py")]
    texts += [snippet.code for document in DOCUMENTS for snippet in snippets(document, "bash")]
    for name in COMMANDS:
        for option in ("--help", "--help_all") if name == "train" else ("--help",):
            texts.append("".join(_printed_by(name, option)))
    return set(re.findall(r"--[a-z][\w-]*", " ".join(texts))) | OF_OTHER_PROGRAMS


def _printed_by(*arguments: str) -> Iterator[str]:
    standard, sys.stdout = sys.stdout, io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    try:
        assert main(list(arguments)) == 0
        sys.stdout.seek(0)
        yield sys.stdout.read()
    finally:
        sys.stdout = standard


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_option_that_is_named_exists(document: Path, known_options: set[str]):
    options = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", without_snippets(document)))
    assert {option for option in options if not {option, _with_underscores(option)} & known_options} == set()


def _with_underscores(option: str) -> str:
    return f"--{option[2:].replace('-', '_')}"


def test_the_map_of_the_paper_names_what_exists():
    modules = [
        module for kind in ("interleaved", "learned") for module in tiny_model(positional_encoding=kind).modules()
    ]
    of_classes = {kind.__name__: module for module in modules for kind in type(module).__mro__}
    entries = in_backticks(
        "\n".join(re.findall(r"^\|.*$", section(README, "Where each section of the paper is"), re.M))
    )
    assert len(entries) > 20
    for entry in entries:
        if entry.endswith(".py"):
            assert (PACKAGE / entry).is_file(), entry
        else:
            name, *attributes = entry.split(".")
            found = of_classes.get(name) or getattr(modeling_vanilla_transformer, name)
            assert all(hasattr(found, attribute) for attribute in attributes), entry


def test_every_file_and_room_is_in_its_table():
    files = {path.name for path in (PACKAGE / "model").glob("*.py")} - {"__init__.py"}
    assert in_backticks(section(PACKAGE / "model" / "README.md", "The files")) & files == files
    named_files = {
        name for name in in_backticks(section(PACKAGE / "model" / "README.md", "The files")) if ".py" in name
    }
    assert named_files == files
    rooms = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    in_table = in_backticks(section(ROOT / "scripts" / "README.md", "Rooms"))
    assert rooms <= in_table
    for name in in_table:
        if name.endswith((".py", "/")):
            assert any((place / name).exists() for place in (PACKAGE, ROOT)), name
    for name in in_backticks(section(ROOT / "scripts" / "README.md", "Check a change")):
        assert not name.startswith("scripts/") or (ROOT / name).is_file(), name


def test_the_commands_and_exported_names_are_those_of_the_package():
    assert set(re.findall(r"^\| `(\w+)` \|", section(README, "The commands"), re.M)) == set(COMMANDS)
    exported = in_backticks(section(README, "Use it from Python").split("The package also exports")[1])
    assert exported <= set(hf_vanilla_transformer.__all__)


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_table_of_the_report_has_an_end(document: Path):
    marks = re.findall(r"^<!-- (end of )?report (\w+) -->$", document.read_text(encoding="utf-8"), re.M)
    assert [name for end, name in marks if not end] == [name for end, name in marks if end]
    assert [bool(end) for end, _ in marks] == [False, True] * (len(marks) // 2)


# Versions


def test_the_newest_entry_of_the_changelog_is_this_version():
    entries = re.findall(
        r"^## \[(.+)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M
    )
    assert entries[0][0] == hf_vanilla_transformer.__version__
    assert [date for _, date in entries] == sorted((date for _, date in entries), reverse=True)


def test_the_package_and_its_distribution_have_one_version():
    """`pyproject.toml` either takes the version from the package or says the same."""
    stated = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert set(stated) <= {hf_vanilla_transformer.__version__}
