"""Settings that a run would stumble over are refused before its text is read or, at the latest, encoded."""

import pytest

from hf_vanilla_transformer.training.arguments import DataArguments
from hf_vanilla_transformer.training.early_checks import require_words_to_fit
from hf_vanilla_transformer.training.recipes import parse_settings
from hf_vanilla_transformer.training.run import run_training

REFUSED = {
    "--report_to tensorbord": r"`report_to` must be none, all or one of .*, got tensorbord \(did you mean",
    "--metric_for_best_model bleuu": r"must be one of bleu, chrf, loss, got bleuu \(did you mean 'bleu'\?\)",
    "--metric_for_best_model bleu --predict_with_generate false": "must be one of loss without `predict_with",
    "--optim_args foo": "`optim` adamw_torch(_fused)? cannot be used: ",
    '--lr_scheduler_kwargs {"a":1}': "`lr_scheduler_type` inverse_sqrt cannot be used: .*unexpected keyword argument",
    "--torch_compile_backend foo": "`torch_compile_backend` must be one of .*inductor.*, got foo",
    "--torch_compile true --torch_compile_mode foo": "`torch_compile_mode` foo cannot be used",
    "--generation_config nosuch": "`generation_config` nosuch cannot be used: ",
    "--hub_model_id bad/name/x": "`hub_model_id` bad/name/x cannot be used: ",
    "--resume_from_checkpoint x": "`resume_from_checkpoint` is not for this command: give `--resume`",
    "--vocab_size 5": "`vocab_size` must be at least 260 .*got 5",
    "--max_tokens 0": "`max_tokens` must be at least 1, got 0",
    "--gradient_accumulation_steps 0": "`gradient_accumulation_steps` must be at least 1",
    "--per_device_eval_batch_size 0": "`per_device_eval_batch_size` must be at least 1",
    "--eval_accumulation_steps 0": "`eval_accumulation_steps` must be at least 1",
    "--generation_num_beams 0": "`generation_num_beams` must be between 1 and 1000, got 0",
    "--generation_max_length 0": "`generation_max_length` must be between 1 and 1e",
    "--save_total_limit -1": "`save_total_limit` must be at least 0",
    "--save_steps 0": "`save_steps` must be above 0",
    "--eval_steps -1": "`eval_steps` must be between 0 and 1e",
    "--logging_steps -5": "`logging_steps` must be between 0 and 1e",
    "--eval_delay -1": "`eval_delay` must be between 0 and 1e",
    "--data_seed -5": "`data_seed` must be between 0 and 4",
    "--dataloader_num_workers -1": "`dataloader_num_workers` must be at least 0",
    "--neftune_noise_alpha -1": "`neftune_noise_alpha` must be between 0 and 1e",
    "--learning_rate 0": "`learning_rate` must be above 0",
    "--adam_beta1 1": "`adam_beta1` must be below 1",
    "--adam_epsilon 0": "`adam_epsilon` must be above 0",
    "--streaming true --max_steps 9 --max_length 0": "must be at most the 1,500 tokens of a batch, but it is None",
    "--streaming true --max_steps 9 --max_length 9 --max_tokens 8": "at most the 8 tokens of a batch, but it is 9",
    "--streaming true --max_steps 9 --pool_size 0": "pool_size must be a whole number of at least 1, but it is 0",
    "--dropout 1.5": "`dropout` must be at least 0 and below 1",
    "--positional_encoding foo": "invalid choice: 'foo'",
    "--tokenizer_algorithm foo": "invalid choice: 'foo'",
    "--eval_strategy foo": "invalid choice: 'foo'",
    "--report_to none tensorboard": "Settings are given as `--name value`, but 'tensorboard' belongs to no setting",
}


