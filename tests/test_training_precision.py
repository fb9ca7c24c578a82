"""Which precision a run computes in: what was asked for, what the launcher was told, or what is faster here."""

from pathlib import Path

import pytest
import torch

from hf_vanilla_transformer.training import precision, trainer_arguments
from hf_vanilla_transformer.training.precision import bf16_speed_of_processor, computes_bf16_fast
from hf_vanilla_transformer.training.recipes import parse_settings
from hf_vanilla_transformer.training.trainer_arguments import TranslationTrainingArguments


@pytest.fixture(autouse=True)
def _measure_anew(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    bf16_speed_of_processor.cache_clear()
    yield
    bf16_speed_of_processor.cache_clear()


@pytest.mark.parametrize(("bf16_milliseconds", "fast"), [(0.5, True), (0.9, False), (2.0, False)])
def test_a_processor_with_the_instruction_is_measured(
    bf16_milliseconds: float, fast: bool, monkeypatch: pytest.MonkeyPatch
):
    """The best of each type counts: other work on the machine only adds to the rest."""
    spent = {torch.float32: iter([9.0, 5.0] + [1.0] * 200), torch.bfloat16: iter([9.0] + [bf16_milliseconds] * 200)}
    monkeypatch.setattr(precision, "seconds_of_product", lambda dtype: next(spent[dtype]))
    monkeypatch.setattr(precision, "processor_has_bf16", lambda: True)
    threads = torch.get_num_threads()
    assert computes_bf16_fast(use_cpu=True) is fast
    assert torch.get_num_threads() == threads


def test_a_processor_without_the_instruction_is_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(precision, "seconds_of_product", None)
    monkeypatch.setattr(precision, "processor_has_bf16", lambda: False)
    assert computes_bf16_fast(use_cpu=True) is False


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_takes_time(dtype: torch.dtype):
    assert precision.seconds_of_product(dtype) > 0


@pytest.mark.parametrize(
    ("told", "deepspeed", "expected"),
    [
        ("bf16", False, (True, False)),
        ("fp16", False, (False, True)),
        ("no", False, (True, False)),  # left open, and measured to be fast
        ("no", True, (False, False)),
    ],
)
def test_the_launchers_word_counts(
    told: str, deepspeed: bool, expected: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(trainer_arguments, "computes_bf16_fast", lambda use_cpu: True)
    monkeypatch.setattr(trainer_arguments.Seq2SeqTrainingArguments, "__post_init__", lambda self: None)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", told)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", str(deepspeed).lower())
    args = TranslationTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    assert (args.bf16, args.fp16) == expected


@pytest.mark.parametrize(("fast", "settled"), [(True, "bf16"), (False, "fp32")])
def test_a_run_records_what_was_settled(fast: bool, settled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A resumed run reads its own settings, and must not choose again."""
    monkeypatch.setattr(trainer_arguments, "computes_bf16_fast", lambda use_cpu: fast)
    settings = parse_settings("builtin-fr-en", ["--output_dir", str(tmp_path), "--use_cpu", "true"])
    assert settings.training.bf16 is fast
    assert settings.as_recipe()["training"]["precision"] == settled
