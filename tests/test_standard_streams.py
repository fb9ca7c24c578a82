"""Every stream that a command reads or writes: closed, full, binary, endless; and Ctrl-C before there is a command."""

import contextlib
import gzip
import io
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from hf_vanilla_transformer import cli
from hf_vanilla_transformer.translation import Translator

REPOSITORY = Path(__file__).parents[1]
COMMANDS_OF_STDOUT = [["--help"], ["--version"], *([name, "--help"] for name in ("translate", "evaluate", "train"))]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def commands(tiny_model_folder, tmp_path):
    """Each command that reads text, with a file of it; `None` is for stdin."""

    def arguments(name: str, path: Path | None) -> list[str]:
        other = tmp_path / "other"
        if path is not None:
            other.write_bytes(b"merci\n")
        places = {
            "translate": [] if path is None else ["--input", str(path)],
            "score": ["--source", str(path), "--target", str(other)],
            "evaluate": ["--source", str(other), "--reference", str(path), "--output_dir", str(tmp_path / "scores")],
            "verify": ["--decode", "--reference", str(path)],
            "train": [
                "--train_source",
                str(path),
                "--train_target",
                str(other),
                "--output_dir",
                str(tmp_path / "run"),
            ],
        }
        model = [] if name == "train" else ["--model", str(tiny_model_folder), "--device", "cpu"]
        more = ["--eval_strategy", "no", "--use_cpu", "--max_steps", "1"] if name == "train" else []
        return [name, *model, *places[name], *more]

    return arguments


TEXT_COMMANDS = ("translate", "score", "evaluate", "verify", "train")
NO_TEXT = {
    "gzip": (gzip.compress(b"merci\n"), "is compressed by gzip: unpack it first, for instance by `zcat`"),
    "utf-16": ("merci\nle chat\n".encode("utf-16le"), "is in UTF-16LE: convert it, for instance by `iconv"),
    "old Macintosh": (b"merci\rle chat\r", "(old Macintosh). Convert it, for instance by `tr"),
    "bytes": (random.Random(0).randbytes(5000), "Text must be UTF-8"),
}


@pytest.mark.parametrize("kind", NO_TEXT)
@pytest.mark.parametrize("name", TEXT_COMMANDS)
def test_every_command_refuses_what_is_no_text_in_a_sentence(commands, tmp_path, capsys, name, kind):
    data, message = NO_TEXT[kind]
    path = tmp_path / "text"
    path.write_bytes(data)
    assert cli.main(commands(name, path)) == 1
    error = capsys.readouterr().err
    assert message in error
    assert str(path) in error
    assert "Traceback" not in error


