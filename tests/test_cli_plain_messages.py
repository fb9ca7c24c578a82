"""What commands say on stderr in a plain run: lines of this package alone, and no bar where there is no terminal."""

import logging
import os
import subprocess
import sys
import warnings

import pytest

from hf_vanilla_transformer import cli
from hf_vanilla_transformer.cli.plain_messages import plain_messages

COMMANDS = """
import sys
from hf_vanilla_transformer.cli import main

model, folder, text = sys.argv[1:]
pair = ["--source", f"{text}.fr", "--target", f"{text}.en"]
small = ["--d_model", "16", "--encoder_layers", "1", "--decoder_layers", "1", "--encoder_attention_heads", "2",
         "--decoder_attention_heads", "2", "--encoder_ffn_dim", "16", "--decoder_ffn_dim", "16", "--tokenizer", model]
commands = [
    ["train", "--max_tokens", "300", "--train_source", f"{text}.fr",
     "--train_target", f"{text}.en", "--validation_source", f"{text}.fr", "--validation_target", f"{text}.en",
     "--output_dir", f"{folder}/run", "--max_steps", "4", "--logging_steps", "2", "--save_strategy", "steps",
     "--save_steps", "2", "--eval_strategy", "steps", "--eval_steps", "2", "--warmup_steps", "2", *small],
    ["curves", "--run", f"{folder}/run"],
    ["average", "--checkpoints", f"{folder}/run", "--last", "2", "--output", f"{folder}/average"],
    ["translate", "--model", f"{folder}/run", "--input", f"{text}.fr"],
    ["translate", "--model", f"{folder}/run", "--input", f"{text}.fr", "--num_beams", "1"],
    ["score", "--model", f"{folder}/run", *pair],
    ["evaluate", "--model", f"{folder}/run", "--source", f"{text}.fr", "--reference", f"{text}.en", "--record"],
    ["verify", "--model", f"{folder}/run", "--decode"],
    ["push", "--model", f"{folder}/run", "--repo_id", "someone/model", "--dry_run", f"{folder}/published"],
    ["doctor", "--model", f"{folder}/run"],
    ["export", "--to", "marian", "--model", model, "--output", f"{folder}/marian"],
    ["export", "--to", "ctranslate2", "--model", f"{folder}/run", "--output", f"{folder}/ctranslate2"],
    ["export", "--to", "onnx", "--model", f"{folder}/run", "--output", f"{folder}/onnx"],
    ["convert", "--from", "marian", "--model", f"{folder}/marian", "--output", f"{folder}/back"],
    ["illustrate", "--model", f"{folder}/run", "--text", "merci", "--output", f"{folder}/page.html"],
    ["illustrate", "--model", f"{folder}/run", "--text", "merci", "--target", "thanks", "--num_beams", "1",
     "--output", f"{folder}/greedy.html", "--figures", f"{folder}/figures"],
]
for command in commands:
    sys.stderr.write(f"# {' '.join(command[:3])}\\n")
    assert main(command) == 0, command
"""
OURS = (  # the beginnings of what this package says of these commands
    *("# ", "Training pairs:", "pairs ", "- ", "Training in ", "step ", "There is no card yet"),
    *("Marian knows no ", "CTranslate2 has no argument for ", "4 pairs, ", "/"),
    *("The text is fr to en by the names of its files.", "No curves are drawn"),
    *tuple(f"{count} of 4 translations" for count in range(1, 5)),
)


