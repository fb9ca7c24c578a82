"""`train` from text files to a folder: what it leaves, how it resumes, what it refuses."""

import errno
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from transformers import AutoModelForSeq2SeqLM

from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.hub import write_publication
from hf_vanilla_transformer.model.manifest import write_manifest
from hf_vanilla_transformer.training.recipes import parse_settings
from hf_vanilla_transformer.training.run import _prepare_tokenizer

RECIPE = """\
model: {d_model: 16, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2, decoder_attention_heads: 2,
  encoder_ffn_dim: 32, decoder_ffn_dim: 32, label_smoothing: 0.1}
tokenizer: {vocab_size: 270}
decoding: {num_beams: 2, max_extra_tokens: 5}
training: {max_tokens: 60, warmup_steps: 4, max_steps: 8, save_steps: 4, eval_strategy: steps, eval_steps: 4,
  logging_steps: 1, load_best_model_at_end: true, generation_num_beams: 1, use_cpu: true, report_to: none}
"""

Train = Callable[..., int]


@pytest.fixture
def text(tmp_path: Path, sentences: tuple[str, ...]) -> Path:
    """A folder with a recipe and parallel text: train.a, train.b, valid.a, valid.b."""
    (tmp_path / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    pairs = [(a, b) for a in sentences for b in sentences[:3] if a != b]
    for name, part in (("train", pairs[4:]), ("valid", pairs[:4])):
        for side in (0, 1):
            lines = "".join(f"{pair[side]}\n" for pair in part)
            (tmp_path / f"{name}.{'ab'[side]}").write_text(lines, encoding="utf-8", newline="\n")
    return tmp_path


def arguments(text: Path, run: str, *options: str) -> list[str]:
    files = [("train", "train"), ("validation", "valid")]
    given = [
        f"--{name}_{side}={text / f'{stem}.{end}'}"
        for name, stem in files
        for side, end in (("source", "a"), ("target", "b"))
    ]
    return ["train", "--recipe", str(text / "tiny.yaml"), "--output_dir", str(text / run), *given, *options]


@pytest.fixture
def train(text: Path) -> Train:
    return lambda run, *options: main(arguments(text, run, *options))


def steps_of(run: Path) -> list[tuple[int, float]]:
    """Step and loss of every log line of training."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").split("\n") if line]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


@pytest.mark.parametrize(
    ("names", "languages"), [(("train.fr", "train.en"), ["fr", "en"]), (("train.src", "train.tgt"), None)]
)
def test_a_recipe_of_ours_on_text_of_another_pair_makes_a_card_of_that_pair(
    names: tuple[str, str], languages: list[str] | None, text: Path, capfd
):
    files = []
    for side, name in zip("ab", names, strict=True):
        (text / name).write_bytes((text / f"train.{side}").read_bytes())
        files += [f"--train_{'source' if side == 'a' else 'target'}", str(text / name)]
    sizes = yaml.safe_load(RECIPE)
    options = [f"--{name}={value}" for name, value in {**sizes["model"], **sizes["tokenizer"]}.items()]
    options += ["--max_steps=1", "--save_strategy=no", "--eval_strategy=no", "--use_cpu=true", *files]
    command = ["train", "--recipe", "multi30k-en-de", "--output_dir", str(text / "run"), *options]
    assert main(command) == 0
    told = "fr to en by the names of its files" if languages else "give --source_lang and --target_lang"
    assert told in capfd.readouterr().err
    write_publication(text / "run", "someone/model", text / "published")
    card = (text / "published" / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("\n---\n")[0]).get("language") == languages
    assert "multi30k" not in card
    pair = languages or ["an unknown language"] * 2
    assert f"that translates {pair[0]} to {pair[1]}, by" in card


def test_a_run_leaves_a_folder_that_translates(train: Train, text: Path, capsys: pytest.CaptureFixture[str]):
    assert train("run") == 0
    out, err = capsys.readouterr()
    assert "pairs kept" in err
    assert f"translate --model {text / 'run'}" in out
    run = text / "run"
    assert (run / "training_curves.png").read_bytes().startswith(b"\x89PNG")
    decoding = json.loads((run / "generation_config.json").read_text())
    assert (decoding["num_beams"], decoding["max_extra_tokens"]) == (2, 5)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(run).generation_config
    assert (loaded.num_beams, loaded.max_extra_tokens) == (2, 5)
    assert {path.name for path in run.glob("checkpoint-*")} == {"checkpoint-4", "checkpoint-8"}
    assert not list(run.rglob("training_args.bin"))
    assert any("eval_bleu" in line for line in (run / "metrics.jsonl").read_text().split("\n"))
    for folder in (run, run / "checkpoint-4"):
        (text / "in.txt").write_text("merci\n\nje suis étudiant\n", encoding="utf-8")
        assert main(["translate", "--model", str(folder), "--input", str(text / "in.txt")]) == 0
        assert len(capsys.readouterr().out.split("\n")) == 4


def test_resuming_gives_the_losses_of_an_uninterrupted_run(train: Train, text: Path):
    assert train("whole") == 0
    assert train("cut") == 0
    run = text / "cut"
    for name in ("model.safetensors", "trainer_state.json", "metrics.jsonl"):
        (run / name).unlink()
    (run / "checkpoint-8" / "trainer_state.json").unlink()  # as if killed while saving
    assert train("cut", "--resume") == 0
    assert steps_of(run) == [(step, loss) for step, loss in steps_of(text / "whole") if step > 4]
    assert (run / "model.safetensors").read_bytes() == (text / "whole" / "model.safetensors").read_bytes()


def test_a_run_resumes_from_its_own_settings(train: Train, text: Path):
    """Without a recipe: what the run was started with, options included."""
    assert train("whole", "--dropout", "0.2") == 0
    assert train("cut", "--dropout", "0.2", "--max_steps", "4") == 0
    assert main(["train", "--resume", "--output_dir", str(text / "cut"), "--max_steps", "8"]) == 0
    assert steps_of(text / "cut") == steps_of(text / "whole")
    weights = [(text / run / "model.safetensors").read_bytes() for run in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_a_refused_resume_leaves_the_runs_settings_as_they_were(train: Train, text: Path, capfd):
    assert train("run", "--max_steps", "4") == 0
    before = (text / "run" / "run.yaml").read_bytes()
    assert train("run", "--resume", "--max_tokens", "50") == 1
    assert "max_tokens (was 60, is 50)" in capfd.readouterr().err
    assert (text / "run" / "run.yaml").read_bytes() == before
    assert train("run", "--resume", "--max_tokens", "50", "--resume_changed") == 0
    assert "max_tokens: 50" in (text / "run" / "run.yaml").read_text()


@pytest.mark.parametrize("saved", [True, False])
def test_the_last_line_of_a_failed_run_says_how_to_go_on(
    saved: bool, train: Train, text: Path, monkeypatch: pytest.MonkeyPatch, capfd
):
    def fail(self: object, *args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/disk")

    if saved:
        assert train("run", "--max_steps", "4") == 0
    monkeypatch.setattr("hf_vanilla_transformer.training.trainer.VanillaTransformerTrainer.training_step", fail)
    assert train("run", *(["--resume"] if saved else [])) == 1
    *_, error, last = capfd.readouterr().err.strip().split("\n")
    assert "The disk of / is full: " in error
    wanted = (
        f"Continue with: vanilla-transformer train --resume --output_dir {text / 'run'}"
        if saved
        else "No checkpoint was written yet: fix the error above, and start again in the same folder."
    )
    assert last == wanted
    monkeypatch.undo()
    assert train("run", *(["--resume"] if saved else [])) == 0


def test_a_run_that_ends_before_its_first_log_line_has_a_model_but_no_picture(train: Train, text: Path, capfd):
    assert train("run", "--logging_steps", "100", "--eval_strategy", "no") == 0
    assert "No curves are drawn: the run ended before its first log line" in capfd.readouterr().err
    assert (text / "run" / "model.safetensors").exists()
    assert not (text / "run" / "training_curves.png").exists()


def test_the_log_goes_where_it_was_before_and_after_a_run(train: Train):
    logger = logging.getLogger("hf_vanilla_transformer")
    before = (list(logger.handlers), logger.level)
    assert train("run") == 0
    assert (list(logger.handlers), logger.level) == before


def test_a_finished_run_has_nothing_to_resume_unless_more_is_asked_for(train: Train, text: Path, caplog, capfd):
    assert train("run") == 0
    before = (text / "run" / "model.safetensors").stat().st_mtime_ns
    assert train("run", "--resume") == 0
    assert "is finished" in capfd.readouterr().err
    assert (text / "run" / "model.safetensors").stat().st_mtime_ns == before
    assert train("run", "--resume", "--max_steps", "12") == 0
    assert steps_of(text / "run")[-1][0] == 12


def test_more_epochs_may_be_asked_for_too(train: Train, text: Path, capfd):
    by_epochs = ("--max_steps", "-1", "--eval_strategy", "no", "--num_train_epochs")
    assert train("run", *by_epochs, "1.2") == 0
    last = steps_of(text / "run")[-1][0]
    assert train("run", "--resume", *by_epochs, "1.2") == 0
    assert "is finished" in capfd.readouterr().err
    assert train("run", "--resume", *by_epochs, "1.8") == 0
    assert steps_of(text / "run")[-1][0] > last


@pytest.mark.parametrize("changed", [(), ("--resume_changed",)])
@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--d_model", "32", "d_model (was 16, is 32)"), ("--vocab_size", "290", "`vocab_size` is 290")],
)
def test_a_model_of_another_shape_is_refused_before_its_weights_are_loaded(
    changed: tuple[str, ...], option: str, value: str, said: str, train: Train, text: Path, capfd
):
    assert train("run", "--max_steps", "4") == 0
    before = (text / "run" / "run.yaml").read_bytes()
    assert train("run", "--resume", "--max_steps", "8", option, value, *changed) == 1
    assert said in capfd.readouterr().err
    assert (text / "run" / "run.yaml").read_bytes() == before


def test_a_run_without_its_settings_says_so(train: Train, text: Path, capfd):
    assert train("run", "--max_steps", "4") == 0
    (text / "run" / "run.yaml").unlink()
    assert main(["train", "--resume", "--output_dir", str(text / "run")]) == 1
    assert "The settings of the run in" in capfd.readouterr().err


@pytest.mark.parametrize("options", [("--max_steps", "0"), ("--max_steps", "-5"), ("--num_train_epochs", "0")])
def test_a_run_of_no_steps_is_refused(options: tuple[str, str], train: Train, text: Path, capfd):
    more = () if options[0] == "--max_steps" else ("--max_steps", "-1")
    assert train("run", *options, *more) == 1
    assert f"`{options[0][2:]}` must be" in capfd.readouterr().err


def test_a_file_may_have_the_name_of_no_number(train: Train, text: Path, capfd):
    assert train("nan", "--max_steps", "1") == 0
    assert main(["train", "--train_source", "inf", "--train_target", "nan", "--output_dir", str(text / "x")]) == 1
    assert "There is no file inf" in capfd.readouterr().err


def test_a_finished_run_that_lost_its_weights_is_not_finished(train: Train, text: Path):
    assert train("run") == 0
    (text / "run" / "model.safetensors").unlink()
    assert train("run", "--resume") == 0
    assert (text / "run" / "model.safetensors").exists()


def test_help_names_what_most_runs_touch(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--max_tokens" in out
    assert "--d_model" in out
    assert "--adam_beta2" not in out
    assert main(["train", "--help_all"]) == 0
    assert "--adam_beta2" in capsys.readouterr().out


def test_fine_tuning_starts_where_the_saved_model_is(train: Train, text: Path):
    assert train("first") == 0
    assert train("second", "--init_from", str(text / "first"), "--max_steps", "4", "--dropout", "0.2") == 0
    (_, first_loss), (_, second_loss) = steps_of(text / "first")[0], steps_of(text / "second")[0]
    assert second_loss < first_loss
    assert (text / "first" / "tokenizer.json").read_bytes() == (text / "second" / "tokenizer.json").read_bytes()
    assert json.loads((text / "second" / "config.json").read_text())["dropout"] == 0.2


def test_validation_can_be_switched_off(train: Train, text: Path, capsys: pytest.CaptureFixture[str]):
    assert train("run", "--eval_strategy", "no") == 0
    assert "The best checkpoint is not kept without evaluation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train_source", "nowhere.a"], "nowhere.a"),
        (["--train_target", "{text}/valid.b"], "has 4"),
        (["--max_tokens", "3"], "must fit the budget of a batch"),
        (["--vocab_size", "100000"], "100,000"),
        (["--d_modell", "8"], "did you mean 'd_model'?"),
        (["--max_length", "1"], "none does"),
        (["--validation_source", "{text}/empty"], "empty"),
        (["--train_source", "{text}/latin1"], "UTF-8"),
        (["--resume"], "no complete checkpoint"),
        (["--d_model", "15"], "`d_model` (15) must be a multiple"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_no_model(options, message, train: Train, text: Path, capfd):
    (text / "empty").write_bytes(b"")
    (text / "latin1").write_bytes("café\n".encode("latin-1") * 30)
    assert train("run", *(option.format(text=text) for option in options)) == 1
    error = capfd.readouterr().err.strip().split("\n")
    assert message in "\n".join(error[-8:])
    assert "Traceback" not in "\n".join(error)
    assert not (text / "run" / "model.safetensors").exists()


def test_a_folder_that_holds_a_run_is_left_alone(train: Train, text: Path, capsys: pytest.CaptureFixture[str]):
    assert train("run", "--eval_strategy", "no") == 0
    before = {path: path.stat().st_mtime_ns for path in (text / "run").rglob("*")}
    assert train("run") == 1
    assert "already holds a run" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (text / "run").rglob("*")} == before


def test_a_saved_model_keeps_its_shape_and_needs_its_vocabulary(train: Train, text: Path, sentences, capfd):
    from hf_vanilla_transformer.tokenization import train_tokenizer

    assert train("first", "--eval_strategy", "no") == 0
    assert train("second", "--init_from", str(text / "first"), "--d_model", "32") == 1
    assert "has d_model 16, which cannot become 32" in capfd.readouterr().err
    train_tokenizer(sentences * 2, vocab_size=300).save_pretrained(text / "first")
    write_manifest(text / "first")
    assert train("third", "--init_from", str(text / "first")) == 1
    assert "300" in capfd.readouterr().err


def test_a_machine_that_does_not_see_the_runs_folder_is_told(text: Path):
    settings = parse_settings(str(text / "tiny.yaml"), ["--output_dir", str(text / "elsewhere")])
    settings.training = SimpleNamespace(should_save=False, process_index=8)  # of another machine
    with pytest.raises(FileNotFoundError, match=r"process 8 does not find .*elsewhere\. Give an `--output_dir` on"):
        _prepare_tokenizer(settings, None, text / "elsewhere", False)


def test_nothing_to_train_on_and_nowhere_to_write(text: Path, capfd):
    assert main(["train", "--output_dir", str(text / "run")]) == 1
    assert "There is nothing to train on" in capfd.readouterr().err
    assert main(["train", "--recipe", "builtin-fr-en"]) == 1
    assert "give `--output_dir`" in capfd.readouterr().err
    one_side = ["--train_source", str(text / "train.a"), "--train_target", str(text / "train.b")]
    assert main(["train", "--recipe", str(text / "tiny.yaml"), "--output_dir", str(text / "run"), *one_side]) == 1
    assert "There is nothing to validate on" in capfd.readouterr().err


@pytest.mark.slow
def test_two_processes_train_one_model(text: Path):
    """`accelerate launch` on gloo: the same steps on both, every validation sentence decoded once, one folder."""
    script = Path(__file__).parent.parent / "scripts" / "train.py"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", str(script)]
    command = [*launch, *arguments(text, "two")[1:], "--use_cpu"]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [step for step, _ in steps_of(text / "two")] == list(range(1, 9))
    assert (text / "two" / "model.safetensors").exists()
