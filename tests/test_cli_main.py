"""The dispatcher: what is listed, what is imported, exit codes, and how errors are said."""

import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hf_vanilla_transformer import cli
from hf_vanilla_transformer.model.manifest import write_manifest

REPOSITORY = Path(__file__).parents[1]


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `score` a command that fails."""

    def main(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "import_module", lambda name, package: type("Command", (), {"main": staticmethod(main)}))


def test_help_lists_every_command_there_is(capsys):
    assert cli.main(["--help"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.split("\n") if line.startswith("  ")}
    folder = Path(cli.__file__).parent
    shared = {"__init__", "formats", "options", "plain_messages", "streams", "typed_lines"}
    assert listed == set(cli.COMMANDS) == {path.stem for path in folder.glob("*.py")} - shared


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_commands_help_exits_with_0(name, capsys):
    assert cli.main([name, "--help"]) == 0
    assert f"usage: vanilla-transformer {name}" in capsys.readouterr().out


WRONG_USAGE = [
    [],
    ["translat"],
    ["train", "--recipe", "nosuch", "--output_dir", "x"],
    ["train", "--reciep", "builtin-fr-en"],
    ["train"],
    ["translate", "--modle", "x"],
    ["translate", "--model", "x", "--num_beams", "0"],
    ["translate", "--model", "x", "--n_best", "3", "--num_beams", "2"],
    ["evaluate", "--model", "x"],
    ["evaluate", "--model", "x", "--dataset_name", "d", "--source", "s"],
    ["score", "--model", "x", "--source", "s", "--target", "t", "--overwrite"],
    ["average", "--last", "0"],
    ["convert", "--from", "t5"],
    ["export", "--to", "marian", "--model", "x", "--output", "y", "--quantization", "int8"],
    ["illustrate", "--model", "x"],
    ["push", "--model", "x", "--repo_id", "y", "--dry_run", "d", "--private"],
    ["verify", "--model", "x", "--device", "cpu"],
    ["doctor", "--model", "x", "--accept", "f"],
    ["curves"],
]


def test_help_and_wrong_usage_import_nothing_that_takes_seconds():
    assert {argv[0] for argv in WRONG_USAGE if argv} >= set(cli.COMMANDS)
    code = f"""
import sys
from hf_vanilla_transformer.cli import main, COMMANDS
for command in [[], *[[name] for name in COMMANDS]]:
    assert main([*command, "--help"]) == 0
for argv in {WRONG_USAGE}:
    assert main(argv) != 0, argv
heavy = ("torch", "transformers", "datasets", "numpy", "huggingface_hub", "yaml", "sacrebleu", "tqdm")
print("HEAVY", *sorted(set(heavy) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    assert [line for line in done.stdout.split("\n") if line.startswith("HEAVY")] == ["HEAVY"]
    assert len(done.stderr.strip().split("\n")) <= 2 * len(WRONG_USAGE)


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if name != "train"])
def test_every_option_takes_hyphens_and_an_unknown_one_names_the_nearest(name, capsys):
    assert cli.main([name, "--help"]) == 0
    options = re.findall(r"^  (?:-\w, )?(--\w+)", capsys.readouterr().out, re.MULTILINE)
    assert "--help" in options
    for option in options:
        hyphens = "--" + option[2:].replace("_", "-")
        assert cli.main([name, hyphens, "x", "--no-such-thing-at-all"]) == 2  # refused before the value is looked at
        assert "there is no option --no_such_thing_at_all" in capsys.readouterr().err
        misspelt = option[:-2] + option[-1] + option[-2]
        if misspelt not in options:
            assert cli.main([name, misspelt]) == 2
            assert f"there is no option {misspelt} (did you mean {option}?)" in capsys.readouterr().err


