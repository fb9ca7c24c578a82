"""A converted model fine-tunes: by `train --init_from` and by the stock trainer, whole and with LoRA."""

import json
from pathlib import Path

import pytest
from originals import ENGLISH, FRENCH, fsmt_folder, marian_folder
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from hf_vanilla_transformer.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted OPUS-MT folder."""
    place = tmp_path_factory.mktemp("finetuning")
    original = marian_folder(place / "opus")
    assert main(["convert", "--from", "marian", "--model", str(original), "--output", str(place / "ours")]) == 0
    return place / "ours"


def require_falling(losses: list[float]) -> None:
    assert len(losses) == 5  # one of every ten steps
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "LoRA"])
def test_by_the_stock_trainer(lora, folder, tmp_path):
    model, tokenizer = (auto.from_pretrained(folder) for auto in (AutoModelForSeq2SeqLM, AutoTokenizer))
    if lora:
        peft = pytest.importorskip("peft", reason="peft is not installed")
        config = peft.LoraConfig(task_type="SEQ_2_SEQ_LM", r=16, target_modules=["q_proj", "v_proj"])
        model = peft.get_peft_model(model, config)
        assert 0 < model.get_nb_trainable_parameters()[0] < 0.3 * model.num_parameters()
    rows = [
        {**tokenizer(source), "labels": tokenizer(text_target=target).input_ids}
        for source, target in zip(FRENCH, ENGLISH, strict=True)
    ]
    trainer = Seq2SeqTrainer(
        model,
        Seq2SeqTrainingArguments(
            str(tmp_path / "run"),
            max_steps=50,
            learning_rate=3e-2 if lora else 3e-3,
            logging_steps=10,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        train_dataset=rows,
    )
    trainer.train()
    require_falling([line["loss"] for line in trainer.state.log_history if "loss" in line])


@pytest.fixture(scope="module")
def fsmt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted WMT19 folder."""
    place = tmp_path_factory.mktemp("finetuning")
    original = fsmt_folder(place / "wmt19")
    assert main(["convert", "--from", "fsmt", "--model", str(original), "--output", str(place / "ours")]) == 0
    return place / "ours"


@pytest.mark.parametrize(("kind", "positions"), [("folder", "concatenated"), ("fsmt", "fairseq")])
def test_by_train_init_from(kind, positions, request, tmp_path):
    folder = request.getfixturevalue(kind)
    text = {"source": FRENCH, "target": ENGLISH}
    for side, lines in text.items():
        (tmp_path / side).write_text("\n".join(lines * 4) + "\n", encoding="utf-8")
    run = tmp_path / "run"
    command = [
        *("train", "--init_from", str(folder), "--output_dir", str(run), "--max_steps", "50", "--logging_steps", "10"),
        *("--train_source", str(tmp_path / "source"), "--train_target", str(tmp_path / "target")),
        *("--eval_strategy", "no", "--learning_rate", "3e-3", "--warmup_steps", "5", "--max_tokens", "400"),
        *("--report_to", "none", "--use_cpu", "--precision", "fp32"),
    ]
    assert main(command) == 0
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    require_falling([row["loss"] for row in map(json.loads, lines) if "loss" in row])
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["positional_encoding"]) == ("vanilla_transformer", positions)