@pytest.mark.parametrize(("options", "message"), REFUSED.items(), ids=REFUSED)
def test_a_wrong_setting_is_refused_before_the_text_is_read(options: str, message: str, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_vanilla_transformer.training.run.read_training_text", lambda _: pytest.fail("read"))
    with pytest.raises(ValueError, match=message):
        run_training(parse_settings("builtin-fr-en", ["--output_dir", str(tmp_path / "run"), *options.split(" ")]))
    assert not (tmp_path / "run").exists()


def test_a_package_that_is_needed_is_named_before_the_text_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_vanilla_transformer.training.run.read_training_text", lambda _: pytest.fail("read"))
    options = ["--output_dir", str(tmp_path / "run"), "--report_to", "swanlab"]
    with pytest.raises(ValueError, match="`report_to` swanlab cannot be used: "):
        run_training(parse_settings("builtin-fr-en", options))


@pytest.mark.parametrize("max_length", [250, 0])
def test_a_batch_that_no_tokenizer_could_fill_is_refused_before_one_is_learned(max_length, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_vanilla_transformer.training.run.train_tokenizer", lambda *_: pytest.fail("learned"))
    for side in "ab":
        (tmp_path / f"train.{side}").write_text(f"one two three four five {side}\n" * 3, encoding="utf-8")
    files = [f"--train_source={tmp_path / 'train.a'}", f"--train_target={tmp_path / 'train.b'}"]
    options = [*files, "--output_dir", str(tmp_path / "run"), "--eval_strategy=no", f"--max_length={max_length}"]
    with pytest.raises(ValueError, match=r"`max_tokens` is 6 and a sentence of 6 words has at least 7 tokens"):
        run_training(parse_settings(None, [*options, "--max_tokens=6"]))


def test_a_pair_that_is_dropped_anyway_needs_to_fit_no_batch():
    """Blank, identical, and too long on its other side."""
    pairs = [("one two three four", " "), ("one two three four", "one two three four"), ("a b c d", "a b c d e f g")]
    require_words_to_fit(pairs, 3, DataArguments(max_length=6))
    with pytest.raises(ValueError, match="a sentence of 4 words has at least 5 tokens"):
        require_words_to_fit([("one two three four", "a")], 3, DataArguments(max_length=6))


def test_a_saved_model_that_contradicts_the_settings_is_refused_before_the_text_is_encoded(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("hf_vanilla_transformer.training.run.encode_training_text", lambda *_: pytest.fail("encoded"))
    for side in "ab":
        (tmp_path / f"train.{side}").write_text("merci\n" * 3, encoding="utf-8")
    files = [f"--train_source={tmp_path / 'train.a'}", f"--train_target={tmp_path / 'train.b'}"]
    options = [*files, "--init_from", str(folder), "--eval_strategy=no", "--output_dir", str(tmp_path / "run")]
    with pytest.raises(ValueError, match="which cannot become 999"):
        run_training(parse_settings(None, [*options, "--d_model=999"]))


@pytest.mark.parametrize(
    ("options", "longer", "message"),
    [
        ([], "validation", r"must fit the budget of a batch, but the source sentence at index 1 has \d+ tokens"),
        (
            ["--positional_encoding=learned", "--max_position_embeddings=12"],
            "validation",
            r"for \d+ tokens, but .* validation text has",
        ),
        (
            ["--positional_encoding=learned", "--max_position_embeddings=20"],
            "train",
            r"for \d+ tokens, but .* training text has",
        ),
    ],
)
def test_text_that_fits_no_batch_or_position_is_refused_before_the_first_step(
    options, longer, message, folder, tmp_path, sentences, monkeypatch
):
    files = []
    for part in ("train", "validation"):
        lines = [sentences[0], " ".join(sentences[:3] * 3) if part == longer else sentences[1]]
        for side in ("source", "target"):
            path = tmp_path / f"{part}.{side}"
            path.write_text("\n".join(lines if side == "source" else reversed(lines)) + "\n", encoding="utf-8")
            files.append(f"--{part}_{side}={path}")
    sizes = ["--d_model=16", "--encoder_layers=1", "--decoder_layers=1", "--max_steps=1", "--eval_strategy=steps"]
    budget = ["--max_tokens=40" if not options else "--max_tokens=500"]
    monkeypatch.setattr("transformers.Seq2SeqTrainer.training_step", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match=message):
        run_training(
            parse_settings(
                None,
                [*files, *sizes, *options, *budget, "--tokenizer", str(folder), "--output_dir", str(tmp_path / "run")],
            )
        )
