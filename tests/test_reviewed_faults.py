"""What a review found after the tables: each a kind that a table of changes had missed."""

import pytest
import torch
from stock_search import by_transformers
from tiny import EOS, lively_model, pad_batch, sentences, until_end
from torch import nn
from transformers import EosTokenCriteria, GenerationConfig

from hf_vanilla_transformer import Translator
from hf_vanilla_transformer.model import modeling_vanilla_transformer as modeling
from hf_vanilla_transformer.model.snapshot import Snapshot
from hf_vanilla_transformer.tokenization import load_tokenizer

IDS, MASK = pad_batch(sentences([6, 16, 9, 12, 7, 10, 5, 4]))


def decode(model, **settings):
    given = {"attention_mask": MASK, "max_new_tokens": 8, "return_dict_in_generate": True, **settings}
    return model.generate(IDS, **given)


def require_right(model, fast=None, **settings):
    """The same as `transformers`' own search gives, greedily and in beams; and whether it was decoded fast."""
    for beams in (1, 4):
        found = decode(model, num_beams=beams, **settings)
        given = {"inputs": IDS, "attention_mask": MASK, "max_new_tokens": 8, "num_beams": beams, **settings}
        assert until_end(found.sequences) == until_end(by_transformers(model, **given))
        assert fast is None or (found.search_path == "fast") is fast


@pytest.mark.parametrize(
    ("of", "name"),
    [
        (modeling.EncoderLayer, "feed_forward"),
        (modeling.DecoderLayer, "add_and_norm"),
        (modeling.VanillaTransformerDecoder, "embed"),
        (modeling.MultiHeadAttention, "__call__"),
        (nn.Linear, "__call__"),
        (modeling.VanillaTransformerForConditionalGeneration, "get_encoder"),
    ],
)
def test_a_method_added_to_a_class_whose_base_has_it_is_seen(of, name, monkeypatch):
    inherited = getattr(of, name)
    monkeypatch.setattr(of, name, lambda self, *given, **named: inherited(self, *given, **named), raising=False)
    assert decode(lively_model()).search_path == f"another `{name}` than this package's own"


def test_a_replaced_dropout_is_followed(monkeypatch):
    monkeypatch.setattr(nn.functional, "dropout", lambda x, p=0.5, training=True, inplace=False: x * 0.5)
    require_right(lively_model(), fast=False)


def test_a_buffer_hidden_behind_an_attribute_is_followed():
    model = lively_model()
    vars(model)["final_logits_bias"] = model.final_logits_bias + torch.arange(model.config.vocab_size) * 0.5
    require_right(model, fast=False)


def test_a_snapshot_is_not_taken_in_a_type_it_does_not_compute_in():
    model = lively_model()
    with torch.autocast("cpu", torch.float16):
        assert Snapshot.of(model) is None
    with torch.autocast("cpu", torch.bfloat16):
        taken = Snapshot.of(model)
    assert taken is not None
    assert taken.precision == "bf16"


def test_a_module_hidden_behind_an_attribute_is_followed():
    model = lively_model()
    layer = model.model.decoder.layers[0]
    fc1 = layer.fc1
    vars(layer)["fc1"] = lambda x: fc1(x) * 2
    require_right(model, fast=False)


@pytest.mark.parametrize("bias", [torch.linspace(-2, 2, 96)[::2], torch.full((1,), 2.0).expand(48)])
def test_biases_in_any_layout_are_added_as_they_are(bias):
    model = lively_model()
    model.model.decoder.layers[0].fc1.bias = nn.Parameter(bias, requires_grad=False)
    require_right(model, fast=True)


def narrow_keys(model):
    attention = model.model.decoder.layers[0].self_attn
    attention.k_proj, attention.v_proj = nn.Linear(32, 16).eval(), nn.Linear(32, 16).eval()


def one_number_as_bias(model):
    model.model.decoder.layers[0].fc1.bias = nn.Parameter(torch.ones(1))


def flat_logits_bias(model):
    model.final_logits_bias = torch.linspace(-1, 1, 40)


def one_output(model):
    model.model.encoder.layers[0].fc2 = nn.Linear(64, 1).eval()


