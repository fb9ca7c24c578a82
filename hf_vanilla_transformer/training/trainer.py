"""`Seq2SeqTrainer` for translation: batches by tokens, the paper's learning rate, exact loss and real BLEU.

Differences from the stock trainer: batches by tokens instead of sentences (section 5.1), the schedule (5.3), and
evaluation. The loss is a mean over tokens rather than over batches; for BLEU, each sentence is decoded once, on one
process, with its own length limit. Everything else, Accelerate included, is the stock trainer's.
"""

import logging
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate.utils import gather_object, send_to_device
from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ..data.encoding import PAIR_IDS
from ..model.configuration_vanilla_transformer import longest_sentence
from .checkpoints import newest_complete_checkpoint, nothing_to_resume
from .ending import restore_callbacks, was_ended
from .fingerprint import require_same_model, require_same_run, run_fingerprint
from .finite_steps import StepRecord, not_finite
from .interruption import Interrupted, Interruption
from .progress import MetricsFile, TokenProgress
from .publishing import Publishing, require_publishable_strategy
from .record import RunRecord
from .run_lock import locked_run
from .safe_saving import SafeSaving
from .schedule import warmup_then_inverse_sqrt
from .sharding import gather_whole_model, require_whole_states, shard_tied_weights
from .token_batches import TokenBatches
from .token_count import TokenCount
from .trainer_arguments import TranslationTrainingArguments

logger = logging.getLogger(__name__)


