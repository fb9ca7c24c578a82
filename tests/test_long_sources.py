"""Sources longer than any that training saw: recorded with the model, and said at every entrance."""

import json
import logging
from pathlib import Path

import pytest
from datasets import Dataset
from tiny import tiny_model
from training_runs import make_trainer
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

from hf_vanilla_transformer import Translator, VanillaTransformerConfig, from_marian, to_marian
from hf_vanilla_transformer.cli import main
from hf_vanilla_transformer.data.filtering import FilterSettings
from hf_vanilla_transformer.data.stream_batching import StreamingBatches
from hf_vanilla_transformer.illustration import illustrate
from hf_vanilla_transformer.model.manifest import renew_entry
from hf_vanilla_transformer.model.sentences import longest_known_source
from hf_vanilla_transformer.training.token_batches import longest_source
from hf_vanilla_transformer.translation import target_log_probabilities

KNOWN = 6
SHORT, LONG = "merci", "le petit chat dort la petite maison est vieille"


@pytest.fixture
def trained(folder: Path) -> Path:
    """A model that was trained on sources of at most so many tokens."""
    config = folder / "config.json"
    fields = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**fields, "trained_source_length": KNOWN}), encoding="utf-8")
    return folder


def load(folder):
    return AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def by_translator(folder):
    return lambda sentences: Translator(*load(folder)).translate(sentences, num_beams=1)


def by_lines(folder):
    return lambda sentences: list(Translator(*load(folder)).translate_lines(sentences, num_beams=1, chunk_lines=1))


def by_pipeline(folder):
    return lambda sentences: pipeline("translate", model=str(folder))(sentences, num_beams=1)


def by_pipeline_stream(folder):
    return lambda sentences: list(pipeline("translate", model=str(folder))(iter(sentences), batch_size=1, num_beams=1))


def by_scoring(folder):
    return lambda sentences: target_log_probabilities(*load(folder), sentences, sentences)


def by_illustration(folder):
    return lambda sentences: illustrate(*load(folder), sentences[-1])


ENTRANCES = (by_translator, by_lines, by_pipeline, by_pipeline_stream, by_scoring, by_illustration)


def warnings_of(caplog):
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [message for message in said if "training saw" in message]


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_every_entrance_names_a_source_longer_than_training_saw_once(trained, caplog, entrance):
    translate = entrance(trained)
    translate([SHORT])
    assert warnings_of(caplog) == []
    translate([SHORT, LONG, LONG])
    (said,) = warnings_of(caplog)
    length = len(AutoTokenizer.from_pretrained(trained)(LONG)["input_ids"])
    assert f"has {length} tokens, but training saw no source of more than {KNOWN}: expect a poor translation" in said
    assert "Split it into sentences" in said


@pytest.mark.parametrize("name", ["translate", "interactive", "evaluate", "score", "illustrate"])
def test_every_command_says_it_once_with_the_line(trained, tmp_path, monkeypatch, capsys, name):
    source, reference = tmp_path / "source", tmp_path / "reference"
    source.write_text(f"{SHORT}\n{LONG}\n{SHORT}\n", encoding="utf-8")
    reference.write_text("thanks\nthe little cat\nthanks\n", encoding="utf-8")
    monkeypatch.setattr("hf_vanilla_transformer.cli.streams.PIECE_BYTES", 8)  # several chunks
    monkeypatch.setattr("hf_vanilla_transformer.cli.score.CHUNK_PAIRS", 1)
    typed = open(source, encoding="utf-8")  # noqa: SIM115
    monkeypatch.setattr("sys.stdin", typed)
    commands = {
        "translate": ["translate", "--input", str(source)],
        "interactive": ["translate", "--interactive"],
        "evaluate": ["evaluate", "--source", str(source), "--reference", str(reference), "--no_record"],
        "score": ["score", "--source", str(source), "--target", str(reference)],
        "illustrate": ["illustrate", "--text", LONG, "--output", str(tmp_path / "page.html")],
    }
    assert main([*commands[name], "--model", str(trained), "--device", "cpu"]) == 0
    typed.close()
    said = [line for line in capsys.readouterr().err.split("\n") if "training saw no source" in line]
    assert len(said) == 1
    place = {"interactive": "sentences[0] has", "illustrate": "`text` has", "score": "line 2 of the source has"}
    assert said[0].startswith(place.get(name, "line 2 has"))


