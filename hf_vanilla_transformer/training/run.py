"""A training run, from settings to a run folder: data, tokenizer, model, trainer, in this order."""

import logging
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from datasets.config import HF_DATASETS_CACHE
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed

from ..data.encoding import encode_corpus
from ..hub_access import require_copy_or_hub
from ..model.call_settings import PAPER_DECODING
from ..model.configuration_vanilla_transformer import VanillaTransformerConfig
from ..model.disk_space import writing_to
from ..model.generation import lasting_generation_config
from ..model.memory import in_gb, keep_freed_memory, memory_of
from ..model.modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration
from ..tokenization import load_tokenizer, train_tokenizer
from ..translation.loading import load_model
from .arguments import CHANGEABLE
from .checkpoints import (
    SETTINGS_NAME,
    clear_strays,
    newest_complete_checkpoint,
    nothing_to_resume,
    read_epochs,
    read_state,
    require_new_folder,
    what_is_wrong,
)
from .corpora import (
    TrainingText,
    encode_training_text,
    read_training_text,
    read_validation_text,
    sentences_for_tokenizer,
)
from .curves import FIRST_LINE, NothingToDrawError, draw_training_curves
from .early_checks import check_settings, require_words_to_fit
from .ending import was_ended
from .recipes import Settings
from .run_lock import locked_run
from .trainer import VanillaTransformerTrainer

logger = logging.getLogger(__name__)


def run_training(settings: Settings, resume: bool = False) -> Path:
    """Train as the settings say and leave the final model in the run's folder.

    Args:
        settings: from `recipes.parse_settings`.
        resume: continue from the newest complete checkpoint.

    Returns:
        The run's folder: model, tokenizer and generation config at its top, `checkpoint-N` folders, `metrics.jsonl`,
        `run.yaml`.

    Raises:
        ValueError: the folder holds another run or nothing to resume, settings and data do not fit together, or
            another process is training in the folder (`RunInUseError`).
        FileNotFoundError: a file of the corpus does not exist.
    """
    args = settings.training
    if not args.output_dir:
        raise ValueError("A run needs a folder to write to: give `--output_dir`.")
    check_settings(settings)
    if settings.model.init_from is None:
        _require_room(_make_config(_given(settings.model), vocab_size=settings.tokenizer.vocab_size))
    given = settings.model.init_from or settings.tokenizer.tokenizer
    if given and not resume:
        require_copy_or_hub(given)
    run = Path(args.output_dir)
    with ExitStack() as held:
        with args.main_process_first(local=False, desc="locking the run's folder"):
            if args.process_index == 0:
                held.enter_context(locked_run(run))
            if args.should_save:
                _make_ready(run, resume)
        _train(settings, run, resume)
    return run


def _make_ready(run: Path, resume: bool) -> None:
    """Refuse a folder with other contents, and finish or delete what a killed process left behind."""
    clear_strays(run)
    if not resume:
        require_new_folder(run)


def _train(settings: Settings, run: Path, resume: bool) -> None:
    args = settings.training
    checkpoint = _checkpoint_to_resume(run, args) if resume else None
    if resume and checkpoint is None:
        logger.info(f"The run in {run} is finished; there is nothing to resume.")
        return
    trainer = _prepare(settings, run, resume)
    logger.info(f"Training in {args.precision} on {args.device}.")
    if args.device.type == "cpu":
        keep_freed_memory()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model()
    if args.should_save:
        _draw_curves(run)


def _draw_curves(run: Path) -> None:
    """Draw the training curves; a failure, such as no log line yet, does not fail the run."""
    try:
        with writing_to(run):
            draw_training_curves(run)
    except (NothingToDrawError, FileNotFoundError):
        logger.info(f"No curves are drawn: the run ended before {FIRST_LINE}.")
    except (ValueError, OSError) as error:
        logger.warning(f"The run is finished, but its curves could not be drawn: {error}")


def _checkpoint_to_resume(run: Path, args: Any) -> Path | None:
    """The newest complete checkpoint, or None if the run is finished."""
    if _is_finished(run, args):
        return None
    checkpoint = newest_complete_checkpoint(run)
    if checkpoint is None:
        raise nothing_to_resume(run)
    return checkpoint


def _is_finished(run: Path, args: Any) -> bool:
    """Whether the final model exists and was trained for at least as long as the settings ask."""
    state = read_state(run) if what_is_wrong(run) is None else None
    if state is None:
        return False
    if was_ended(run) and not args.resume_changed:
        return True
    if args.max_steps > 0:
        return state["global_step"] >= max(state["max_steps"], args.max_steps)
    return state["global_step"] >= state["max_steps"] and args.num_train_epochs <= read_epochs(run, state)


def _prepare(settings: Settings, run: Path, resume: bool) -> VanillaTransformerTrainer:
    args = settings.training
    record = _SettingsRecord(settings, run)
    set_seed(args.seed)
    with args.main_process_first(local=False, desc="learning the tokenizer"):  # all machines share the run's folder
        with writing_to(HF_DATASETS_CACHE):
            text, validation = read_training_text(settings), read_validation_text(settings)
        with writing_to(run):
            if not resume:
                record.write()  # first of all, so that a folder with any content is recognized as a run
            tokenizer = _prepare_tokenizer(settings, text, run, resume)
    model = _prepare_model(settings, tokenizer)  # before the text is encoded: settings may contradict it
    # each machine has its own cache
    with args.main_process_first(desc="encoding the text"), writing_to(HF_DATASETS_CACHE):
        train, report = encode_training_text(text, tokenizer, settings)
        if validation is not None:
            validation = encode_corpus(validation, tokenizer)
    trainer = VanillaTransformerTrainer(
        model, args, train_dataset=train, eval_dataset=validation, processing_class=tokenizer
    )
    trainer.record.report = report
    trainer.add_callback(record)
    return trainer