@pytest.fixture(scope="module")
def said(tmp_path_factory, tiny_model_folder) -> list[str]:
    """What all commands say in a process of their own whose stderr is a file."""
    for needed in ("ctranslate2", "onnx"):
        pytest.importorskip(needed)
    folder = tmp_path_factory.mktemp("plain")
    (folder / "text.fr").write_text(
        "merci\nje suis étudiant\nle petit chat dort\noù est la gare ?\n", encoding="utf-8"
    )
    (folder / "text.en").write_text("thanks\ni am a student\nthe little cat sleeps\nwhere ?\n", encoding="utf-8")
    named = ("VERBOSITY", "DISABLE", "WARNINGS", "TOKENIZERS_PARALLELISM")
    environment = {name: value for name, value in os.environ.items() if not any(part in name for part in named)}
    with open(folder / "stderr", "wb") as stderr:
        subprocess.run(
            [sys.executable, "-c", COMMANDS, str(tiny_model_folder), str(folder), str(folder / "text")],
            stdout=subprocess.DEVNULL, stderr=stderr, env=environment, check=False,
        )  # fmt: skip
    return (folder / "stderr").read_text(encoding="utf-8").split("\n")


def test_every_command_says_only_lines_of_ours_and_draws_no_bar(said):
    assert [line for line in said if line and not line.startswith(OURS)] == []
    assert sum(line.startswith("# ") for line in said) == COMMANDS.count("\n    [")


def test_nobody_is_told_whose_search_decodes_unless_they_asked_for_what_ours_does_not_do(said):
    assert [line for line in said if "own search" in line] == []


def test_a_log_file_gets_lines_of_training_in_place_of_a_bar(said):
    assert any(line.startswith("step 2 of 4: loss ") for line in said)


def test_libraries_are_as_before_afterwards():
    import datasets
    import huggingface_hub
    import transformers

    libraries = (transformers.utils.logging, datasets.utils.logging, huggingface_hub.utils.logging)

    def state():
        root = logging.getLogger()
        levels = [library.get_verbosity() for library in libraries]
        bars = transformers.utils.logging.is_progress_bar_enabled(), datasets.are_progress_bars_disabled()
        return list(root.handlers), levels, bars, list(warnings.filters), dict(os.environ), list(sys.meta_path)

    before = state()
    with plain_messages():
        assert state() != before
    assert state() == before


@pytest.mark.parametrize("debug", [False, True])
def test_errors_of_libraries_and_all_of_ours_are_said_and_their_warnings_when_asked_for(capsys, debug):
    with plain_messages(debug):
        for name in ("hf_vanilla_transformer.model", "some.library"):
            for level in (logging.WARNING, logging.ERROR):
                logging.getLogger(name).log(level, "%s %s", name, logging.getLevelName(level))
    expected = ["hf_vanilla_transformer.model WARNING", "hf_vanilla_transformer.model ERROR", "some.library ERROR"]
    expected[2:2] = ["some.library WARNING"] if debug else []
    assert capsys.readouterr().err.split("\n")[:-1] == expected


def test_what_the_user_set_holds(monkeypatch):
    import transformers

    logger = logging.getLogger("transformers")
    before = logger.level
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    with plain_messages():
        assert logger.level == before
        assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    with plain_messages(), pytest.warns(UserWarning, match="seen"):
        warnings.warn("seen", UserWarning, stacklevel=1)
    assert transformers.utils.logging.get_verbosity() == before


def test_debug_leaves_bars_and_warnings_of_libraries(monkeypatch, capsys):
    seen = {}

    def command(name, package):
        class Command:
            @staticmethod
            def main(arguments):
                seen.update(verbosity=os.environ.get("TRANSFORMERS_VERBOSITY"), filters=list(warnings.filters))
                return 0

        return Command

    monkeypatch.delenv("TRANSFORMERS_VERBOSITY", raising=False)
    monkeypatch.setattr(cli, "import_module", command)
    filters = list(warnings.filters)
    assert cli.main(["curves", "--debug"]) == 0
    assert seen == {"verbosity": None, "filters": filters}
    assert cli.main(["curves"]) == 0
    assert seen["verbosity"] == "error"


def test_nothing_heavy_is_imported_for_it():
    code = "import sys\nfrom hf_vanilla_transformer.cli.plain_messages import plain_messages\n"
    code += "with plain_messages():\n    print(*({'torch', 'transformers', 'datasets'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