def test_a_model_that_states_no_length_is_measured_by_its_stated_positions(folder, caplog):
    model, tokenizer = load(folder)
    model.config.max_position_embeddings = KNOWN
    Translator(model, tokenizer).translate([LONG], num_beams=1)
    assert f"the model's stated limit is {KNOWN} (`max_position_embeddings`)" in caplog.text


def test_others_that_are_too_long_are_counted(trained, caplog):
    Translator(*load(trained)).translate([LONG, f"{LONG} {LONG}", SHORT, LONG], num_beams=1)
    (said,) = warnings_of(caplog)
    assert said.startswith("sentences[1] has")
    assert "2 more of these sentences are too long" in said


def test_the_length_travels_with_the_model(trained, tmp_path):
    load(trained)[0].save_pretrained(tmp_path / "copy")
    assert VanillaTransformerConfig.from_pretrained(tmp_path / "copy").trained_source_length == KNOWN


def test_a_converted_model_is_known_for_its_originals_positions():
    ours = tiny_model(positional_encoding="concatenated", logits_bias=True, max_position_embeddings=77)
    assert longest_known_source(from_marian(to_marian(ours)).config) == 77


def test_the_longest_source_of_a_corpus_and_the_limit_of_a_stream():
    rows = Dataset.from_dict({"input_ids": [[3, 2], [3, 4, 5, 2]], "labels": [[3, 4, 5, 6, 7, 2], [2]]})
    assert longest_source(rows) == 4
    assert longest_source(rows.select([0])) == 2
    stream = StreamingBatches([("a", "b")], None, FilterSettings(max_tokens=9), max_tokens=50)
    assert longest_source(stream) == 9


def recorded(folder):
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))["trained_source_length"]


def test_training_records_it_in_every_checkpoint_and_a_resumed_run_agrees(tiny_model_folder, tmp_path):
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(tiny_model_folder, tmp_path / "run", **settings)
    longest = max(map(len, trainer.train_dataset["input_ids"]))
    trainer.train()
    trainer.save_model()
    folders = [tmp_path / "run", *(tmp_path / "run").glob("checkpoint-*")]
    assert [recorded(folder) for folder in folders] == [longest] * 3

    earlier = tmp_path / "run" / "checkpoint-1"  # of a version that recorded none
    config = json.loads((earlier / "config.json").read_text(encoding="utf-8"))
    del config["trained_source_length"]
    (earlier / "config.json").write_text(json.dumps(config), encoding="utf-8")
    renew_entry(earlier, "config.json")
    again = make_trainer(tiny_model_folder, tmp_path / "run", **settings)
    again.train(resume_from_checkpoint=str(earlier))
    assert again.model.config.trained_source_length == longest


@pytest.mark.parametrize(
    ("before", "name", "after"), [(1000, "", 1000), (2, "", 0), (None, "saved", 77), (None, "", 0)]
)
def test_fine_tuning_never_forgets_longer_ones(tiny_model_folder, tmp_path, before, name, after):
    """0 is what the new text has; a saved model that states none may have seen all that it has positions for."""
    trainer = make_trainer(tiny_model_folder, tmp_path / "run", max_steps=1)
    config = trainer.model.config
    config.trained_source_length, config.name_or_path, config.max_position_embeddings = before, name, 77
    trainer.train()
    assert config.trained_source_length == (after or max(map(len, trainer.train_dataset["input_ids"])))


def test_it_is_no_option_of_training():
    from dataclasses import fields

    from hf_vanilla_transformer.training.arguments import ModelArguments

    assert "trained_source_length" not in {field.name for field in fields(ModelArguments)}
