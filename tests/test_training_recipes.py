"""Recipes and the overrides of the command line."""

from pathlib import Path

import pytest
import yaml

from hf_vanilla_transformer import VanillaTransformerConfig
from hf_vanilla_transformer.training.arguments import ModelArguments
from hf_vanilla_transformer.training.recipes import parse_settings, recipe_names


@pytest.fixture
def output(tmp_path: Path) -> list[str]:
    return ["--output_dir", str(tmp_path / "run")]


def write_recipe(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_parses_and_says_what_it_says(name: str, output: list[str]):
    settings = parse_settings(name, output)
    assert settings.notes == []
    written = yaml.safe_load(yaml.safe_dump(settings.as_recipe()))
    assert written["model"]["d_model"] == settings.model.d_model
    assert written["decoding"] == {"num_beams": 4, "max_extra_tokens": 50, "gnmt_length_penalty": 0.6}


@pytest.mark.parametrize("name", recipe_names())
def test_a_run_can_be_started_again_from_its_own_settings(name: str, output: list[str], tmp_path: Path):
    settings = parse_settings(name, [*output, "--seed", "7", "--learning_rate", "1e-3"])
    again = parse_settings(write_recipe(tmp_path, yaml.safe_dump(settings.as_recipe())), [])
    assert again.as_recipe() == settings.as_recipe()
    assert (again.training.seed, again.training.learning_rate) == (7, 0.001)


def test_every_hyperparameter_of_the_config_is_an_option():
    """The config's defaults are written once: an option not given is None."""
    arguments = ModelArguments()
    settled_by_the_tokenizer = {"vocab_size", "decoder_vocab_size"}
    for field in VanillaTransformerConfig.__annotations__:
        if field in settled_by_the_tokenizer or field.endswith("_token_id"):
            assert not hasattr(arguments, field)
        elif field not in ("use_cache", "is_decoder", "is_encoder_decoder"):
            assert getattr(arguments, field) is None


def test_the_command_line_has_the_last_word(output: list[str]):
    settings = parse_settings(
        "builtin-fr-en", [*output, "--d_model=64", "--dropout", "0.25", "--tie_word_embeddings", "no"]
    )
    assert (settings.model.d_model, settings.model.dropout, settings.model.tie_word_embeddings) == (64, 0.25, False)


def test_a_bare_no_in_yaml_means_no(output: list[str], tmp_path: Path):
    settings = parse_settings(write_recipe(tmp_path, "training:\n  eval_strategy: no\n"), output)
    assert settings.training.eval_strategy == "no"


def test_a_rate_in_powers_of_ten_is_a_number_in_the_written_recipe(output: list[str]):
    settings = parse_settings("builtin-fr-en", [*output, "--learning_rate", "1e-4"])
    assert settings.as_recipe()["training"]["learning_rate"] == 0.0001


def test_access_tokens_are_not_written(output: list[str]):
    settings = parse_settings("builtin-fr-en", [*output, "--hub_token", "hf_secret"])
    assert "hf_secret" not in yaml.safe_dump(settings.as_recipe())


@pytest.mark.parametrize(
    ("options", "note"),
    [
        (["--eval_strategy", "no"], "The best checkpoint is not kept without evaluation"),
        (["--save_steps", "50", "--eval_steps", "30"], "50 save_steps are no multiple of 30 eval_steps"),
        (["--save_steps", "50"], "--save_steps means save_strategy steps."),
        (["--train_source", "a.fr"], "--train_source takes the place of the recipe's dataset_name."),
        (["--max_steps", "9"], "--max_steps takes the place of the recipe's num_train_epochs."),
        (["--init_from", "somewhere"], "--init_from keeps the saved model's own d_model"),
    ],
)
def test_an_override_wins_over_what_depends_on_it_and_says_so(options: list[str], note: str, output: list[str]):
    settings = parse_settings("builtin-fr-en", [*output, *options])
    assert any(note in line for line in settings.notes), settings.notes


def test_saving_by_steps_alone_stops_keeping_the_best(output: list[str]):
    settings = parse_settings("builtin-fr-en", [*output, "--save_steps", "50"])
    assert settings.training.save_strategy == "steps"
    assert not settings.training.load_best_model_at_end
    assert "saving by steps and evaluating by epoch" in settings.notes[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n  d_modell: 8\n", r"unknown key 'd_modell' in section 'model' \(did you mean 'd_model'\?\)"),
        (
            "model:\n  max_steps: 8\n",
            r"unknown key 'max_steps' in section 'model' \(it belongs to section 'training'\)",
        ),
        ("modle:\n  d_model: 8\n", r"unknown section 'modle' \(did you mean 'model'\?\)"),
        ("- a\n- b\n", "must hold sections of keys"),
        ("model: [8]\n", "must hold sections of keys"),
        ("model: {", "not valid YAML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(text: str, message: str, tmp_path: Path, output: list[str]):
    with pytest.raises(ValueError, match=message):
        parse_settings(write_recipe(tmp_path, text), output)


def test_an_unknown_recipe_names_the_known(output: list[str]):
    with pytest.raises(FileNotFoundError, match=r"no recipe 'builtin-fren' \(did you mean 'builtin-fr-en'\?\)"):
        parse_settings("builtin-fren", output)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--d_modell", "8"], r"no option --d_modell \(did you mean 'd_model'\?\)"),
        (["--d_model", "wide"], "invalid int value: 'wide'"),
        (["--precision", "fp8"], "invalid choice: 'fp8'"),
        (["--num_beams", "0"], "`num_beams` must be at least 1, got 0"),
        (["--max_extra_tokens", "-1"], "`max_extra_tokens` must be at least 0, got -1"),
        (["--max_tokens", "0"], "`max_tokens` must be at least 1, got 0"),
        (["--lr_scheduler_type", "linear"], "linear needs a `learning_rate`"),
    ],
)
def test_a_wrong_option_is_refused_in_one_sentence(options: list[str], message: str, output: list[str]):
    with pytest.raises(ValueError, match=message):
        parse_settings("builtin-fr-en", [*output, *options])
