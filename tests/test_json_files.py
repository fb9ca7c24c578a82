"""JSON written by others is bounded, names each key once and holds numbers, whoever of us reads it."""

import json
import os
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

import hf_vanilla_transformer
from hf_vanilla_transformer.model.json_files import DEEPEST, parse_json, read_json, read_json_object, to_json
from hf_vanilla_transformer.training.progress import MetricsFile

REFUSED = {
    "nested": ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "nested more than 64 deep"),
    "nested beyond Python": ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested more than 64 deep"),
    "opened for ever": ("[" * 1_000_000, "(nested more than 64 deep|not JSON)"),
    "twice": ('{"a": {"b": 1, "c": 2, "b": 3}}', "it names 'b' twice"),
    "nan": ('{"a": [NaN]}', "it holds NaN, which is not a JSON number"),
    "infinity": ('{"a": -Infinity}', "it holds -Infinity, which is not a JSON number"),
    "large": ('{"a": 1e999}', "it holds 1e999, which is too large a number"),
    "cut off": ('{"a": ', "it is not JSON: Expecting value"),
    "two": ("{} {}", "it is not JSON: Extra data"),
    "bytes": (b'{"a": "\xff"}', "it is not JSON: .*utf-8"),
    "mark": (b"\xef\xbb\xbf{}", "it begins with a byte order mark"),
    "wide": ('{"a": 1}'.encode("utf-16"), "it is not JSON"),
}


@pytest.mark.parametrize(("text", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_sound_json_is_refused_with_the_files_name(tmp_path, text, why):
    path = tmp_path / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=rf"config\.json cannot be read \(.*{why}.*\)\. Copy or download it again"):
        read_json(path)


def test_a_file_is_bounded_and_regular(tmp_path):
    (tmp_path / "large").write_text(json.dumps("a" * 100))
    with pytest.raises(ValueError, match=r"large cannot be read \(it has more than 100 bytes\)"):
        read_json(tmp_path / "large", largest=100)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match=r"pipe cannot be read \(it is not a regular file\)"):
            read_json(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none")


@pytest.mark.parametrize("text", ["[]", "null", "3", '"a"'])
def test_settings_are_an_object(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json must hold a JSON object of settings, but it holds"):
        read_json_object(tmp_path / "config.json")


def test_logs_of_training_may_hold_what_is_no_number():
    assert str(parse_json('{"loss": NaN, "norm": Infinity}', finite=False)) == "{'loss': nan, 'norm': inf}"


@pytest.mark.parametrize("seed", range(5))
def test_what_json_can_hold_is_read_as_python_reads_it(seed):
    chance = random.Random(seed)

    def something(depth):
        kind = chance.randrange(7 if depth < 6 else 5)
        if kind == 5:
            return [something(depth + 1) for _ in range(chance.randrange(5))]
        if kind == 6:
            return {f"k{number}": something(depth + 1) for number in range(chance.randrange(5))}
        values = (None, chance.random() * 10 ** chance.randrange(-300, 300), chance.randrange(10**9), True, "é\u2028")
        return values[kind]

    for _ in range(100):
        found = something(0)
        assert parse_json(json.dumps(found)) == found


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_written_is_json_or_nothing(number):
    assert to_json({"é": [1.5, None]}) == '{"é": [1.5, null]}'
    with pytest.raises(ValueError, match="A result must hold finite numbers, but it holds NaN or infinity"):
        to_json({"score": [number]}, indent=1)


def test_no_file_of_ours_writes_json_by_a_way_that_allows_nan():
    """But what holds no results: names, settings and hashes."""
    package = Path(hf_vanilla_transformer.__file__).parent
    writers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "json.dump" in path.read_text(encoding="utf-8").replace("allow_nan=False", "")
    }
    settings = {"training/safe_saving.py", "training/fingerprint.py", "training/token_batches.py"}
    settings |= {"conversion/ctranslate2_export.py", "hub/upload.py", "hub/facts.py", "model/manifest.py"}
    settings |= {"training/run_lock.py", "data/prepared.py"}
    assert writers <= settings | {
        "model/json_files.py",
        "evaluation/ledger.py",
        "evaluation/results.py",
    }


def test_a_log_line_of_training_is_json_whatever_is_logged(tmp_path):
    state = SimpleNamespace(is_world_process_zero=True, global_step=3)
    logs = {"loss": float("nan"), "grad_norm": float("inf"), "learning_rate": 0.5}
    MetricsFile().on_log(SimpleNamespace(output_dir=str(tmp_path)), state, None, logs)
    line = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")
    assert parse_json(line) == {"step": 3, "loss": None, "grad_norm": None, "learning_rate": 0.5}
