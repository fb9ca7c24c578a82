"""`translate`: files, pipes, formats, and one line out for one line in."""

import io
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.translation import Hypothesis, Translation, Translator

EXACT = ("--device", "cpu", "--precision", "model")
WEIRD = ["merci", "", " \t", "a\u2028b", "c\x0b\x0cd\x85e\rf", "</s> <pad>", "日本語 😀", "la petite maison"]


@pytest.fixture
def give_stdin(monkeypatch):
    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return give


@pytest.fixture(scope="module")
def translator(tiny_model_folder: Path) -> Translator:
    return Translator.from_pretrained(tiny_model_folder, device="cpu")


@pytest.fixture
def translate(tiny_model_folder):
    def run(*arguments: str) -> int:
        return main(["translate", "--model", str(tiny_model_folder), *EXACT, *arguments])

    return run


def lines_of(text: str) -> list[str]:
    assert text.endswith("\n")
    return text[:-1].split("\n")


def spaced(text: str) -> str:
    """Every line break that Python knows made a space, by Python's own splitting."""
    pairs = zip(text.splitlines(keepends=True), text.splitlines(), strict=True)
    return "".join(kept if kept == bare else f"{bare} " for kept, bare in pairs)


def test_one_line_out_for_one_line_in_whatever_they_hold(translate, give_stdin, capsys, translator, sentences):
    lines = [*WEIRD, *sentences]
    give_stdin("\n".join(lines).encode())  # no newline at the end
    assert translate() == 0
    captured = capsys.readouterr()
    assert lines_of(captured.out) == [spaced(translation.text) for translation in translator.translate(lines)]
    assert lines_of(captured.out)[1:3] == ["", ""]
    assert "translations ran into their length limit" in captured.err


@pytest.mark.parametrize("output_format", ["text", "jsonl"])
def test_line_breaks_of_any_kind_in_a_translation_stay_on_its_line(
    translate, give_stdin, capsys, monkeypatch, output_format
):
    """By a translator that echoes, with a newline of its own."""

    def echo(self: Translator, lines: list[str], **settings: Any) -> list[Translation]:
        return [Translation((Hypothesis(f"{line}\n.\r\n.", 0.0, True),)) for line in lines]

    monkeypatch.setattr(Translator, "translate", echo)
    give_stdin("\n".join(WEIRD).encode())
    assert translate("--format", output_format) == 0
    printed = lines_of(capsys.readouterr().out)
    assert all(len(line.splitlines()) == 1 for line in printed)
    texts = [f"{line}\n.\r\n." for line in WEIRD]
    if output_format == "text":
        assert printed == [spaced(text) for text in texts]
    else:
        assert [json.loads(line)["hypotheses"][0]["text"] for line in printed] == texts


def test_files_give_what_pipes_give(translate, give_stdin, capsys, tmp_path, sentences):
    data = "".join(f"{line}\n" for line in sentences).encode()
    give_stdin(data)
    assert translate("--num_beams", "2") == 0
    piped = capsys.readouterr().out
    (tmp_path / "in").write_bytes(data)
    assert translate("--num_beams", "2", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")) == 0
    assert (tmp_path / "out").read_text(encoding="utf-8") == piped
    assert capsys.readouterr().out == ""


def test_options_reach_the_translator(translate, give_stdin, capsys, translator):
    give_stdin(b"la petite maison\n")
    assert (
        translate("--num_beams", "3", "--length_penalty", "0.2", "--max_extra_tokens", "2", "--format", "jsonl") == 0
    )
    row = json.loads(capsys.readouterr().out)
    expected = translator.translate(["la petite maison"], num_beams=3, length_penalty=0.2, max_extra_tokens=2)[0]
    assert row["hypotheses"] == [
        {"text": expected.text, "score": pytest.approx(expected.score), "finished": expected.finished}
    ]


def test_n_best_lines_are_numbered_from_0_and_best_first(translate, give_stdin, capsys, monkeypatch):
    monkeypatch.setattr("hf_vanilla_transformer.cli.streams.PIECE_BYTES", 7)  # the third line comes in another piece
    give_stdin(b"merci\n\nle petit chat\n")
    assert translate("--n_best", "3") == 0
    rows = [line.split(" ||| ") for line in lines_of(capsys.readouterr().out)]
    assert [row[0] for row in rows] == ["0"] * 3 + ["1"] + ["2"] * 3
    assert rows[3] == ["1", "", "0.000000"]
    scores = [float(row[-1]) for row in rows]
    assert scores[:3] == sorted(scores[:3], reverse=True)


def test_jsonl_keeps_exact_text_on_one_line(translate, give_stdin, capsys, translator):
    give_stdin("\n".join(WEIRD).encode())
    assert translate("--format", "jsonl", "--n_best", "2") == 0
    printed = lines_of(capsys.readouterr().out)
    assert len(printed) == len(WEIRD)
    for source, line, translation in zip(WEIRD, printed, translator.translate(WEIRD, n_best=2), strict=True):
        assert len(line.splitlines()) == 1
        row = json.loads(line)
        assert row["source"] == source
        assert [h["text"] for h in row["hypotheses"]] == [h.text for h in translation.hypotheses]


def test_interactive_answers_each_line_and_goes_on_after_a_bad_one(translate, monkeypatch, capsys, translator):
    monkeypatch.setattr(sys, "stdin", io.StringIO("merci\n\n\ud800\nla maison\n"))
    assert translate("--interactive", "--num_beams", "1") == 0
    captured = capsys.readouterr()
    expected = translator.translate(["merci", "", "la maison"], num_beams=1)
    assert lines_of(captured.out) == [spaced(translation.text) for translation in expected]
    assert "half of a surrogate pair" in captured.err
    assert captured.err.count("\n") == 1


def test_an_existing_output_is_refused_before_any_work(translate, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Translator, "from_pretrained", lambda *_: pytest.fail("the model was loaded"))
    (tmp_path / "in").write_text("merci\n", encoding="utf-8")
    (tmp_path / "out").write_text("old", encoding="utf-8")
    assert translate("--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")) == 1
    assert "out exists already. Give --overwrite" in capsys.readouterr().err
    assert (tmp_path / "out").read_text(encoding="utf-8") == "old"


