"""What `train --help` shows without importing torch is what the classes that need torch declare."""

import dataclasses
import re
from difflib import get_close_matches

import pytest

from hf_vanilla_transformer import VanillaTransformerConfig
from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.cli.train import OWN_OPTIONS
from hf_vanilla_transformer.model.setting_ranges import DECODING_OPTIONS
from hf_vanilla_transformer.training.arguments import GROUPS, TRAINING_SETTINGS, DecodingArguments
from hf_vanilla_transformer.training.model_fields import model_fields
from hf_vanilla_transformer.training.recipe_files import recipe_names
from hf_vanilla_transformer.training.trainer_arguments import TranslationTrainingArguments


def test_the_fields_read_from_the_configs_source_are_those_of_the_class():
    declared = VanillaTransformerConfig.__annotations__
    assert [field.name for field in model_fields()] == list(declared)
    for field in model_fields():
        assert vars(VanillaTransformerConfig)[field.name] == field.default
        if not field.choices:
            kinds = {str(kind) for kind in getattr(declared[field.name], "__args__", ())} or {
                str(declared[field.name])
            }
            assert {kind.split("'")[1] if "'" in kind else kind for kind in kinds} == {
                "NoneType" if kind == "None" else kind for kind in field.annotation.split(" | ")
            }


def test_the_choices_read_from_the_configs_source_are_those_it_accepts():
    [field] = [field for field in model_fields() if field.choices]
    for choice in field.choices:
        assert getattr(VanillaTransformerConfig(**{field.name: choice}), field.name) == choice
    with pytest.raises(Exception, match="positional_encoding"):
        VanillaTransformerConfig(positional_encoding="none of these")


def test_the_defaults_shown_are_the_trainers():
    fields = {field.name: field for field in dataclasses.fields(TranslationTrainingArguments)}
    for name, setting in TRAINING_SETTINGS.items():
        default = fields[name].default
        assert getattr(default, "value", default) == setting.default, name
        assert setting.type.__name__ in str(fields[name].type) or "Strategy" in str(fields[name].type), name


def test_train_help_gives_type_choices_default_and_the_recipes(capsys):
    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(name in text for name in recipe_names())
    assert "--d_model INTEGER width of the residual stream (default: 512)" in text
    assert "--positional_encoding {interleaved,concatenated,tensor2tensor,fairseq,learned}" in text
    assert "--tie_word_embeddings true|false" in text
    assert "of the model's config" not in text
    for group in GROUPS.values():
        for field in dataclasses.fields(group):
            entry = re.search(rf"--{field.name} (\S+) \w.{{10}}", text)
            assert entry is not None, field.name  # a type and a description


def test_a_recipe_takes_the_decoding_options_of_the_commands():
    assert {field.name for field in dataclasses.fields(DecodingArguments)} == set(DECODING_OPTIONS)


def test_no_setting_is_taken_for_a_misspelt_option_of_the_command():
    groups = (*GROUPS.values(), TranslationTrainingArguments)
    for field in (field for group in groups for field in dataclasses.fields(group) if field.name != "output_dir"):
        for name in (f"--{field.name}", f"--no_{field.name}"):
            assert not get_close_matches(name, OWN_OPTIONS, n=1, cutoff=0.75), name
