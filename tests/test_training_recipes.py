"""Recipes and the overrides of the command line."""

import dataclasses
import json
from itertools import islice
from pathlib import Path

import pytest
import yaml

from hf_vanilla_transformer import VanillaTransformerConfig, load_parallel_corpus
from hf_vanilla_transformer.training.arguments import GROUPS, ModelArguments
from hf_vanilla_transformer.training.corpora import read_training_text
from hf_vanilla_transformer.training.recipe_files import find_recipe, recipe_names
from hf_vanilla_transformer.training.recipes import Settings, parse_settings
from hf_vanilla_transformer.training.run import run_training
from hf_vanilla_transformer.training.trainer_arguments import TranslationTrainingArguments

LANGUAGES = ("source_lang", "target_lang")


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
    settled_by_the_text = {"vocab_size", "decoder_vocab_size", "trained_source_length"}
    for field in VanillaTransformerConfig.__annotations__:
        if field in settled_by_the_text or field.endswith("_token_id"):
            assert not hasattr(arguments, field)
        elif field not in ("use_cache", "is_decoder", "is_encoder_decoder"):
            assert getattr(arguments, field) is None


def test_what_is_not_given_stays_unset_when_it_is_parsed(output: list[str]):
    """A default that crept in would contradict a saved model, or hide a change of the config's own."""
    settings = parse_settings(None, output)
    assert set(vars(settings.model).values()) == set(vars(settings.decoding).values()) == {None}


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
        (["--save_steps", "50", "--eval_steps", "30"], "50 save_steps are not a multiple of 30 eval_steps"),
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


@pytest.mark.parametrize("given", ["nan", "inf", "-inf", "1e999"])
def test_no_number_of_a_run_is_nan_or_infinite(given: str, output: list[str], tmp_path: Path):
    """Every field of every group that may hold a fraction, from the command line and from a recipe."""
    groups = {**GROUPS, "training": TranslationTrainingArguments}
    checked = 0
    for section, group in groups.items():
        for field in dataclasses.fields(group):
            if not field.init or "float" not in str(field.type):
                continue
            checked += 1
            with pytest.raises(ValueError, match=rf"`{field.name}` must be a finite number, got "):
                parse_settings(None, [*output, f"--{field.name}={given}"])
            yaml = f"{section}:\n  {field.name}: {given.replace('inf', '.inf').replace('nan', '.nan')}\n"
            if given != "1e999":  # a word of YAML's
                with pytest.raises(ValueError, match=rf"`{field.name}` must be a finite number, got "):
                    parse_settings(write_recipe(tmp_path, yaml), output)
    assert checked > 20


def test_the_trainers_own_arguments_are_numbers_too(tmp_path: Path):
    with pytest.raises(ValueError, match="`weight_decay` must be a finite number, got inf"):
        TranslationTrainingArguments(output_dir=str(tmp_path), weight_decay=float("inf"))
    with pytest.raises(ValueError, match="`max_grad_norm` must be between 0 and 1e"):
        TranslationTrainingArguments(output_dir=str(tmp_path), max_grad_norm=-1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--encoder_layers", "1000000"], "`encoder_layers` must be at most 1,000, got 1000000"),
        (["--dropout", "2"], "`dropout` must be at least 0 and below 1, got 2.0"),
        (["--vocab_size", "100000000"], "`vocab_size` must be at most 10,000,000, got 100000000"),
        (
            ["--d_model", "16384", "--encoder_layers", "100"],
            r"would have [\d,]+ weights, which are [\d,.]+ GB, but this machine has [\d,.]+ GB of memory",
        ),
    ],
)
def test_a_model_that_no_machine_holds_is_refused_before_the_text_is_read(options, message, output, monkeypatch):
    monkeypatch.setattr("hf_vanilla_transformer.training.run.memory_of", lambda device: 64 << 30)
    monkeypatch.setattr("hf_vanilla_transformer.training.run.read_training_text", lambda _: pytest.fail("read"))
    with pytest.raises(ValueError, match=message):
        run_training(parse_settings("builtin-fr-en", [*output, *options]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--learning_rate", "-1"], "`learning_rate` must be between 0 and 1e"),
        (["--adam_beta2", "1.5"], "`adam_beta2` must be between 0 and 1, got 1.5"),
        (["--max_length_ratio", "0.5"], "`max_length_ratio` must be at least 1, got 0.5"),
        (["--num_beams", "1000000"], "`num_beams` must be at most 1,000, got 1000000"),
        (["--d_modell", "8"], r"no option --d_modell \(did you mean 'd_model'\?\)"),
        (["--d_model", "wide"], "invalid int value: 'wide'"),
        (["--precision", "fp8"], "invalid choice: 'fp8'"),
        (["--num_beams", "0"], r"`num_beams` must be a whole number of at least 1 \(1 is greedy\), got 0"),
        (["--max_extra_tokens", "-1"], "`max_extra_tokens` must be a whole number of at least 0, got -1"),
        (["--max_tokens", "0"], "`max_tokens` must be at least 1, got 0"),
        (["--lr_scheduler_type", "linear"], "linear needs a `learning_rate`"),
    ],
)
def test_a_wrong_option_is_refused_in_one_sentence(options: list[str], message: str, output: list[str]):
    with pytest.raises(ValueError, match=message):
        parse_settings("builtin-fr-en", [*output, *options])


