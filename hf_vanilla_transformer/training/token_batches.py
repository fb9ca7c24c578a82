"""Batches by tokens for a `Seq2SeqTrainer` (section 5.1), from a corpus or a stream.

Mixed into the trainer. For a corpus, every process computes the same plan, and Accelerate distributes the batches to
the processes; `StreamingBatches` distributes those of a stream itself.
"""

import json
from pathlib import Path
from typing import Any

import datasets
import torch
from torch.utils.data import DataLoader
from transformers.trainer_callback import TrainerCallback

from ..data.batching import TokenBudgetBatchSampler
from ..data.encoding import sequence_lengths
from ..data.stream_batching import StreamingBatches
from ..model.configuration_vanilla_transformer import is_ours
from ..model.json_files import read_json
from ..model.sentences import longest_known_source
from .checkpoints import STREAM_STATE_NAME
from .numbered_pairs import NumberedPairs, PairCollator
from .trainer_arguments import TranslationTrainingArguments


class EpochSetter(TrainerCallback):
    """Tells the sampler its epoch; after a resume on several processes, neither Trainer nor accelerate does."""

    def __init__(self, sampler: TokenBudgetBatchSampler) -> None:
        self.sampler = sampler

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.sampler.set_epoch(int(state.epoch + 1e-6))  # a resumed run starts within an epoch


class StreamEpoch(TrainerCallback):
    """Sets a stream's epoch to the fraction of steps done, which the Trainer would restart after a resume."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.epoch = state.global_step / state.max_steps


class TokenBatches:
    """Overrides where a `Seq2SeqTrainer` gets its batches from."""

    args: TranslationTrainingArguments
    accelerator: Any
    data_collator: Any
    model: Any
    train_dataset: Any
    eval_dataset: Any
    state: Any
    add_callback: Any

    def get_train_dataloader(self) -> DataLoader:
        """Batches of at most `max_tokens` padded tokens per side, with the same plan on every process."""
        if self.train_dataset is None:
            raise ValueError("Training needs a `train_dataset`.")
        if isinstance(self.train_dataset, StreamingBatches):
            return self._stream_dataloader(self.train_dataset)
        sampler = self._token_sampler(self.train_dataset, shuffle=True)
        self.add_callback(EpochSetter(sampler))
        return self._token_dataloader(self.train_dataset, sampler)

    def _record_source_length(self, checkpoint: Path | None) -> None:
        """Store in the model's config the length of the longest source that it is, or was, trained on."""
        model = self.accelerator.unwrap_model(self.model)
        if not is_ours(model) or self.train_dataset is None:
            return
        config = model.config
        # a saved model without the field was trained on unknown lengths
        before = longest_known_source(config) if config.name_or_path else config.trained_source_length
        saved = None if checkpoint is None else checkpoint / "config.json"
        resumed = read_json(saved).get("trained_source_length") if saved is not None and saved.is_file() else None
        config.trained_source_length = max(longest_source(self.train_dataset), before or 1, resumed or 1)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Validation batches of at most `max_tokens` padded tokens per side, in order."""
        eval_dataset = self._named_eval_dataset(eval_dataset)
        return self._token_dataloader(eval_dataset, self._token_sampler(eval_dataset, shuffle=False))

    def _named_eval_dataset(self, eval_dataset: Any) -> datasets.Dataset:
        if isinstance(eval_dataset, str):
            eval_dataset = self.eval_dataset[eval_dataset]
        eval_dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if eval_dataset is None:
            raise ValueError("Evaluation needs an `eval_dataset`. Give validation text, or set `eval_strategy` to no.")
        return eval_dataset

    def require_fitting_sentences(self, positions: int | None) -> None:
        """Refuse, before training and not in the midst of it, text that fits no batch or no position.

        Args:
            positions: tokens of the longest sentence that the model takes; `None` if there is no limit.

        Raises:
            ValueError: a sentence is longer than that, or a validation sentence than `max_tokens`.
        """
        validation = self.eval_dataset if self.args.eval_strategy != "no" else None
        for dataset in validation.values() if isinstance(validation, dict) else (validation,):
            if dataset is not None:
                self._token_sampler(dataset, shuffle=False)
                _require_positions(dataset, positions, "validation")
        if isinstance(self.train_dataset, datasets.Dataset):
            _require_positions(self.train_dataset, positions, "training")

    def _token_sampler(self, dataset: datasets.Dataset, shuffle: bool) -> TokenBudgetBatchSampler:
        return TokenBudgetBatchSampler(
            sequence_lengths(dataset, "input_ids"),
            sequence_lengths(dataset, "labels"),
            self.args.max_tokens,
            shuffle=shuffle,
            seed=self.args.data_seed if self.args.data_seed is not None else self.args.seed,
            num_processes=self.accelerator.num_processes,
            batches_per_step=self.args.gradient_accumulation_steps if shuffle else 1,
        )

    def _token_dataloader(self, dataset: datasets.Dataset, sampler: TokenBudgetBatchSampler) -> DataLoader:
        loader = DataLoader(
            NumberedPairs(dataset.select_columns(["input_ids", "labels"])),
            batch_sampler=sampler,
            collate_fn=PairCollator(self.data_collator),
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
            persistent_workers=self.args.dataloader_persistent_workers,
        )
        return self.accelerator.prepare(loader)

    # A stream

    def _stream_dataloader(self, batches: StreamingBatches) -> DataLoader:
        self.add_callback(StreamEpoch())
        self.args.ignore_data_skip = True  # else a resumed run would read all batches up to its checkpoint
        # iterating draws a random number: with its own generator, a resumed run does not change the global state
        return DataLoader(
            batches, batch_size=None, collate_fn=PairCollator(self.data_collator), generator=torch.Generator()
        )

    def _skip_in_stream(self, checkpoint: Path) -> None:
        """Continue a stream, if training uses one, where the checkpoint stopped."""
        if isinstance(self.train_dataset, StreamingBatches):
            path = checkpoint / STREAM_STATE_NAME
            seen = read_json(path) if path.is_file() else None
            self.train_dataset.skip(self.state.global_step * self.args.gradient_accumulation_steps, seen)

    def save_stream_state(self, folder: Path) -> None:
        """Save the position of the stream, if training uses one, in a checkpoint's folder."""
        if isinstance(self.train_dataset, StreamingBatches):
            seen = json.dumps(self.train_dataset.seen)
            (folder / STREAM_STATE_NAME).write_text(seen + "\n", encoding="utf-8", newline="\n")


def _require_positions(dataset: datasets.Dataset, positions: int | None, text: str) -> None:
    for side, column in (("source", "input_ids"), ("target", "labels")):
        longest = int(sequence_lengths(dataset, column).max(initial=0))
        if positions is not None and longest > positions:
            raise ValueError(
                f"The model has learned positions for {positions:,} tokens, but the longest {side} sentence of the "
                f"{text} text has {longest:,}. Raise `max_position_embeddings`, or leave longer pairs out by "
                "`max_length`."
            )


def longest_source(dataset: datasets.Dataset | StreamingBatches) -> int:
    """Tokens of the longest source of an encoded corpus; for a stream, its maximum length."""
    if isinstance(dataset, StreamingBatches):
        longest = dataset.filters.max_tokens
        assert longest is not None  # required for a stream
        return longest
    return int(sequence_lengths(dataset, "input_ids").max(initial=1))