def test_a_value_keeps_its_hyphens(folder, tmp_path, capsys):
    (tmp_path / "a-b_c.txt").write_text("merci\n", encoding="utf-8")
    output = tmp_path / "d-e.txt"
    argv = ["translate", "--model", str(folder), "--num-beams=1", f"--input={tmp_path / 'a-b_c.txt'}"]
    assert cli.main([*argv, "--max-extra-tokens", "3", "--output", str(output)]) == 0
    assert output.is_file()


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("vanilla-transformer ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "A command is needed. The commands are train, translate"),
        (["translat"], "There is no command 'translat'. Did you mean translate? The commands are"),
        (["illustrait"], "There is no command 'illustrait'."),
        (["--hlep"], "There is no command '--hlep'. Did you mean --help?"),
        (["help"], "There is no command 'help'. Did you mean --help?"),
        (["score"], "the following arguments are required: --model"),
        (
            ["translate", "--model", "m", "--num_beams", "0"],
            "argument --num_beams: must be a whole number of at least 1",
        ),
        (["translate", "--model", "m", "--n_best", "2.5"], "argument --n_best: must be a whole number of at least 1"),
        (["translate", "--model", "m", "--max_extra_tokens", "-1"], "must be a whole number of at least 0, got -1"),
        (["translate", "--model", "m", "--max_extra_tokens="], "must be a whole number of at least 0, got nothing"),
        (["translate", "--model", "m", "--length_penalty", ""], "must be a number between -10 and 10, got nothing"),
        (["translate", "--model", "m", "--num_beams", "1000000"], "argument --num_beams: must be at most 1,000, got"),
        (
            ["evaluate", "--model", "m", "--length_penalty", "nan"],
            "--length_penalty: must be a number between -10 and",
        ),
        (["evaluate", "--model", "m", "--length_penalty", "inf"], "must be a number between -10 and 10, got inf"),
        (["translate", "--model", "m", "--coverage_penalty", "nan"], "must be a number between 0 and 100, got nan"),
        (["translate", "--model", "m", "--gnmt_length_penalty", "x"], "must be a number between -10 and 10, got x"),
        (["score", "--model", "m", "--batch_tokens", "1" + "0" * 5000], "argument --batch_tokens: must be "),
        (["translate", "--model", "m", "extra"], "unrecognized arguments: extra"),
    ],
)
def test_wrong_usage_exits_with_2(argv, message, capsys):
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("num_beams must be at least 1, got 0."), "num_beams must be at least 1, got 0."),
        (FileNotFoundError("There is no folder x."), "There is no folder x."),
        (FileNotFoundError(2, "No such file or directory", "corpus.txt"), "No such file or directory: corpus.txt"),
        (KeyError("token"), "KeyError: 'token' (unexpected: --debug shows where)"),
        (RuntimeError("first\nsecond"), "RuntimeError: first (unexpected: --debug shows where)"),
        (RuntimeError("CUDA out of memory. Tried\nmore"), "Out of memory: lower --batch_tokens"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_an_error_is_a_sentence_on_stderr_and_exit_code_1(monkeypatch, capsys, error, message):
    fail_with(monkeypatch, error)
    assert cli.main(["score"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"vanilla-transformer score: error: {message}")
    assert "Traceback" not in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("argv", [["--debug", "score"], ["score", "--debug"], ["score", "--model", "--debug"]])
def test_debug_is_taken_anywhere_and_lets_the_error_through(monkeypatch, argv):
    fail_with(monkeypatch, ValueError("why"))
    with pytest.raises(ValueError, match="why"):
        cli.main(argv)


def test_ctrl_c_is_one_line_and_130(monkeypatch, capsys):
    fail_with(monkeypatch, KeyboardInterrupt())
    assert cli.main(["score"]) == 130
    assert capsys.readouterr().err == "\nvanilla-transformer score: interrupted.\n"


def test_arguments_of_train_pass_through_untouched(monkeypatch):
    seen: list[list[str]] = []
    command = type("Command", (), {"main": staticmethod(lambda argv: seen.append(argv) or 0)})
    monkeypatch.setattr(cli, "import_module", lambda name, package: command)
    assert cli.main(["train", "--recipe", "r", "--help_all", "--whatever=1", "--help", "--debug"]) == 0
    assert seen == [["--recipe", "r", "--help_all", "--whatever=1", "--help"]]


def test_a_pipe_gets_each_answer_at_once_and_may_be_closed(folder):
    """A slow writer is answered before it goes on; when nobody reads on, as after `| head`, the end is quiet."""
    write_manifest(folder)
    command = [sys.executable, "-m", "hf_vanilla_transformer", "translate", "--model", str(folder)]
    command += ["--precision", "model"]  # nothing to say on stderr
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(2):
            process.stdin.write(b"merci\n")
            process.stdin.flush()
            assert process.stdout.readline().endswith(b"\n")  # would wait for ever if the command waited for more
        process.stdout.close()
        process.stdin.write(b"merci\n")
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 128 + signal.SIGPIPE


def test_an_error_that_comes_back_to_its_own_cause_is_told(monkeypatch, capsys):
    first, second = ValueError("the first"), ValueError("the second")
    first.__context__, second.__context__ = second, first

    def fail(arguments):
        raise first

    monkeypatch.setattr("hf_vanilla_transformer.cli.average.main", fail)
    assert cli.main(["average"]) == 1
    assert "error: the first" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_each_command_has_a_launcher_of_a_few_lines(name):
    file = "evaluate_model.py" if name == "evaluate" else f"{name}.py"  # evaluate.py would hide the library `evaluate`
    text = (REPOSITORY / "scripts" / file).read_text(encoding="utf-8")
    assert f'raise SystemExit(main(["{name}", *sys.argv[1:]]))' in text
    assert f"scripts/{file}" in text.split('"""')[1]


def test_a_launcher_reports_like_the_command(monkeypatch, capsys):
    script = str(REPOSITORY / "scripts" / "average.py")
    monkeypatch.setattr(sys, "argv", [script, "--checkpoints", "nowhere", "--output", "o"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(script, run_name="__main__")
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.endswith("error: There is no folder nowhere with checkpoints in it. Check the path.\n")