# The pair of languages that a run records


def recorded(settings: Settings) -> tuple[str | None, str | None]:
    data = settings.as_recipe()["data"]
    return data.get("source_lang"), data.get("target_lang")


def options_for(folder: Path, text: tuple[str, ...]) -> list[str]:
    """Names of one file or two, as the training text in a folder, and then options."""
    names = [name for name in text if "." in name and not name.startswith("-")]
    files = zip(("--train_source", "--train_target"), names, strict=False)
    return [*(part for option, name in files for part in (option, str(folder / name))), *text[len(names) :]]


@pytest.mark.parametrize("recipe", [*recipe_names(), None])
@pytest.mark.parametrize(
    ("text", "languages"),
    [
        (("train.fi", "train.sw"), ("fi", "sw")),
        (("fi/train.txt", "sw/train.txt"), ("fi", "sw")),
        (("train.src", "train.tgt"), (None, None)),
        (("train.fi", "train.tgt"), (None, None)),
        (("train.src", "train.tgt", "--source_lang", "fi", "--target_lang", "sw"), ("fi", "sw")),
        (("train.fi", "train.tgt", "--target_lang", "sw"), ("fi", "sw")),
        (("a.no", "b.no", "--source_lang", "no", "--target_lang", "sw"), ("no", "sw")),
        (("train.tsv", "--source_column", "fi", "--target_column", "sw"), ("fi", "sw")),
        (("train.tsv", "--source_column", "left", "--target_column", "right"), (None, None)),
        (("--dataset_name", "org/name", "--source_column", "fi", "--target_column", "sw"), ("fi", "sw")),
        (("--dataset_name", "org/name", "--source_lang", "fi", "--target_lang", "sw"), ("fi", "sw")),
        (("--dataset_name", "builtin-fr-en"), ("fr", "en")),
    ],
)  # fmt: skip
def test_the_languages_of_another_text_are_never_a_recipes(recipe, text, languages, output, tmp_path):
    settings = parse_settings(recipe, [*options_for(tmp_path, text), *output])
    found = recorded(settings)
    if found == ("en", "fr") and text == ("--dataset_name", "builtin-fr-en"):
        assert recipe == "tatoeba-en-fr"  # the other way round is what this recipe asks for
    else:
        assert found == languages
    assert not settings.languages_name_columns
    asked = any("give --source_lang and --target_lang" in note for note in settings.notes)
    assert asked == (languages == (None, None))


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipes_own_text_is_of_its_languages(name, output):
    own = yaml.safe_load(find_recipe(name).read_text(encoding="utf-8"))["data"]
    same = ["--dataset_name", own["dataset_name"]] if "dataset_name" in own else []
    for options in ([], same, ["--train_split", "train"]):
        assert recorded(parse_settings(name, [*output, *options])) == (own["source_lang"], own["target_lang"])
    turned = ["--source_lang", own["target_lang"], "--target_lang", own["source_lang"]]
    assert recorded(parse_settings(name, [*output, *turned])) == (own["target_lang"], own["source_lang"])


@pytest.mark.parametrize(
    ("rows", "languages"),
    [
        (["fr\ten", "merci\tthanks"], ("fr", "en")),
        (["en\tde", "thanks\tdanke"], ("en", "de")),
        (["de\ten", "danke\tthanks"], ("en", "de")),  # both are there, and the recipe says which way
        (["source\ttarget", "merci\tthanks"], (None, None)),
        (["merci\tthanks", "non\tno"], (None, None)),
        (["FR\tEN", "merci\tthanks"], (None, None)),
        (["pt_BR\ten", "obrigado\tthanks"], (None, None)),
    ],
)
def test_the_columns_of_a_table_tell_its_languages(rows, languages, output, tmp_path):
    table = tmp_path / "train.tsv"
    table.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    for option in ("--train_source", "--dataset_name"):
        settings = parse_settings("multi30k-en-de", [*output, option, str(table)])
        assert recorded(settings) == languages
        corpus = load_parallel_corpus(str(table), **{name: getattr(settings.data, name) for name in LANGUAGES})
        swapped = rows[0] == "de\ten"
        assert corpus["source"][0] == rows[-1 if rows[0] != "merci\tthanks" else 1].split("\t")[int(swapped)]