class VanillaTransformerTrainer(TokenBatches, SafeSaving, Publishing, Seq2SeqTrainer):
    """Train a translator on encoded pairs.

    Args:
        model: a sequence-to-sequence model.
        args: the settings, `TranslationTrainingArguments`.
        train_dataset, eval_dataset: columns `input_ids` and `labels` (`data.encoding.encode_corpus`); validation by
            BLEU also needs the text in `source` and `target`. `train_dataset` may also be `data.StreamingBatches`,
            created for this process's rank and the number of processes; it needs `max_steps`.
        processing_class: the tokenizer.
        kwargs: as in `Seq2SeqTrainer`.
    """

    args: TranslationTrainingArguments
    model: Any
    model_wrapped: Any
    eval_dataset: Any
    optimizer: Any
    _checkpoint: Path | None = None  # the checkpoint to resume from
    _is_at_its_end = False  # whether that checkpoint is of the last step

    def __init__(self, model: Any = None, args: TranslationTrainingArguments | None = None, **kwargs: Any) -> None:
        if not isinstance(args, TranslationTrainingArguments):
            raise TypeError(
                f"VanillaTransformerTrainer needs TranslationTrainingArguments, got {type(args).__name__}. The stock "
                "Seq2SeqTrainer takes Seq2SeqTrainingArguments."
            )
        require_publishable_strategy(args)
        if kwargs.get("processing_class") is None:
            raise ValueError("VanillaTransformerTrainer needs the tokenizer: pass it as `processing_class`.")
        if model is not None:
            args.derive_learning_rate(model.config.d_model)
        if kwargs.get("data_collator") is None:
            kwargs["data_collator"] = DataCollatorForSeq2Seq(kwargs["processing_class"], model=model)
        super().__init__(model=model, args=args, **kwargs)
        if self.is_fsdp_enabled:
            require_whole_states(self.accelerator.state.fsdp_plugin)
        self._model_class: Any = type(self.model)  # FSDP changes the model's
        self.record = RunRecord()
        self.token_count = TokenCount()
        self.step_record = StepRecord()
        self.interruption = Interruption(self.accelerator)
        self.add_callback(self.interruption)
        self.remove_callback(PrinterCallback)
        self.progress = TokenProgress()
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(self.progress)
        self.add_callback(MetricsFile())

    def _require_one_precision(self) -> None:
        """Refuse different precisions, since "auto" may choose differently on the machines of a run."""
        found = dict.fromkeys(gather_object([self.args.precision]))
        if len(found) > 1:
            raise ValueError(
                f"All processes must compute in the same precision, but they settled on {' and '.join(found)}. Give "
                "`--precision bf16` or `--precision fp32`."
            )

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As in the Trainer; a resumed run must be the one that was stopped.

        Args:
            resume_from_checkpoint: a checkpoint's folder, or True for the newest complete one.
            args, kwargs: as in the Trainer.

        Raises:
            ValueError: there is no complete checkpoint; text, model or settings have changed (unless
                `resume_changed`); a loss or gradient is not finite (`NotFiniteError`); or another process is training
                in the folder (`RunInUseError`).
            Interrupted: SIGTERM or Ctrl-C arrived; the checkpoint of that step is written.
        """
        self._require_one_precision()
        if resume_from_checkpoint is True:
            newest = newest_complete_checkpoint(Path(str(self.args.output_dir)))
            if newest is None:
                raise nothing_to_resume(Path(str(self.args.output_dir)))
            resume_from_checkpoint = str(newest)
        if resume_from_checkpoint and self.is_deepspeed_enabled:
            logger.warning(
                f"DeepSpeed unpickles {resume_from_checkpoint}, which can run code: resume only what you wrote."
            )
        self._checkpoint, self._is_at_its_end = None, False
        config = self.accelerator.unwrap_model(self.model).config
        if resume_from_checkpoint:  # before its weights are loaded, which would not fit
            self._checkpoint = Path(resume_from_checkpoint)
            require_same_model(self._checkpoint, config)
        self.require_fitting_sentences(longest_sentence(config))
        self._record_source_length(self._checkpoint)
        self.record.start()
        run = Path(str(self.args.output_dir))
        try:
            with locked_run(run) if self.args.process_index == 0 else nullcontext():
                output = super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            self._checkpoint = None
            self.interruption.restore_handlers()
            self.progress.close()
        if self.interruption.signal_number:
            raise Interrupted(self.interruption.signal_number, self.state.global_step)
        return output

    def create_optimizer(self, model: Any = None) -> Any:
        """As in the Trainer; a checkpoint's state has been read by now, but not that of its optimizer."""
        if self._checkpoint is not None:
            self._go_on_from(self._checkpoint)
        if self.is_fsdp_enabled and self.accelerator.state.fsdp_plugin.fsdp_version == 2:
            shard_tied_weights(self.model, self.accelerator)
        return super().create_optimizer(model)

    def _go_on_from(self, checkpoint: Path) -> None:
        """Check and restore what the Trainer does not restore on resuming; idempotent."""
        if not self.args.resume_changed:
            require_same_run(checkpoint, run_fingerprint(self))
        self.record.resume(checkpoint)
        self._name_best_checkpoint(Path(str(self.args.output_dir)))  # the folder may have moved
        restore_callbacks(self.callback_handler.callbacks, self.state.stateful_callbacks)
        was_last = was_ended(checkpoint) and not self.args.resume_changed
        self._is_at_its_end = was_last or self.state.global_step >= self.state.max_steps
        self._skip_in_stream(checkpoint)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """One epoch or the rest of it; none at the end, which the Trainer would notice only after another step."""
        if self._is_at_its_end:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def _determine_best_metric(self, *args: Any, **kwargs: Any) -> bool:
        """Whether to save if only the best checkpoints are saved; always true if a signal stops the run."""
        return super()._determine_best_metric(*args, **kwargs) or bool(self.interruption.signal_number)

    # The learning rate (section 5.3)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The paper's schedule for `inverse_sqrt`, with 1 / warmup_steps of the peak at step 1; else transformers'."""
        is_papers = self.lr_scheduler is None and self.args.lr_scheduler_type == "inverse_sqrt"
        # call the Trainer's method first: it notes that another `train` needs a new scheduler
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if is_papers:
            warmup = max(self.args.get_warmup_steps(num_training_steps), 1)
            self.lr_scheduler = scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, lambda steps_done: warmup_then_inverse_sqrt(steps_done + 1, warmup)
            )
        return scheduler

    # A step

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """One forward and backward pass, counting tokens."""
        self.step_record.begin_batch(inputs.pop(PAIR_IDS, None))
        self.token_count.add(inputs)
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.step_record.end_batch(loss)
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The gradient norm before the optimizer's step; raises `NotFiniteError` if loss or norm is not finite."""
        grad_norm = super()._get_grad_norm(model, grad_norm)
        finite, description = self.step_record.finish(grad_norm, judge_gradient=self.accelerator.scaler is None)
        if not finite:
            step, rate = self.state.global_step + 1, float(self.optimizer.param_groups[0]["lr"])
            raise not_finite(Path(str(self.args.output_dir)), step, rate, description)
        return grad_norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; training lines also get tokens per second and the share of padding since the last one."""
        if "train_loss" in logs and self._is_at_its_end:
            return  # no step was trained, so there is no mean loss
        if "loss" in logs:
            logs.update(self.token_count.rates(self.accelerator))
        super().log(logs, start_time)

    # Evaluation

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        **generate_settings: Any,
    ) -> dict[str, float]:
        """Loss in nats per token, perplexity, and, with `predict_with_generate`, BLEU and chrF of decoded text.

        Args:
            eval_dataset: as in `get_eval_dataloader`; a dictionary is evaluated entry by entry.
            ignore_keys: unused, kept for the Trainer.
            metric_key_prefix: prepended to each name.
            generate_settings: as in `Translator.translate`; unset ones come from `generation_num_beams` and the
                model's generation config.
        """
        eval_dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(eval_dataset, dict):
            metrics: dict[str, float] = {}
            for name, dataset in eval_dataset.items():
                metrics |= self.evaluate(dataset, ignore_keys, f"{metric_key_prefix}_{name}", **generate_settings)
            return metrics
        started = time.perf_counter()
        eval_dataset = self._named_eval_dataset(eval_dataset)
        loss = self._loss_per_token(self.get_eval_dataloader(eval_dataset))
        metrics = {"loss": loss, "perplexity": math.exp(min(loss, 100.0))}
        if self.args.predict_with_generate:
            metrics |= self._translation_scores(eval_dataset, generate_settings)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(metrics)
        self.token_count.exclude(time.perf_counter() - started)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @torch.no_grad()
    def _loss_per_token(self, dataloader: DataLoader) -> float:
        """Mean cross-entropy over all real target tokens of all processes, in nats."""
        model = self.model_wrapped if self.is_in_train else self.model
        was_training = model.training
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)  # (loss, tokens)
        for inputs in dataloader:
            inputs.pop(PAIR_IDS, None)
            inputs = send_to_device(inputs, self.args.device)
            tokens = inputs["labels"].ne(-100).sum()
            with self.compute_loss_context_manager():
                loss = model(**inputs).loss
            sums += torch.stack((loss.double() * tokens, tokens.double()))
        model.train(was_training)
        total, tokens = self.accelerator.reduce(sums).tolist()
        return total / tokens

    def _translation_scores(self, dataset: datasets.Dataset, generate_settings: dict[str, Any]) -> dict[str, float]:
        """BLEU and chrF of the whole set, with decoding shared among the processes."""
        missing = sorted({"source", "target"} - set(dataset.column_names))
        if missing:
            raise ValueError(
                f"Validation by BLEU needs the text in columns `source` and `target`, but {', '.join(missing)} is not "
                f"among {', '.join(dataset.column_names)}. Add it, or set `predict_with_generate` to False."
            )
        from ..evaluation import evaluate_translations

        hypotheses = self.translate_shared(dataset["source"], **generate_settings)
        scores = evaluate_translations(hypotheses, list(dataset["target"]), metrics=("bleu", "chrf"))
        return {metric.name: round(metric.value, 2) for metric in scores}

    def _whole_model(self) -> Any:
        """The complete model on this process; a copy if the weights are sharded."""
        model = self.accelerator.unwrap_model(self.model)
        return gather_whole_model(model, self._model_class, self.args.device) if self.is_fsdp_enabled else model

    def translate_shared(self, sentences: Any, **generate_settings: Any) -> list[str]:
        """Translate on all processes: each takes every n-th sentence, and all get all translations, in order."""
        from ..translation import Translator

        settings = {"num_beams": self.args.generation_num_beams, **generate_settings}
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        model = self._whole_model()
        was_training = model.training
        translations = Translator(model, self.processing_class).translate(list(sentences)[rank::processes], **settings)
        model.train(was_training)
        mine = [(rank + processes * n, translation.text) for n, translation in enumerate(translations)]
        return [text for _, text in sorted(gather_object(mine))]

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        tied = set(self.model.all_tied_weights_keys)  # not saved by design; the Trainer would report them as missing
        missing = [name for name in load_result.missing_keys if name not in tied]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))
