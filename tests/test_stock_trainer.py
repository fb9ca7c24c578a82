"""transformers' own `Seq2SeqTrainer` and `DataCollatorForSeq2Seq` train the model as it is."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tiny import EOS, PAD, lively_model, pad_batch, sentences, tiny_model, until_end
from transformers import AutoModelForSeq2SeqLM, DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

from hf_vanilla_transformer.model import fast_path


class Padder:
    """All that the collator asks of a tokenizer."""

    padding_side = "right"

    def save_pretrained(self, folder):
        """It has no files."""

    def pad(self, features, padding=True, max_length=None, pad_to_multiple_of=None, return_tensors=None):
        longest = max(len(feature["input_ids"]) for feature in features)
        batch = {
            name: [feature[name] + [PAD] * (longest - len(feature["input_ids"])) for feature in features]
            for name in ("input_ids", "attention_mask")
            if name in features[0]
        }
        others = {name: [feature[name] for feature in features] for name in features[0] if name not in batch}
        return {name: torch.tensor(value) for name, value in {**batch, **others}.items()}


def corpus(size: int = 32) -> Dataset:
    """Copy the source; lengths differ, and with them the tokens in a batch."""
    rows = sentences([3 + i % 5 * 2 for i in range(size)])
    return Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows], "labels": rows})


def trainer(model, folder, **arguments) -> Seq2SeqTrainer:
    args = Seq2SeqTrainingArguments(
        output_dir=str(folder),
        **{
            "max_steps": 12,
            "per_device_train_batch_size": 16,
            "learning_rate": 3e-3,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": True,
            "remove_unused_columns": True,
            **arguments,
        },
    )
    collator = DataCollatorForSeq2Seq(Padder(), model=model)
    return Seq2SeqTrainer(
        model=model, args=args, train_dataset=corpus(), eval_dataset=corpus(8), data_collator=collator
    )


@pytest.mark.parametrize("label_smoothing_factor", [0.0, 0.1])
def test_the_stock_trainer_trains_it(label_smoothing_factor, tmp_path):
    """With smoothing the trainer takes the labels away from the model and computes the loss itself."""
    stock = trainer(tiny_model(dropout=0.0), tmp_path, label_smoothing_factor=label_smoothing_factor)

    stock.train()

    losses = [entry["loss"] for entry in stock.state.log_history if "loss" in entry]
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 0.3


def test_its_own_smoothing_is_the_trainers(tmp_path):
    ours = trainer(tiny_model(dropout=0.0, label_smoothing=0.1), tmp_path / "ours", max_steps=2)
    theirs = trainer(tiny_model(dropout=0.0), tmp_path / "theirs", max_steps=2, label_smoothing_factor=0.1)

    for stock in (ours, theirs):
        stock.train()

    first, second = ([e["loss"] for e in stock.state.log_history if "loss" in e] for stock in (ours, theirs))
    assert first == pytest.approx(second, abs=2e-4)


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path):
    """bs 16 x 1 = bs 4 x 4 with unequal numbers of tokens; the in-tree Marian is four times off here."""
    norms, weights = [], []
    for size, steps in ((16, 1), (4, 4)):
        model = tiny_model(dropout=0.0, label_smoothing=0.1)
        stock = trainer(
            model,
            tmp_path / str(size),
            max_steps=2,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            train_sampling_strategy="sequential",
        )
        stock.train()
        norms.append([entry["grad_norm"] for entry in stock.state.log_history if "grad_norm" in entry])
        weights.append(model.model.encoder.layers[0].fc1.weight)

    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    torch.testing.assert_close(weights[0], weights[1], atol=1e-5, rtol=0)


def test_predicting_with_generate_keeps_the_limit_of_each_sentence(tmp_path):
    """Also the second time: the first fills the model's generation config with `max_length=20`."""
    model = tiny_model(logits_bias=True)
    model.final_logits_bias[:, EOS] = -1e9
    model.generation_config.max_extra_tokens = 16
    stock = trainer(model, tmp_path, predict_with_generate=True, per_device_eval_batch_size=4)
    rows = corpus(8)

    for _ in range(2):
        predictions = stock.predict(rows).predictions
        new = [int(((row != PAD) & (row != -100)).sum()) - 1 for row in torch.as_tensor(predictions)]
        assert new == [len(row) + 16 for row in rows["input_ids"]]
    assert stock.evaluate()["eval_loss"] > 0


def test_predicting_with_generate_is_decoded_fast_by_the_models_own_penalty(tmp_path, monkeypatch):
    """In bf16 under accelerate's wrapper, with the labels that the trainer passes."""
    said: list[str] = []
    monkeypatch.setattr(fast_path.logger, "warning_once", said.append)
    model, rows = lively_model(), corpus(4)
    model.generation_config.gnmt_length_penalty = 6.0  # translations much longer than without
    stock = trainer(model, tmp_path, predict_with_generate=True, generation_num_beams=3, bf16=True, max_steps=1)
    stock.train()

    predictions = torch.as_tensor(stock.predict(rows, max_new_tokens=12).predictions)

    assert not said  # as of a search that is slower
    ids, mask = pad_batch(rows["input_ids"])
    with torch.autocast("cpu", torch.bfloat16):
        asked, without = (
            model.generate(ids, attention_mask=mask, num_beams=3, gnmt_length_penalty=penalty, max_new_tokens=12)
            for penalty in (6.0, 0.0)
        )
    assert until_end(predictions) == until_end(asked) != until_end(without)


def test_it_saves_and_resumes_adapters(tmp_path):
    """Its first checkpoint used to fail for want of a config.json beside them."""
    tiny_model(dropout=0.0).save_pretrained(tmp_path / "base")
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "base")
    model.add_adapter(LoraConfig(target_modules=["q_proj", "v_proj"]))
    stock = trainer(model, tmp_path / "run", max_steps=2, save_strategy="steps", save_steps=1)

    stock.train()

    saved = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run" / "checkpoint-2").eval()
    ids = torch.tensor(sentences([5]))
    torch.testing.assert_close(saved(input_ids=ids).logits, model.eval()(input_ids=ids).logits)