def test_a_failure_leaves_no_output(translate, tmp_path, capsys):
    (tmp_path / "in").write_bytes(b"merci\ncaf\xe9\n")
    assert translate("--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")) == 1
    assert "line 2 of" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--interactive", "--input", "x"], 2, "--interactive reads the keyboard"),
        (["--num_beams", "2", "--n_best", "3"], 2, "--n_best 3 needs as many beams, but --num_beams is 2"),
        (["--n_best", "5"], 1, "n_best must be at least 1 and at most num_beams, got n_best 5 and num_beams 4"),
        (["--input", "nowhere"], 1, "There is no input file nowhere"),
    ],
)
def test_wrong_options_are_refused(translate, give_stdin, capsys, arguments, code, message):
    give_stdin(b"merci\n")
    assert translate(*arguments) == code
    assert message in capsys.readouterr().err


def test_a_missing_model_is_a_sentence(capsys):
    assert main(["translate", "--model", "/nowhere/model"]) == 1
    assert "error: There is no model folder /nowhere/model. Check the path.\n" in capsys.readouterr().err


# A terminal


LEFT, UP, HOME, ENTER, END = "\x1b[D", "\x1b[A", "\x01", "\r", "\x04"


def type_keys(folder: Path, keys: list[str], state: Path, stdout: int | None = None) -> str:
    """What a terminal shows where `--interactive` runs in it and each of `keys` is typed after a prompt."""
    import pty
    import select

    mine, its = pty.openpty()
    code = "import sys, termios; from hf_vanilla_transformer.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "translate", "--model", str(folder), "--device", "cpu", "--interactive",
         "--num_beams", "1", "--format", "jsonl"],
        stdin=its, stdout=its if stdout is None else stdout, stderr=its, start_new_session=True,
        env={**os.environ, "XDG_STATE_HOME": str(state), "TERM": "xterm", "LC_ALL": "C.UTF-8", "INPUTRC": "/dev/null"},
    )  # fmt: skip
    os.close(its)
    shown, waiting = "", list(keys)
    try:
        while select.select([mine], [], [], 120)[0]:
            try:
                data = os.read(mine, 4096)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            shown += data.decode("utf-8", "replace")
            if waiting and re.sub(r"\x1b\[\?\d+[hl]", "", shown).endswith("> "):
                os.write(mine, waiting.pop(0).encode())
        assert process.wait(timeout=60) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(mine)
    return shown


def sources_in(text: str) -> list[str]:
    return [json.loads(row)["source"] for row in re.findall(r'\{"source".*\}', text)]


needs_terminals = pytest.mark.skipif(os.name == "nt", reason="this system has no pseudo-terminals")


@needs_terminals
def test_at_a_terminal_lines_are_edited_and_recalled_in_the_next_session_too(tiny_model_folder, tmp_path):
    pytest.importorskip("readline")
    keys = ["étudant" + LEFT * 3 + "i" + HOME + "je suis " + ENTER, UP + " !" + ENTER, UP + UP + ENTER, END]
    typed = ["je suis étudiant", "je suis étudiant !", "je suis étudiant"]
    assert sources_in(type_keys(tiny_model_folder, keys, tmp_path / "state")) == typed
    history = tmp_path / "state" / "vanilla-transformer" / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert sources_in(type_keys(tiny_model_folder, [UP + UP + ENTER, END], tmp_path / "state")) == [typed[1]]


@needs_terminals
def test_typed_at_a_terminal_only_results_go_into_a_pipe_and_a_history_that_cannot_be_kept_is_no_error(
    tiny_model_folder, tmp_path
):
    (tmp_path / "state").write_text("a file", encoding="utf-8")
    with open(tmp_path / "out", "wb") as out:
        shown = type_keys(tiny_model_folder, ["merci" + ENTER, END], tmp_path / "state", stdout=out.fileno())
    written = (tmp_path / "out").read_text(encoding="utf-8")
    assert sources_in(written) == ["merci"]
    assert len(written.splitlines()) == 1
    assert written.startswith("{")
    assert "> " in shown


def test_what_is_piped_in_is_not_kept_and_without_readline_lines_are_read_all_the_same(
    translate, give_stdin, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    give_stdin(b"merci\n")
    assert translate("--interactive", "--num_beams", "1") == 0
    monkeypatch.setitem(sys.modules, "readline", None)
    give_stdin(b"merci\n")
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert translate("--interactive", "--num_beams", "1") == 0
    assert capsys.readouterr().out.count("\n") == 2
    assert list(tmp_path.iterdir()) == []


def test_only_the_newest_lines_are_kept(tmp_path, monkeypatch):
    readline = pytest.importorskip("readline")
    from hf_vanilla_transformer.cli import typed_lines

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(typed_lines, "LINES_KEPT", 3)
    readline.clear_history()
    with typed_lines._editing():
        for number in range(5):
            readline.add_history(f"line {number}")
    assert typed_lines.history_path().read_text(encoding="utf-8") == "line 2\nline 3\nline 4\n"
    readline.clear_history()