@pytest.mark.parametrize("change", [narrow_keys, one_number_as_bias, flat_logits_bias, one_output])
def test_what_forward_broadcasts_is_left_to_it(change):
    model = lively_model()
    change(model)
    require_right(model, fast=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"suppress_tokens": [-24, 7]},
        {"suppress_tokens": [99]},
        {"begin_suppress_tokens": [99]},
        {"eos_token_id": [EOS, 99], "min_new_tokens": 3},
        {"eos_token_id": [EOS, -29], "min_new_tokens": 6},
    ],
)
def test_ids_outside_the_vocabulary_forbid_nothing(settings):
    require_right(lively_model(), fast=True, **settings)


def test_a_criterion_with_another_call_is_called(monkeypatch):
    never = lambda self, ids, scores, **given: torch.zeros(len(ids), dtype=torch.bool)  # noqa: E731
    monkeypatch.setattr(EosTokenCriteria, "__call__", never)
    model = lively_model()
    assert (
        decode(model, stopping_criteria=[EosTokenCriteria(5)]).search_path == "the stopping criterion EosTokenCriteria"
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_type_of_new_tensors_changes_nothing(dtype):
    model = lively_model()
    expected = [decode(model, num_beams=beams) for beams in (1, 3)]
    torch.set_default_dtype(dtype)
    try:
        found = [decode(model, num_beams=beams) for beams in (1, 3)]
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.sequences, other.sequences)
        assert torch.equal(one.token_log_probabilities, other.token_log_probabilities)


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ([[5], [6]], "must be a tensor of token ids"),
        (torch.tensor([5] * 8), r"got torch.int64 of shape \(8,\)"),
        (torch.full((8, 1), 9.5), "must be a tensor of token ids"),
        (torch.ones(8, 1, dtype=torch.bool), "must be a tensor of token ids"),
        (torch.full((8, 1), -5), "must hold token ids, or -100 where free; got -5"),
        (torch.full((8, 1), 99), r"must hold tokens of the target vocabulary \(40\), got 99"),
    ],
)
def test_a_prefix_of_another_kind_is_refused(prefix, message):
    with pytest.raises(ValueError, match=message):
        decode(lively_model(), target_prefix=prefix)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_prefix_that_another_setting_forbids_is_an_error(num_beams):
    with pytest.raises(ValueError, match="requires a token that other settings of this call forbid"):
        decode(lively_model(), num_beams=num_beams, target_prefix=torch.full((8, 1), 9), suppress_tokens=[9])


def test_a_prefix_in_a_config_is_read():
    config = GenerationConfig(num_beams=2, max_new_tokens=5)
    config.target_prefix = torch.full((8, 1), 9)
    assert lively_model().generate(IDS, attention_mask=MASK, generation_config=config)[:, 1].tolist() == [9] * 8


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"inputs": [[5, 6, 2]]}, TypeError, "Token ids must be a tensor, .* got a list"),
        ({"inputs": IDS[:0]}, ValueError, "needs at least one sentence, got an empty batch"),
        ({"generation_config": {"num_beams": 2}}, TypeError, "must be a GenerationConfig, got a dict"),
        ({"max_extra_tokens": 1.5}, ValueError, "`max_extra_tokens` must be a whole number of at least 0, got 1.5"),
        ({"gnmt_length_penalty": 1e6}, ValueError, "must be between -10 and 10"),
    ],
)
def test_bad_input_is_one_clear_sentence(given, error, message):
    with pytest.raises(error, match=message):
        lively_model().generate(**{"inputs": IDS, **given})


@pytest.mark.parametrize(
    "settings",
    [{"target_prefix": torch.tensor([[5]])}, {"decoder_input_ids": IDS[:, :1]}, {"decoder_start_token_id": [1, 2]}],
)
def test_what_knows_sentences_by_their_place_is_refused_where_they_are_sorted(tiny_model_folder, settings):
    tokenizer = load_tokenizer(tiny_model_folder)
    translator = Translator(lively_model(vocab_size=len(tokenizer)), tokenizer)
    with pytest.raises(TypeError, match="would reach the wrong ones"):
        translator.translate(["merci", "la petite maison"], **settings)


def test_a_precision_that_was_asked_for_is_not_dropped_in_silence(tiny_model_folder):
    tokenizer = load_tokenizer(tiny_model_folder)
    translator = Translator(lively_model(vocab_size=len(tokenizer)), tokenizer, precision="int8")
    with pytest.raises(ValueError, match="int8 needs our own search, which does not support decoding without a cache"):
        translator.translate(["merci"], use_cache=False)
