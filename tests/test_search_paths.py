"""Which search a call runs on, what our own keeps in memory, and the precisions it computes in."""

import gc
import logging
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import pytest
import torch
from memory import Memory, living_tensors
from stock_search import by_transformers
from tiny import beams_over_the_target_vocabulary, lively_model, pad_batch, sentences, until_end
from transformers import DynamicCache, EncoderDecoderCache, LogitsProcessor, StoppingCriteria, TextStreamer

from hf_vanilla_transformer.model import fast_path, next_tokens, packed_layers, packed_products, step_decoder
from hf_vanilla_transformer.model.next_tokens import NextTokens, chunk_maxima, likeliest
from hf_vanilla_transformer.model.packed_layers import PackedModel
from hf_vanilla_transformer.model.packed_products import Weights
from hf_vanilla_transformer.model.search_settings import who_stays
from hf_vanilla_transformer.model.step_decoder import LANES, StepDecoder, full_lanes
from hf_vanilla_transformer.translation.precision import PRECISIONS, take_snapshot

IDS, MASK = pad_batch(sentences([4, 9, 12, 2, 7, 5]))


class Never(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return torch.zeros(len(input_ids), dtype=torch.bool)


class OfOnesOwn(LogitsProcessor):
    def __call__(self, input_ids, scores):
        return scores


class Tokens:
    """A tokenizer as far as a streamer needs one."""

    def decode(self, ids, **_):
        return " ".join(map(str, ids))


OBSTACLES = {
    "sampling": {"do_sample": True, "num_beams": 2},
    "output of attentions": {"output_attentions": True, "return_dict_in_generate": True},
    "output of hidden_states": {"output_hidden_states": True, "return_dict_in_generate": True},
    "output of logits": {"output_logits": True, "return_dict_in_generate": True},
    "decoding without a cache": {"use_cache": False},
    "a cache of kind static": {"cache_implementation": "static"},
    "the stopping criterion Never": {"stopping_criteria": [Never()]},
    "a streamer": {"streamer": TextStreamer(Tokens()), "num_beams": 1, "inputs": IDS[:1], "attention_mask": MASK[:1]},
    "scores of all tokens in greedy decoding": {
        "num_beams": 1,
        "output_scores": True,
        "return_dict_in_generate": True,
    },
    "the inputs decoder_attention_mask": {"decoder_attention_mask": torch.ones(6, 1, dtype=torch.long)},
}


@pytest.mark.parametrize(("obstacle", "settings"), OBSTACLES.items(), ids=OBSTACLES)
def test_what_our_search_does_not_support_is_left_to_transformers_with_one_line(obstacle, settings, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(fast_path.logger, "warning_once", said.append)
    model = lively_model()
    torch.manual_seed(0)
    given = {"inputs": IDS, "attention_mask": MASK, "num_beams": 3, "max_new_tokens": 6, **settings}
    output = model.generate(**{**given, "return_dict_in_generate": True})
    assert output.search_path == obstacle
    assert said == [f"{obstacle[0].upper()}{obstacle[1:]}: decoded by transformers' own search, which is slower."]


def path_of(model, **settings):
    """How a call of `generate` is decoded."""
    given = {"inputs": IDS, "attention_mask": MASK, "num_beams": 2, "max_new_tokens": 3, **settings}
    return model.generate(**given, return_dict_in_generate=True).search_path


def test_a_model_in_training_or_with_foreign_layers_is_left_to_transformers():
    model = lively_model()
    model.train()
    assert path_of(model) == "training mode"
    model.eval()

    class Adapted(torch.nn.Linear):
        pass

    model.model.decoder.layers[0].fc1.__class__ = Adapted
    assert path_of(model) == f"a {__name__}.Adapted as model.decoder.layers.0.fc1"


def test_a_hook_still_sees_what_it_hooks():
    model, seen = lively_model(), []
    model.model.decoder.layers[0].register_forward_hook(lambda *_: seen.append(1))
    model.generate(IDS, attention_mask=MASK, num_beams=2, max_new_tokens=3)
    assert len(seen) == 3


def test_a_loop_of_the_callers_own_gets_one_row_a_beam():
    model, rows = lively_model(), []

    def loop(model, input_ids, **kwargs):
        rows.append((len(input_ids), len(kwargs["encoder_outputs"][0])))
        return input_ids

    model.generate(IDS, attention_mask=MASK, num_beams=3, max_new_tokens=3, custom_generate=loop)
    assert rows == [(18, 18)]


def test_a_cache_that_is_given_is_used_and_filled():
    model = lively_model()
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    start = torch.full((6, 1), model.config.decoder_start_token_id)
    model(input_ids=IDS, attention_mask=MASK, decoder_input_ids=start, past_key_values=cache, use_cache=True)
    begun = {"decoder_input_ids": torch.cat((start, start + 5), dim=1), "past_key_values": cache}
    assert path_of(model, num_beams=1, **begun) == "a cache that is given"
    assert cache.get_seq_length() > 1


@pytest.mark.parametrize("num_beams", [1, 3])
def test_no_copy_of_a_weight_outlives_a_call(num_beams):
    """Nothing is left that a later call could find stale: neither on the model nor anywhere else."""
    model, other = lively_model(), lively_model()
    other.generate(
        IDS, attention_mask=MASK, num_beams=num_beams, max_new_tokens=12
    )  # what is made once for all models
    gc.collect()
    gc.disable()
    try:
        before = living_tensors()
        model.generate(IDS, attention_mask=MASK, num_beams=num_beams, max_new_tokens=12)
        assert living_tensors() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("in_training_mode", [True, False])
def test_an_optimizers_steps_are_seen(fused, in_training_mode):
    """Fused optimizers do not count as changes of a tensor: stale weights would translate by half of the old model."""
    model = lively_model()
    settings = {"num_beams": 3, "max_new_tokens": 12}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, fused=fused)
    for _ in range(2):
        model.generate(IDS, attention_mask=MASK, **settings)
        model.train(in_training_mode)
        model(input_ids=IDS, attention_mask=MASK, labels=IDS.masked_fill(MASK == 0, -100)).loss.backward()
        optimizer.step()
        model.eval()
        ours = model.generate(IDS, attention_mask=MASK, **settings)
        assert path_of(model) == "fast"
        assert ours.tolist() == by_transformers(model, inputs=IDS, attention_mask=MASK, **settings).tolist()


def test_changes_through_data_are_seen():
    model = lively_model()
    settings = {"num_beams": 3, "max_new_tokens": 12}
    model.generate(IDS, attention_mask=MASK, **settings)
    for parameter in model.parameters():
        parameter.data.mul_(1.2)
    ours = model.generate(IDS, attention_mask=MASK, **settings)
    assert ours.tolist() == by_transformers(model, inputs=IDS, attention_mask=MASK, **settings).tolist()


@pytest.mark.parametrize("num_beams", [1, 3])
def test_under_autocast_a_model_decodes_as_under_transformers_search(num_beams):
    """`Seq2SeqTrainer` validates under autocast."""
    model = lively_model()
    settings = {"inputs": IDS, "attention_mask": MASK, "num_beams": num_beams, "max_new_tokens": 12}
    with torch.autocast("cpu", torch.bfloat16):
        ours = model.generate(**settings)
        assert path_of(model) == "fast"
        theirs = by_transformers(model, **settings)
    same = sum(one == other for one, other in zip(until_end(ours), until_end(theirs), strict=True))
    assert same >= 3  # both round to bfloat16, each in its own places


@dataclass
class Taken:
    """Bytes: the most held at once, held at the end, and made anew by each step."""

    peak: int
    held: int
    made: list[int]


@torch.inference_mode()
def memory_of_sixty_steps(beams: int, source_len: int = 12) -> Taken:
    """Of six sentences, each beam going on from a random one."""
    torch.manual_seed(0)
    ids, mask = pad_batch(sentences([source_len] * 6))
    packed = PackedModel(lively_model(), Weights())
    states = packed.encode(ids, mask)
    with Memory() as memory:
        decoder = StepDecoder(packed, states, mask, beams)
        decoder.read_prompt(torch.ones(6, 1, dtype=torch.long))
        made = [memory.made]
        for _ in range(60):
            decoder.step(torch.randint(3, 40, (6, beams)))
            decoder.select(torch.randint(0, beams, (6, beams)))
            made.append(memory.made)
        return Taken(memory.peak, memory.held, [after - before for before, after in pairwise(made)])


def test_all_beams_share_the_memory_of_the_source():
    def growth(beams: int) -> int:
        return memory_of_sixty_steps(beams, source_len=60).peak - memory_of_sixty_steps(beams, source_len=10).peak

    assert growth(6) == pytest.approx(growth(2), rel=0.1)


def test_a_step_copies_nothing_of_the_past():
    """It makes as much at the fiftieth token as at the tenth, but for a mask."""
    taken = memory_of_sixty_steps(beams=4)
    assert median(taken.made[-20:]) - median(taken.made[:20]) < 0.1 * taken.held


def test_beams_share_the_memory_of_what_they_have_in_common():
    """A slot that no beam descends from is written anew: without that, four beams take four times as much as one."""
    assert memory_of_sixty_steps(beams=4).held < 2 * memory_of_sixty_steps(beams=1).held


def test_finished_sentences_leave_the_batch(monkeypatch):
    batches = []
    step = StepDecoder.step

    def watched(self, tokens):
        batches.append(len(tokens))
        return step(self, tokens)

    monkeypatch.setattr(StepDecoder, "step", watched)
    model = lively_model()
    translations = until_end(model.generate(IDS, attention_mask=MASK, num_beams=4, max_new_tokens=40))
    assert batches[0] == 6
    assert batches[-1] < 6
    assert len({len(row) for row in translations}) > 2


def test_a_call_for_attention_weights_slows_no_later_one():
    """`transformers` leaves hooks on the layers, which do nothing by themselves."""
    model = lively_model()
    model(input_ids=IDS, attention_mask=MASK, output_attentions=True, output_hidden_states=True)
    assert any(module._forward_hooks for module in model.modules())
    assert path_of(model) == "fast"


def test_rows_that_are_done_leave_and_the_last_take_their_places():
    torch.manual_seed(0)
    sizes: set[int] = set()
    for batch in range(1, 256):
        for share in (0.1, 0.5, 0.9):
            done = torch.rand(batch) < share
            stay = who_stays(done, int((~done).sum()))
            living = set((~done).nonzero()[:, 0].tolist())
            if not living:
                continue
            kept = list(range(batch)) if stay is None else stay.tolist()
            assert living <= set(kept)
            assert len(set(kept)) == len(kept) <= batch
            assert len(kept) <= max(len(living) * 9 / 8, len(living) + 1) or stay is None
            assert all(row == place for place, row in enumerate(kept) if place in living)
            sizes.update([] if stay is None else [len(kept)])
    # a matrix product of a new size has a kernel made for it: twice as large batches bring few sizes more
    few = sum(16 <= size < 32 for size in sizes)
    assert all(sum(size <= each < 2 * size for each in sizes) <= few for size in (32, 64, 128))
    assert few < 16


@pytest.mark.parametrize("length_penalty", [2.0, 4.0])
@pytest.mark.parametrize("processors", [{}, {"logits_processor": [OfOnesOwn()]}], ids=["leaves", "stays"])
def test_a_finished_sentence_takes_nothing_new(length_penalty, processors):
    """A penalty this large lets scores rise after `transformers`' heuristic has closed a sentence.

    It stays in the batch where a logits processor may know rows by their place; the models are two in which it would
    get another hypothesis.
    """
    for seed in (0, 5):
        model = lively_model(seed)
        settings = {"num_beams": 2, "max_new_tokens": 40, "length_penalty": length_penalty, **processors}
        assert path_of(model, **processors) == "fast"
        ours = model.generate(IDS, attention_mask=MASK, **settings)
        theirs = by_transformers(model, inputs=IDS, attention_mask=MASK, **settings)
        assert until_end(ours) == until_end(theirs)


def test_slots_that_are_written_anew_change_no_translation():
    model = lively_model()
    settings = {"num_beams": 4, "max_new_tokens": 60, "min_new_tokens": 50}
    ours = model.generate(IDS, attention_mask=MASK, **settings)
    assert ours.tolist() == by_transformers(model, inputs=IDS, attention_mask=MASK, **settings).tolist()


def test_slots_become_more_when_they_are_full(monkeypatch):
    monkeypatch.setattr(step_decoder, "SLOTS_AT_FIRST", 4)
    for beams in (1, 4):
        model = lively_model()
        settings = {"num_beams": beams, "max_new_tokens": 40, "min_new_tokens": 30}
        ours = model.generate(IDS, attention_mask=MASK, **settings)
        assert ours.tolist() == by_transformers(model, inputs=IDS, attention_mask=MASK, **settings).tolist()


@pytest.mark.parametrize("beams", [1, 4])
def test_slots_that_were_never_written_to_count_nothing(beams, monkeypatch):
    """Memory that was not cleared may hold numbers that are none."""
    model = lively_model()
    settings = {"num_beams": beams, "max_new_tokens": 40, "min_new_tokens": 30}
    stock = by_transformers(model, inputs=IDS, attention_mask=MASK, **settings)
    monkeypatch.setattr(step_decoder, "SLOTS_AT_FIRST", 4)
    for place, name in ((torch, "empty"), (torch.Tensor, "new_empty")):
        make = getattr(place, name)

        def poisoned(*args, make=make, **kwargs):
            made = make(*args, **kwargs)
            return made.fill_(float("nan")) if made.is_floating_point() else made

        monkeypatch.setattr(place, name, poisoned)
    assert model.generate(IDS, attention_mask=MASK, **settings).tolist() == stock.tolist()


@pytest.mark.parametrize("keys", [*range(1, 70), 500])
def test_lanes_are_filled_where_few_keys_are_missing(keys):
    full = full_lanes(keys)
    assert keys <= full < keys + LANES
    assert full == keys or (full % LANES == 0 and (full - keys <= LANES // 2 or keys < LANES))
    assert full <= full_lanes(keys + 1)


def test_a_source_is_encoded_alike_in_parts(monkeypatch):
    model = lively_model()
    whole = model.model.encoder(IDS, attention_mask=MASK).last_hidden_state
    for tokens in (1, 2 * IDS.shape[1], 10_000):
        monkeypatch.setattr(packed_layers, "TOKENS_AT_ONCE", tokens)
        states = PackedModel(model, Weights()).encode(IDS, MASK)
        torch.testing.assert_close(states[MASK.bool()], whole[MASK.bool()], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 50.0, -50.0, 1000.0, -1000.0])
@pytest.mark.parametrize("rows", [6, 4])
def test_logits_of_any_size_give_log_probabilities(shift, rows):
    torch.manual_seed(0)
    search = NextTokens([])
    for count in (6, rows):  # memory of a larger step is used again
        logits = torch.randn(count, 200) * 5 + shift
        expected = logits.log_softmax(-1).topk(3)
        found = search.best(logits, torch.zeros(count, 1), 3, torch.ones(count, 1, dtype=torch.long))
        rounding = 1e-5 + 1e-7 * abs(shift)  # of float32 numbers of that size
        torch.testing.assert_close(found.log_probabilities, expected.values, rtol=1e-5, atol=rounding)
        assert torch.equal(found.tokens, expected.indices)


@pytest.mark.parametrize("width", [5, 70, 700, 1000])
def test_the_likeliest_of_all_beams_are_found_by_chunks(width):
    torch.manual_seed(0)
    for beams, count in ((1, 2), (3, 6), (4, 12)):
        logits, running = torch.randn(5 * beams, width) * 3, torch.randn(5, beams)
        tops = likeliest(logits, chunk_maxima(logits), logits.logsumexp(-1, keepdim=True), running, count)
        log_probabilities = logits.log_softmax(-1).view(5, beams, width)
        expected = (log_probabilities + running[:, :, None]).flatten(1).topk(count)
        torch.testing.assert_close(tops.scores, expected.values)
        assert torch.equal(tops.parents * width + tops.tokens, expected.indices)
        torch.testing.assert_close(tops.log_probabilities, log_probabilities.flatten(1).gather(1, expected.indices))


@pytest.mark.parametrize("num_beams", [1, 4])
def test_what_is_searched_does_not_depend_on_how_many_rows_at_once(num_beams, monkeypatch):
    settings = {"num_beams": num_beams, "max_new_tokens": 20, "suppress_tokens": [7], "return_dict_in_generate": True}
    whole = lively_model().generate(IDS, attention_mask=MASK, **settings)
    monkeypatch.setattr(next_tokens, "ROWS_AT_ONCE", 8)
    by_twos = lively_model().generate(IDS, attention_mask=MASK, **settings)
    assert torch.equal(whole.sequences, by_twos.sequences)
    torch.testing.assert_close(whole.token_log_probabilities, by_twos.token_log_probabilities)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_of_weights_decode_by_our_search_too(dtype):
    model = lively_model().to(dtype)
    ours = model.generate(IDS, attention_mask=MASK, num_beams=3, max_new_tokens=12)
    assert path_of(model) == "fast"
    theirs = by_transformers(model, inputs=IDS, attention_mask=MASK, num_beams=3, max_new_tokens=12)
    same = sum(one == other for one, other in zip(until_end(ours), until_end(theirs), strict=True))
    assert same == 6 if dtype == torch.float64 else same >= 2  # bfloat16 rounds near ties either way


# Precision


@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("shape", [{}, {"activation_function": "gelu", "attention_bias": False}])
def test_a_precision_is_near_the_weights_own(precision, shape):
    model = lively_model(**shape)
    exact = PackedModel(model, Weights(lasting=True)).encode(IDS, MASK)
    states = PackedModel(model, Weights(precision, lasting=True)).encode(IDS, MASK)
    reference = model.model.encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state
    real = MASK.bool()
    torch.testing.assert_close(exact[real], reference[real], atol=1e-5, rtol=1e-5)
    error = (states - exact)[real].abs().max() / exact[real].abs().max()
    assert 0 < error < 0.1  # it did round, and not much


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_few_rows_of_a_small_matrix_are_multiplied_in_float32(precision):
    """The call of the packed product would take longer than it saves."""
    layer = torch.nn.Linear(32, 48)
    multiply = packed_products.product([layer], Weights(precision, lasting=True), relu=True)
    few = packed_products.FEW_ROWS
    x = torch.randn(2 * few, 32)
    assert torch.equal(multiply(x[: few - 1]), layer(x[: few - 1]).relu())
    torch.testing.assert_close(multiply(x), layer(x).relu(), atol=0.05, rtol=0.05)
    assert torch.equal(multiply(x), layer(x).relu()) == (precision is None) or precision is None


@pytest.mark.parametrize("rows", [1, 4, 40])
@pytest.mark.parametrize("shape", [(32, 48), (700, 500)])
@pytest.mark.parametrize("steps", [3, 50])
def test_products_within_a_call_are_those_of_the_layers(rows, shape, steps):
    """Packed or not, for one layer or several, with the bias of another or none."""
    torch.manual_seed(0)
    layers, x = [torch.nn.Linear(*shape, bias=False) for _ in range(2)], torch.randn(rows, shape[0])
    bias = torch.randn(2 * shape[1])
    multiply = packed_products.product(layers, Weights(steps=steps), bias)
    expected = torch.cat([layer(x) for layer in layers], dim=1) + bias
    for _ in range(2):
        torch.testing.assert_close(multiply(x), expected, atol=1e-4, rtol=1e-4)


def test_a_snapshot_is_reached_by_no_later_change():
    model = lively_model(tie_word_embeddings=True, positional_encoding="learned")
    packed = PackedModel(model, Weights(lasting=True))
    decoder = StepDecoder(packed, packed.encode(IDS, MASK), MASK, 1)
    decoder.read_prompt(IDS[:, :3])
    before = decoder.logits(slice(0, 6))
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.normal_()
    again = StepDecoder(packed, packed.encode(IDS, MASK), MASK, 1)
    again.read_prompt(IDS[:, :3])
    assert torch.equal(again.logits(slice(0, 6)), before)


def test_auto_chooses_one_of_them_and_says_which(caplog):
    model = lively_model()
    with caplog.at_level(logging.INFO):
        assert take_snapshot(model, "auto").precision in (None, "bf16", "int8")
    assert "Decoding in" in caplog.text
    assert take_snapshot(model, "model").precision is None


def test_an_unknown_precision_and_one_for_another_model_are_refused():
    with pytest.raises(ValueError, match=f"must be one of {', '.join(PRECISIONS)}, got 'fp8'"):
        take_snapshot(lively_model(), "fp8")
    with pytest.raises(ValueError, match="int8 is for models of this package on a CPU, but this one is a Linear"):
        take_snapshot(torch.nn.Linear(2, 2), "int8")
    model = lively_model()
    model.lm_head.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="int8 copies and rounds the weights of a plain model, but"):
        take_snapshot(model, "int8")


@beams_over_the_target_vocabulary
def test_a_fallback_expands_the_source_for_its_beams():
    model = lively_model()
    settings = {"num_beams": 4, "max_new_tokens": 12, "use_cache": False}
    left = model.generate(IDS, attention_mask=MASK, **settings)
    assert left.tolist() == by_transformers(model, inputs=IDS, attention_mask=MASK, **settings).tolist()


def test_what_else_is_asked_of_the_encoder_is_given():
    asked = lively_model().generate(
        IDS, attention_mask=MASK, max_new_tokens=3, output_attentions=True, return_dict_in_generate=True
    )
    assert asked.encoder_attentions is not None