class _SettingsRecord(TrainerCallback):
    """Writes `run.yaml`; for a resumed run only when training starts, because it may be refused until then."""

    def __init__(self, settings: Settings, run: Path) -> None:
        self.settings, self.run = settings, run

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.write()

    def write(self) -> None:
        if self.settings.training.should_save:
            self.run.mkdir(parents=True, exist_ok=True)
            beside = self.run / f".{SETTINGS_NAME}.tmp"
            beside.write_text(yaml.safe_dump(self.settings.as_recipe(), allow_unicode=True), encoding="utf-8")
            os.replace(beside, self.run / SETTINGS_NAME)


def _prepare_tokenizer(settings: Settings, text: TrainingText, run: Path, resume: bool) -> PreTrainedTokenizerBase:
    """The run's own tokenizer when resuming, else the given one, else a newly learned one; saved in the run folder.

    Raises:
        FileNotFoundError: this process does not see the folder that the main process created.
    """
    wanted = settings.tokenizer
    given = settings.model.init_from or wanted.tokenizer
    is_ready = resume or not settings.training.should_save  # other processes come after the main one
    if is_ready and not run.is_dir():
        raise FileNotFoundError(
            f"All machines of a run share its folder, but process {settings.training.process_index} does not find "
            f"{run.absolute()}. Give an `--output_dir` on storage that every machine has under that path."
        )
    if is_ready:
        tokenizer = load_tokenizer(run)
        if resume and not given and len(tokenizer) != wanted.vocab_size:
            raise ValueError(
                f"A resumed run keeps its tokenizer, which has {len(tokenizer):,} tokens, but `vocab_size` is "
                f"{wanted.vocab_size:,}. Leave it as it was, or start another run."
            )
        return tokenizer
    if given:
        tokenizer = load_tokenizer(given)
    else:
        if isinstance(text, Dataset):  # a stream's sizes are checked with the settings
            pairs = ((row["source"], row["target"]) for row in text)
            require_words_to_fit(pairs, settings.training.max_tokens, settings.data)
        tokenizer = train_tokenizer(sentences_for_tokenizer(text), wanted.vocab_size, wanted.tokenizer_algorithm)
    tokenizer.save_pretrained(run)
    return tokenizer


def _prepare_model(settings: Settings, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    given, decoding = _given(settings.model), _given(settings.decoding)
    init_from = given.pop("init_from", None)
    if init_from is not None:
        model = _saved_model(init_from, given, tokenizer)
        _set_decoding(model, decoding)
        return model
    config = _new_config(given, tokenizer)
    _require_room(config)
    model = VanillaTransformerForConditionalGeneration(config)
    _set_decoding(model, {**PAPER_DECODING, **decoding})
    return model


def _given(group: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(group).items() if value is not None}


def _new_config(given: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> VanillaTransformerConfig:
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.pad_token_id
    return _make_config(
        given,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=start,
    )


def _make_config(given: dict[str, Any], **of_the_tokenizer: Any) -> VanillaTransformerConfig:
    try:
        return VanillaTransformerConfig(**of_the_tokenizer, **given)
    except StrictDataclassError as error:  # its cause has the message
        raise ValueError(str(error.__cause__ or error)) from error


def _require_room(config: VanillaTransformerConfig) -> None:
    """Refuse a model whose weights alone, in 32 bits, exceed the machine's memory.

    Raises:
        ValueError: the weights do not fit.
    """
    needed, memory = 4 * config.weight_count, memory_of(torch.device("cpu"))
    if memory is not None and needed > memory:
        raise ValueError(
            f"The model would have {config.weight_count:,} weights, which are {in_gb(needed)}, but this machine has "
            f"{in_gb(memory)} of memory. Use fewer or smaller layers."
        )


def _set_decoding(model: PreTrainedModel, decoding: dict[str, Any]) -> None:
    if decoding.get("length_penalty") is not None:  # one kind of penalty replaces the other
        decoding = {**decoding, "gnmt_length_penalty": None}
    model.generation_config = lasting_generation_config(model.generation_config)
    for name, value in decoding.items():
        setattr(model.generation_config, name, value)


def _saved_model(name: str, given: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The model to fine-tune.

    Raises:
        ValueError: settings contradict its shape, or its vocabulary does not fit the tokenizer.
    """
    model = load_model(name)
    for field, value in given.items():
        if field in CHANGEABLE:
            setattr(model.config, field, value)
            model.config.validate_architecture()
        elif getattr(model.config, field, None) != value:
            raise ValueError(
                f"The model {name} has {field} {getattr(model.config, field, None)}, which cannot become {value}. "
                f"Leave {field} out, or train from scratch."
            )
    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"The tokenizer has {len(tokenizer):,} tokens but the model {name} only {model.config.vocab_size:,}. Use "
            "the tokenizer that the model was trained with."
        )
    return model
