"""Runs that push to the tests' Hub, in a process of their own; arguments as of `main`."""

import sys
from pathlib import Path

from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

from hf_vanilla_transformer import VanillaTransformerForConditionalGeneration
from hf_vanilla_transformer.tokenization import load_tokenizer


def main(kind: str, model_folder: str, run: str, repo_id: str, strategy: str, token: str) -> None:
    """Two steps, each with a checkpoint, and the model at the end.

    Args:
        kind: whose trainer, `ours` or `stock`.
        model_folder: for the stock trainer its model, for both their tokenizer.
        run: folder of the run.
        repo_id, strategy: where and when to push.
        token: given as `hub_token`, or `-`.
    """
    pushing = {"push_to_hub": True, "hub_model_id": repo_id, "hub_strategy": strategy}
    if token != "-":
        pushing["hub_token"] = token
    if kind == "ours":
        from training_runs import make_trainer

        settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
        trainer = make_trainer(Path(model_folder), Path(run), **settings, **pushing)
    else:
        tokenizer = load_tokenizer(model_folder)
        model = VanillaTransformerForConditionalGeneration.from_pretrained(model_folder)
        rows = [{**tokenizer("merci"), "labels": tokenizer(text_target="thanks").input_ids}] * 4
        arguments = Seq2SeqTrainingArguments(
            run, max_steps=2, save_steps=1, use_cpu=True, report_to="none", disable_tqdm=True, **pushing
        )
        collator = DataCollatorForSeq2Seq(tokenizer, model=model)
        trainer = Seq2SeqTrainer(
            model, arguments, data_collator=collator, train_dataset=rows, processing_class=tokenizer
        )
    trainer.train()
    try:
        trainer.save_model()  # pushes
    except Exception as error:
        sys.stderr.write(f"HOW TO GO ON {getattr(error, 'how_to_go_on', '')}\n")
        raise


if __name__ == "__main__":
    main(*sys.argv[1:])
