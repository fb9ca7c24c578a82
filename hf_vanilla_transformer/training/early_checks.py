"""Checks of a run's settings before any text is read.

Learning a tokenizer and encoding a corpus can take hours, and the Trainer and `transformers` validate many settings
only when they first use them, after that. Here the same functions are called beforehand.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import Seq2SeqTrainer, get_scheduler
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from ..data.stream_batching import check_stream_sizes
from ..tokenization.training import MINIMUM_VOCAB_SIZE
from .arguments import DataArguments
from .recipe_files import did_you_mean
from .recipes import Settings

SCORES = ("bleu", "chrf")


def check_settings(settings: Settings) -> None:
    """Refuse settings that would make the run fail later.

    Raises:
        ValueError: a setting is unknown or out of range; the message names it.
        ImportError: a setting needs a package that is not installed.
    """
    args = settings.training
    _check_reporting(args.report_to)
    _check_best_model(args)
    _check_optimizer(args)
    _check_compilation(args)
    if args.generation_config is not None:
        with _about("generation_config", args.generation_config):
            Seq2SeqTrainer.load_generation_config(args.generation_config)
    if args.hub_model_id is not None:
        with _about("hub_model_id", args.hub_model_id):
            validate_repo_id(args.hub_model_id)
    if args.resume_from_checkpoint is not None:
        raise ValueError(
            "`resume_from_checkpoint` is not for this command: give `--resume`, which finds the newest checkpoint."
        )
    if settings.data.streaming:
        check_stream_sizes(settings.data.max_length or None, args.max_tokens, settings.data.pool_size)
    learned = settings.tokenizer.tokenizer is None and settings.model.init_from is None
    if learned and settings.tokenizer.vocab_size < MINIMUM_VOCAB_SIZE:
        raise ValueError(
            f"`vocab_size` must be at least {MINIMUM_VOCAB_SIZE} (the bytes, the special tokens and one "
            f"learned piece), got {settings.tokenizer.vocab_size}."
        )


def _check_reporting(names: Iterable[str]) -> None:
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(
                f"`report_to` must be none, all or one of {', '.join(INTEGRATION_TO_CALLBACK)}, got "
                f"{name}{did_you_mean(name, INTEGRATION_TO_CALLBACK)}."
            )
        with _about("report_to", name):
            INTEGRATION_TO_CALLBACK[name]()  # says which package it needs


def _check_best_model(args: Any) -> None:
    name = args.metric_for_best_model
    if name is None or args.eval_strategy == "no":
        return
    measured = (*SCORES, "loss") if args.predict_with_generate else ("loss",)
    if name.removeprefix("eval_") not in measured:
        why = "" if args.predict_with_generate or name not in SCORES else " without `predict_with_generate`"
        raise ValueError(
            f"`metric_for_best_model` must be one of {', '.join(measured)}{why}, got {name}"
            f"{did_you_mean(name, measured)}."
        )


def _check_optimizer(args: Any) -> None:
    """Create optimizer and schedule for one dummy weight, unless DeepSpeed provides them or they need the model."""
    if args.deepspeed is not None or args.optim_target_modules is not None:
        return
    dummy: Any = torch.nn.Linear(1, 1)  # some optimizers only ask whether there is a model
    with _about("optim", _name(args.optim)):
        kind, settings = Seq2SeqTrainer.get_optimizer_cls_and_kwargs(args, dummy)
        if {"model", "params", "optimizer_dict"} & set(settings):  # it takes the model's own weights
            return
        settings = {**settings, "lr": args.learning_rate or 1.0}  # the paper's learning rate depends on the model
        optimizer = kind(dummy.parameters(), **settings)
    with _about("lr_scheduler_type", _name(args.lr_scheduler_type)):
        warmup = int(args.get_warmup_steps(1000))
        get_scheduler(
            args.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=warmup,
            num_training_steps=warmup + 1000,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )


def _check_compilation(args: Any) -> None:
    if not args.torch_compile:
        return
    backends = torch.compiler.list_backends()
    if args.torch_compile_backend not in torch.compiler.list_backends(exclude_tags=()):
        raise ValueError(
            f"`torch_compile_backend` must be one of {', '.join(backends)}, got {args.torch_compile_backend}"
            f"{did_you_mean(args.torch_compile_backend, backends)}."
        )
    if args.torch_compile_mode is not None:
        with _about("torch_compile_mode", args.torch_compile_mode):
            torch.compile(torch.nn.Identity(), backend=args.torch_compile_backend, mode=args.torch_compile_mode)


def _name(value: Any) -> str:
    return str(getattr(value, "value", value))


@contextmanager
def _about(setting: str, value: Any) -> Iterator[None]:
    """Name the setting in a library's error."""
    try:
        yield
    except ImportError:  # names the package
        raise
    except (ValueError, TypeError, KeyError, OSError, RuntimeError, HFValidationError) as error:
        text = re.sub(r"\s+", " ", str(error)).strip().rstrip(".")
        raise ValueError(f"`{setting}` {value} cannot be used: {text}.") from error


def require_words_to_fit(pairs: Iterable[tuple[str, str]], max_tokens: int, data: DataArguments) -> None:
    """Refuse a pair that no tokenizer of ours makes fit into a batch, since no token spans two words.

    Args:
        pairs: sources with their targets.
        max_tokens: maximum tokens per batch on each side.
        data: which pairs are dropped anyway.

    Raises:
        ValueError: a sentence has more words than a batch has tokens; the message gives its minimum of tokens.
    """
    if 0 < (data.max_length or 0) <= max_tokens or data.max_length_ratio is not None:  # a ratio is one of tokens
        return
    for source, target in pairs:
        least = max(len(side.split()) for side in (source, target)) + 1  # the end of the sentence
        too_long = data.max_length and least > data.max_length
        empty = data.drop_empty and not (source.strip() and target.strip())
        if max_tokens < least and not (too_long or empty or (data.drop_identical and source == target)):
            raise ValueError(
                f"A sentence must fit the budget of a batch, but `max_tokens` is {max_tokens:,} and a sentence of "
                f"{least - 1:,} words has at least {least:,} tokens. Raise `max_tokens`, or drop longer sentences "
                "with `max_length`."
            )