def with_stdin(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


@pytest.mark.parametrize("kind", NO_TEXT)
def test_stdin_is_read_as_files_are(commands, monkeypatch, capsys, kind):
    data, message = NO_TEXT[kind]
    with_stdin(monkeypatch, data)
    assert cli.main(commands("translate", None)) == 1
    assert message in capsys.readouterr().err


def test_control_characters_reach_neither_the_model_nor_the_output(commands, monkeypatch, capsys, caplog):
    seen: list[str] = []
    translate = Translator.translate
    monkeypatch.setattr(
        Translator, "translate", lambda self, lines, **o: seen.extend(lines) or translate(self, lines, **o)
    )
    with_stdin(monkeypatch, b"mer\x00ci\n\x1b[31mle chat\x07\n")
    assert cli.main([*commands("translate", None), "--format", "jsonl"]) == 0
    captured = capsys.readouterr()
    assert seen == ["mer ci", " [31mle chat "]
    assert [json.loads(line)["source"] for line in captured.out.splitlines()] == seen
    assert "stdin: 3 control characters, such as NUL, are each read as a space." in caplog.text


@pytest.mark.parametrize("name", ["translate", "score", "evaluate"])
def test_a_line_that_is_no_sentence_is_refused_with_its_number_before_the_work(commands, tmp_path, capsys, name):
    path = tmp_path / "text"
    path.write_bytes(b"le chat dort " * 2_000 + b"\n")
    (tmp_path / "other").write_bytes(b"merci\n")
    arguments = commands(name, path)
    if name == "evaluate":
        arguments[arguments.index("--source") + 1], arguments[arguments.index("--reference") + 1] = (
            str(path),
            str(tmp_path / "other"),
        )
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert re.search(
        r"must have at most 5,000 tokens, but line 1(?: of the source)? has \d\d,\d{3}: time and memory", error
    )
    assert "Split it into sentences, or raise max_source_tokens" in error


def test_a_long_line_is_said_and_translated(commands, monkeypatch, capsys, caplog):
    with_stdin(monkeypatch, b"merci\n" + b"le chat dort " * 20 + b"\n")
    monkeypatch.setattr("hf_vanilla_transformer.model.sentences.LONG_SENTENCE", 100)
    assert cli.main([*commands("translate", None), "--num_beams", "1", "--max_source_tokens", "3000"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 2
    assert re.search(r"line 2 has [\d,]+ tokens, far more than a sentence: it may take minutes", caplog.text)


def test_a_closed_stdin_is_refused_before_the_model_is_loaded(commands, monkeypatch, capsys):
    monkeypatch.setattr(Translator, "from_pretrained", lambda *_: pytest.fail("the model was loaded"))
    monkeypatch.setattr(sys, "stdin", None)
    for more in ([], ["--interactive"]):
        assert cli.main([*commands("translate", None), *more]) == 1
        assert (
            "Text is read from stdin, but that is closed. Pipe text into it, or give --input"
            in capsys.readouterr().err
        )


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_closed_stdout_is_refused_before_any_work(monkeypatch, capsys, name):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(cli, "import_module", lambda *_: pytest.fail("work began"))
    assert cli.main([name]) == 1
    assert "Results and messages go to stdout, but that is closed." in capsys.readouterr().err


@pytest.mark.parametrize("stderr", ["closed", "full"])
def test_without_anyone_to_tell_the_work_is_done(commands, monkeypatch, capfdbinary, stderr):
    with contextlib.ExitStack() as stack:
        full = None if stderr == "closed" else full_stream(stack)
        monkeypatch.setattr(sys, "stderr", full)
        with_stdin(monkeypatch, b"merci\n")
        assert cli.main(commands("translate", None)) == 0
        assert cli.main(["translate", "--model", "nowhere"]) == 1
    assert capfdbinary.readouterr().out.count(b"\n") == 1


def full_stream(stack: contextlib.ExitStack):
    """A text stream on a device that is full, whose number nobody else has."""
    stream = open("/dev/full", "w", encoding="utf-8", buffering=1)  # noqa: SIM115

    def close() -> None:
        with contextlib.suppress(OSError):
            stream.close()

    stack.callback(close)
    return stream


needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")


@needs_dev_full
@pytest.mark.parametrize(
    "arguments", [*COMMANDS_OF_STDOUT, ["translate"], ["translate", "--interactive"]], ids=" ".join
)
def test_a_full_stdout_is_an_error_that_names_it(commands, monkeypatch, capsys, arguments):
    if arguments[0] == "translate" and "--help" not in arguments:
        with_stdin(monkeypatch, b"merci\n" * 3)
        arguments = [*commands("translate", None), *arguments[1:]]
    with contextlib.ExitStack() as stack:
        monkeypatch.setattr(sys, "stdout", full_stream(stack))
        assert cli.main(arguments) == 1
    assert "error: stdout cannot be written: No space left on device." in capsys.readouterr().err


@needs_dev_full
@pytest.mark.parametrize("name", ["translate", "score"])
def test_a_full_output_is_an_error_that_names_it(commands, tmp_path, capsys, name):
    path = tmp_path / "text"
    path.write_bytes(b"merci\n")
    assert cli.main([*commands(name, path), "--output", "/dev/full"]) == 1
    assert "error: /dev/full cannot be written: No space left on device." in capsys.readouterr().err


@pytest.mark.parametrize("limit", [0, 3, 100])
def test_a_full_disk_names_the_output_and_keeps_the_old_one(commands, tmp_path, monkeypatch, capsys, limit):
    output = tmp_path / "output"
    output.write_text("old", encoding="utf-8")
    with_stdin(monkeypatch, b"merci\n" * 3)
    arguments = [*commands("translate", None), "--format", "jsonl", "--output", str(output), "--overwrite"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        code = cli.main(arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    assert f"error: {tmp_path} does not allow a file of this size" in capsys.readouterr().err
    assert output.read_text(encoding="utf-8") == "old"
    assert not list(tmp_path.glob(".output*"))


def test_typed_bytes_that_are_no_character_end_nothing(commands, monkeypatch, capsys, caplog):
    with_stdin(monkeypatch, b"merci\ncaf\xe9\nmer\x00ci\nle chat\n")
    assert cli.main([*commands("translate", None), "--interactive", "--num_beams", "1"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 3
    assert "line 2 of stdin holds the byte 0xe9" in captured.err
    assert "stdin: 1 control characters" in caplog.text


def test_an_input_that_cannot_be_read_is_named(commands, monkeypatch, capsys, tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(sys, "stdin", _folder(folder))
    assert cli.main(commands("translate", None)) == 1
    assert "stdin cannot be read: Is a directory. Give a file or pipe of text." in capsys.readouterr().err
    os.close(folder)


def _folder(number: int) -> io.TextIOWrapper:
    """What stdin is after `< folder`."""

    class Folder(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:
            buffer[:] = os.read(number, len(buffer))
            return len(buffer)

    return io.TextIOWrapper(io.BufferedReader(Folder()))


@pytest.mark.parametrize("hidden", [ImportError("initialization failed"), RuntimeError("odd")])
def test_ctrl_c_that_a_library_hides_is_ctrl_c(monkeypatch, capsys, hidden):
    def load(*_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise hidden from interrupt

    monkeypatch.setattr(cli, "import_module", load)
    assert cli.main(["score"]) == 130
    assert capsys.readouterr().err == "\nvanilla-transformer score: interrupted.\n"


# The real program, with imports that do not take seconds

STUB = """
import json, os, signal, sys, time
def is_open(number):
    try:
        return bool(os.fstat(number))
    except OSError:
        return False
found = [is_open(number) for number in (0, 1, 2)]
with open(os.environ["REPORT"], "w") as file:
    json.dump({"open": found, "stdin": str(sys.stdin)[:4]}, file)
os.kill(os.getpid(), signal.SIGINT)
while True:
    time.sleep(0.01)
"""
CONSOLE_SCRIPT = "import sys\nfrom hf_vanilla_transformer.cli import main\nsys.exit(main())\n"


@pytest.fixture
def interrupted_import(tmp_path):
    """Start Python with arguments; whatever library the package imports first sends Ctrl-C."""
    for name in ("torch", "transformers", "huggingface_hub"):
        (tmp_path / "stubs" / name).mkdir(parents=True)
        (tmp_path / "stubs" / name / "__init__.py").write_text(STUB, encoding="utf-8")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "vanilla-transformer").write_text(CONSOLE_SCRIPT, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path / "stubs"), str(REPOSITORY)])
    environment = {**os.environ, "PYTHONPATH": path, "REPORT": str(tmp_path / "report")}

    def start(*arguments: str, redirection: str = ""):
        command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60)
        return done, json.loads((tmp_path / "report").read_text(encoding="utf-8"))

    return start


DOCTOR = ["doctor", "--model", "x"]


@pytest.mark.parametrize("entry", ["module", "console script", "scripts/train", "scripts/evaluate_model"])
def test_ctrl_c_during_the_import_is_a_line_and_130(interrupted_import, tmp_path, entry):
    (tmp_path / "source").write_text("merci\n", encoding="utf-8")
    (tmp_path / "reference").write_text("thanks\n", encoding="utf-8")
    command = {
        "module": ["-m", "hf_vanilla_transformer", *DOCTOR],
        "console script": [str(tmp_path / "bin" / "vanilla-transformer"), *DOCTOR],
        "scripts/train": [str(REPOSITORY / "scripts" / "train.py"), "--output_dir", "x"],
        "scripts/evaluate_model": [
            *(str(REPOSITORY / "scripts" / "evaluate_model.py"), "--model", str(tmp_path)),
            *("--source", str(tmp_path / "source"), "--reference", str(tmp_path / "reference")),
        ],
    }
    done, _ = interrupted_import(*command[entry])
    assert done.returncode == 130
    assert re.search(r"\nvanilla-transformer( \w+)?: interrupted\.\n$", done.stderr)
    assert "Traceback" not in done.stderr


def test_a_library_keeps_pythons_answer_to_ctrl_c(interrupted_import, tmp_path):
    (tmp_path / "train.py").write_text("import hf_vanilla_transformer, transformers\n", encoding="utf-8")
    for arguments in (["-c", "import hf_vanilla_transformer, transformers"], ["train.py"]):
        done, report = interrupted_import(*arguments, redirection="<&-")
        assert done.returncode == -signal.SIGINT
        assert "KeyboardInterrupt" in done.stderr
        assert not report["open"][0]


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_no_file_gets_the_number_of_a_closed_stream(interrupted_import, closed):
    """Without stdout nothing is imported: a command refuses that."""
    done, report = interrupted_import("-m", "hf_vanilla_transformer", *DOCTOR, redirection=closed)
    assert done.returncode == 130
    assert report["open"] == [True] * 3
    assert (report["stdin"] == "None") == ("<&-" in closed)
