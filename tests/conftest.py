"""What every test shares: no network, no cache of the user's touched, few threads, and one tiny random model."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# before anything imports torch, transformers or datasets, and for the processes that tests start
_CACHE = tempfile.mkdtemp(prefix="hf-cache-of-tests-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ.update(HF_HOME=_CACHE, HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
for variable in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE"):
    os.environ.pop(variable, None)
os.environ.setdefault("OMP_NUM_THREADS", "2")

import pytest  # noqa: E402

SENTENCES = (
    *("merci", "je suis étudiant", "le petit chat dort", "la petite maison est vieille", "nous ne parlons pas"),
    *("thanks", "i am a student", "the little cat sleeps", "the little house is old", "we do not speak"),
    *("où est la gare ?", "elle a vu les grands arbres", "where is the station ?", "she saw the tall trees"),
)


@pytest.fixture(scope="session")
def sentences() -> tuple[str, ...]:
    """What the tiny tokenizer was learned from."""
    return SENTENCES


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model folder: random weights, a tokenizer learned on `SENTENCES`, the paper's decoding. Read only."""
    import torch
    from transformers import GenerationConfig

    from hf_vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration
    from hf_vanilla_transformer.tokenization import train_tokenizer

    folder = tmp_path_factory.mktemp("tiny") / "model"
    tokenizer = train_tokenizer(SENTENCES * 2, vocab_size=300)
    torch.manual_seed(0)
    config = VanillaTransformerConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        tie_word_embeddings=False,
        logits_bias=True,
    )
    model = VanillaTransformerForConditionalGeneration(config)
    with torch.no_grad():  # far enough from a fresh model's near-uniform guesses that no rounding decides a beam
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
        model.lm_head.weight.normal_()
        model.final_logits_bias[:, config.eos_token_id] = 9.0  # some translations end before their limit
    model.generation_config = GenerationConfig(
        num_beams=4,
        max_extra_tokens=8,
        pad_token_id=config.pad_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