@pytest.mark.parametrize("streaming", [False, True])
def test_another_dataset_must_have_columns_of_the_recipes_languages(streaming, output, tmp_path):
    """A local copy has them and is let pass; of `source` and `target` nobody knows."""
    for columns, message in ((("source", "target"), "source_lang and target_lang"), (("en", "de"), None)):
        folder = tmp_path / columns[0]
        folder.mkdir()
        rows = [dict(zip(columns, pair, strict=True)) for pair in (("thanks", "danke"), ("no", "nein"))]
        (folder / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        more = [
            "--eval_strategy",
            "no",
            *(["--streaming", "--max_steps", "2", "--save_steps", "1"] if streaming else []),
        ]
        options = [*output, "--dataset_name", str(folder), *more]
        settings = parse_settings("multi30k-en-de", options)
        assert settings.languages_name_columns
        if message is None:
            assert next(iter(read_training_text(settings))) in (
                ("thanks", "danke"),
                {"source": "thanks", "target": "danke"},
            )
            assert recorded(settings) == ("en", "de")
            continue
        with pytest.raises(ValueError, match=f"'en', 'de', but it has 'source', 'target'.*{message}"):
            read_training_text(settings)
        given = parse_settings("multi30k-en-de", [*options, "--source_lang", "fi", "--target_lang", "sw"])
        assert len(list(islice(iter(read_training_text(given)), 2))) == 2
        assert recorded(given) == ("fi", "sw")


def test_one_language_alone_is_not_completed_by_a_recipes(output):
    settings = parse_settings("multi30k-en-de", [*output, "--dataset_name", "org/name", "--source_lang", "fr"])
    assert recorded(settings) == ("fr", None)
    with pytest.raises(ValueError, match=r"only source_lang='fr' was given\. Give target_lang too"):
        read_training_text(settings)


def test_languages_that_contradict_the_names_of_the_files_are_told(output):
    options = ["--train_source", "a.fr", "--train_target", "a.en", "--source_lang", "en", "--target_lang", "fr"]
    settings = parse_settings(None, [*output, *options])
    assert recorded(settings) == ("en", "fr")
    assert settings.notes == ["The languages are recorded as en and fr; the names of the files say fr and en."]


def test_what_describes_a_recipes_text_goes_with_it(output, tmp_path):
    own = {"dataset_name": "org/corpus", "dataset_config_name": "en-de", "train_split": "clean", "source_lang": "en"}
    recipe = write_recipe(tmp_path, yaml.safe_dump({"data": {**own, "target_lang": "de", "streaming": False}}))
    files = parse_settings(recipe, [*output, "--train_source", "a.fi", "--train_target", "a.sw"])
    kept = set(files.as_recipe()["data"])
    assert kept == {"train_source", "train_target", "source_lang", "target_lang", "streaming"}
    assert files.notes == [
        "--train_source takes the place of the recipe's dataset_name, dataset_config_name, train_split.",
        "The text is fi to sw by the names of its files; the recipe's en and de are those of its own text.",
    ]
    other = parse_settings(recipe, [*output, "--dataset_name", "org/other"])
    assert "dataset_config_name" not in other.as_recipe()["data"]


def test_a_run_that_goes_on_keeps_its_languages_wherever_its_text_lies_now(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    started = ["--output_dir", str(run), "--train_source", "a.src", "--train_target", "a.tgt"]
    settings = parse_settings("multi30k-en-de", [*started, "--source_lang", "fi", "--target_lang", "sw"])
    (run / "run.yaml").write_text(yaml.safe_dump(settings.as_recipe()), encoding="utf-8")
    moved = ["--output_dir", str(run), "--train_source", "/moved/a", "--train_target", "/moved/b"]
    assert recorded(parse_settings(str(run / "run.yaml"), moved)) == ("fi", "sw")
    elsewhere = ["--output_dir", str(tmp_path / "other"), *moved[2:]]
    assert recorded(parse_settings(str(run / "run.yaml"), elsewhere)) == (None, None)


def test_norwegian_is_a_language_in_a_recipe_too(output, tmp_path):
    recipe = write_recipe(tmp_path, "data:\n  source_lang: no\n  target_lang: en\n")
    assert recorded(parse_settings(recipe, output)) == ("no", "en")
    assert parse_settings(recipe, output).data.source_lang == "no"


def test_validation_text_with_swapped_sides_is_refused(output):
    options = ["--train_source", "a.fr", "--train_target", "a.en", "--validation_source", "v.en"]
    with pytest.raises(ValueError, match=r"fr to en, but .* validation text is en to fr\. Swap `--validation_source`"):
        parse_settings("multi30k-en-de", [*output, *options, "--validation_target", "v.fr"])
    for names in (("v.fr", "v.en"), ("v.src", "v.tgt"), ("v.en", "v.tgt")):
        right = [*options[:4], "--validation_source", names[0], "--validation_target", names[1]]
        assert recorded(parse_settings("multi30k-en-de", [*output, *right])) == ("fr", "en")
