"""Log-probabilities of given translations against the model's loss, and against decoding."""

from pathlib import Path

import pytest
import torch

from hf_vanilla_transformer.translation import Translator, target_log_probabilities

SOURCES = ["merci", "le petit chat dort", "", "la petite maison est vieille"]
TARGETS = ["thanks", "the little cat sleeps", "the", ""]


@pytest.fixture(scope="module")
def translator(tiny_model_folder: Path) -> Translator:
    return Translator.from_pretrained(tiny_model_folder, device="cpu")


@pytest.mark.parametrize("batch_tokens", [1, 15, 2048])
def test_the_mean_is_the_negative_loss_of_the_pair_alone(translator, batch_tokens):
    """In any batch, and in the order of the pairs."""
    scores = target_log_probabilities(translator.model, translator.tokenizer, SOURCES, TARGETS, batch_tokens)
    for source, target, score in zip(SOURCES, TARGETS, scores, strict=True):
        encoded = translator.tokenizer([source], text_target=[target], return_tensors="pt")
        with torch.no_grad():
            loss = translator.model(input_ids=encoded["input_ids"], labels=encoded["labels"]).loss
        assert score.tokens == encoded["labels"].numel()
        assert score.mean == pytest.approx(-loss.item(), abs=1e-5)
        assert score.log_probability == pytest.approx(score.mean * score.tokens)


def test_probabilities_of_all_next_tokens_sum_to_one(translator):
    """P(end | source) is the probability of the empty translation, and the softmax says the same."""
    score = target_log_probabilities(translator.model, translator.tokenizer, ["merci"], [""])[0]
    encoded = translator.tokenizer(["merci"], return_tensors="pt")
    with torch.no_grad():
        start = torch.tensor([[translator.model.config.decoder_start_token_id]])
        logits = translator.model(input_ids=encoded["input_ids"], decoder_input_ids=start).logits[0, 0]
    assert score.tokens == 1
    assert score.log_probability == pytest.approx(float(logits.log_softmax(-1)[2]), abs=1e-5)


def test_progress_and_nothing_to_do(translator):
    done: list[int] = []
    target_log_probabilities(translator.model, translator.tokenizer, SOURCES, TARGETS, 15, progress=done.append)
    assert sum(done) == len(SOURCES)
    assert target_log_probabilities(translator.model, translator.tokenizer, [], []) == []


@pytest.mark.parametrize(
    ("sources", "targets", "options", "error", "message"),
    [
        (["a"], ["b", "c"], {}, ValueError, r"1 sources and 2 targets"),
        (["a", 3], ["b", "c"], {}, TypeError, r"sources\[1\] is 3"),
        (["a"], [None], {}, TypeError, r"targets\[0\] is None"),
        (["a", "b"], ["b", "\udfff"], {"first_line": 11}, ValueError, r"line 12 of the target holds half"),
        (["a"], ["b"], {"batch_tokens": 0}, ValueError, r"batch_tokens .* got 0"),
    ],
)
def test_wrong_pairs_are_refused(translator, sources, targets, options, error, message):
    with pytest.raises(error, match=message):
        target_log_probabilities(translator.model, translator.tokenizer, sources, targets, **options)
