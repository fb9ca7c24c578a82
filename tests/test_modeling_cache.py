"""Keys and values kept while the target grows: the same result, token by token, whatever keeps them."""

import pytest
import torch
from tiny import BOS, pad_batch, sentences, tiny_model
from transformers import DynamicCache, EncoderDecoderCache, StaticCache

TARGET = torch.tensor([[BOS, 5, 6, 7, 8, 9], [BOS, 15, 16, 17, 18, 19], [BOS, 25, 26, 27, 28, 29]])


def source() -> dict[str, torch.Tensor]:
    ids, mask = pad_batch(sentences([4, 9, 6]), "both")
    return {"input_ids": ids, "attention_mask": mask}


def new_cache(kind: str, model, source_len: int) -> EncoderDecoderCache | DynamicCache | None:
    config = model.config
    if kind == "static":
        decoder = config.get_text_config(decoder=True)
        return EncoderDecoderCache(
            StaticCache(config=decoder, max_cache_len=10), StaticCache(config=decoder, max_cache_len=source_len)
        )
    if kind == "dynamic":
        return EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
    return {"plain": DynamicCache(config=config), "none given": None}[kind]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("sizes", [{}, {"head_dim": 6, "value_head_dim": 10}])
@pytest.mark.parametrize("kind", ["dynamic", "static", "plain", "none given"])
@torch.no_grad()
def test_cached_is_uncached_token_by_token(kind, sizes, implementation):
    model = tiny_model(**sizes)
    model.set_attn_implementation(implementation)
    inputs = source()
    expected = model(**inputs, decoder_input_ids=TARGET, use_cache=False)
    assert expected.past_key_values is None

    cache = new_cache(kind, model, inputs["input_ids"].shape[1])
    encoder_outputs = model.model.encoder(**inputs)
    for chunk in (slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 6)):
        outputs = model(
            encoder_outputs=encoder_outputs,
            attention_mask=inputs["attention_mask"],
            decoder_input_ids=TARGET[:, chunk],
            past_key_values=cache,
            use_cache=True,
        )
        cache = outputs.past_key_values
        assert isinstance(cache, EncoderDecoderCache)
        torch.testing.assert_close(outputs.logits, expected.logits[:, chunk], atol=1e-5, rtol=0)

    assert int(cache.get_seq_length()) == TARGET.shape[1]


@torch.no_grad()
def test_the_source_is_projected_once():
    model = tiny_model()
    calls = []
    for layer in model.model.decoder.layers:
        layer.encoder_attn.k_proj.register_forward_hook(lambda *args: calls.append(1))

    outputs = model(**source(), decoder_input_ids=TARGET[:, :1])
    model(
        encoder_outputs=(outputs.encoder_last_hidden_state,),
        decoder_input_ids=TARGET[:, 1:2],
        past_key_values=outputs.past_key_values,
    )

    assert len(calls) == model.config.decoder_layers


@torch.no_grad()
def test_a_target_padded_on_the_left_continues_from_its_cache():
    model = tiny_model()
    inputs = {key: value[:2] for key, value in source().items()}
    rows, following = [[BOS, 5, 6], [BOS, 7, 8, 9, 10]], torch.tensor([[20], [21]])
    ids, mask = pad_batch(rows, "left")

    start = model(**inputs, decoder_input_ids=ids, decoder_attention_mask=mask)
    step = model(
        encoder_outputs=(start.encoder_last_hidden_state,),
        attention_mask=inputs["attention_mask"],
        decoder_input_ids=following,
        decoder_attention_mask=torch.cat((mask, torch.ones(2, 1, dtype=torch.long)), dim=1),
        past_key_values=start.past_key_values,
    ).logits

    for i, row in enumerate(rows):
        one = {key: value[i : i + 1] for key, value in inputs.items()}
        whole = torch.tensor([[*row, following[i].item()]])
        torch.testing.assert_close(step[i], model(**one, decoder_input_ids=whole).logits[0, -1:], atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_decoder_runs_alone():
    """Without encoder states it skips encoder-decoder attention: a language model, cached as well."""
    decoder = tiny_model().model.decoder
    whole = decoder(input_ids=TARGET, use_cache=False).last_hidden_state

    cache = None
    for i in range(TARGET.shape[1]):
        outputs = decoder(input_ids=TARGET[:, i : i + 1], past_key_values=cache, use_cache=True)
        cache = outputs.past_key_values
        torch.testing.assert_close(outputs.last_hidden_state[:, 0], whole[:, i], atol=1e-5, rtol=0)

    assert isinstance(cache, DynamicCache)
    assert len(cache.layers) == 2


@torch.no_grad()
def test_a_step_compiles_into_one_graph_with_a_static_cache():
    model = tiny_model()
    inputs = source()
    expected = model(**inputs, decoder_input_ids=TARGET, use_cache=False).logits
    states = model.model.encoder(**inputs).last_hidden_state
    step = torch.compile(model, backend="eager", fullgraph=True)
    cache = new_cache("static", model, states.shape[1])

    for i in range(TARGET.shape[1]):
        forward = model if i == 0 else step  # the prefill fills the cross-attention cache once
        logits = forward(
            encoder_outputs=(states,),
            attention_mask=inputs["attention_mask"],
            decoder_input_ids=TARGET[:, i : i + 1],
            past_key_values=cache,
        ).logits
        torch.testing.assert_close(logits[:, 0], expected[:, i], atol=1e-5, rtol=0)
