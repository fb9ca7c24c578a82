"""Sections 3.4 and 5.1: which matrices are one, what a file holds of them, and how vocabularies change size."""

import pytest
import torch
from safetensors import safe_open
from tiny import SEPARATE_VOCABULARIES, tiny_config, tiny_model

from hf_vanilla_transformer import VanillaTransformerForConditionalGeneration, VanillaTransformerModel

SHARED, ENCODER, DECODER, HEAD = (
    "model.shared.weight",
    "model.encoder.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "lm_head.weight",
)

# (config, the groups of matrices that are one, by the name under which a file holds each)
TIES = [
    pytest.param({}, {SHARED: {SHARED, ENCODER, DECODER, HEAD}}, id="three ways, as in the paper"),
    pytest.param(
        {"tie_word_embeddings": False}, {SHARED: {SHARED, ENCODER, DECODER}, HEAD: {HEAD}}, id="shared, untied head"
    ),
    pytest.param(
        {"share_encoder_decoder_embeddings": False}, {ENCODER: {ENCODER}, DECODER: {DECODER, HEAD}}, id="tied head"
    ),
    pytest.param(
        SEPARATE_VOCABULARIES, {ENCODER: {ENCODER}, DECODER: {DECODER, HEAD}}, id="separate vocabularies, tied head"
    ),
    pytest.param(
        {**SEPARATE_VOCABULARIES, "tie_word_embeddings": False},
        {ENCODER: {ENCODER}, DECODER: {DECODER}, HEAD: {HEAD}},
        id="separate vocabularies, untied head",
    ),
]


@torch.no_grad()
def groups_of(model: torch.nn.Module) -> list[set[str]]:
    """The names of embedding matrices of which a change of one is a change of all."""
    matrices = {
        name: matrix
        for name, matrix in model.named_parameters(remove_duplicate=False)
        if name in (SHARED, ENCODER, DECODER, HEAD)
    }
    groups = set()
    for changed, matrix in matrices.items():
        before = {name: each.clone() for name, each in matrices.items()}
        matrix.add_(1.0)
        groups.add(frozenset(name for name, each in matrices.items() if not torch.equal(each, before[name])))
        matrix.copy_(before[changed])
    return [set(group) for group in groups]


def sizes_of(model: torch.nn.Module) -> tuple[int, int, int]:
    """Rows of the encoder's embeddings, of the decoder's, and of the output projection."""
    stacks = (model.model.encoder.embed_tokens, model.model.decoder.embed_tokens)
    return (*(stack.weight.shape[0] for stack in stacks), model.lm_head.weight.shape[0])


def run(model: torch.nn.Module, token: int = 5) -> torch.Tensor:
    ids = torch.tensor([[token, 6, 2]])
    return model(input_ids=ids, labels=torch.tensor([[7, 8, 2]])).logits


@pytest.mark.parametrize(("fields", "groups"), TIES)
def test_each_tie_is_its_own_option_and_survives_saving(fields, groups, tmp_path):
    model = tiny_model(**fields)

    assert sorted(groups_of(model), key=min) == sorted(groups.values(), key=min)
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) & {SHARED, ENCODER, DECODER, HEAD} == set(groups)
    loaded = VanillaTransformerForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert sorted(groups_of(loaded), key=min) == sorted(groups.values(), key=min)
    assert torch.equal(run(loaded), run(model))


@pytest.mark.parametrize(("fields", "groups"), TIES)
def test_the_file_holds_each_weight_once_and_nothing_else(fields, groups, tmp_path):
    model = tiny_model(logits_bias=True, **fields)
    tied = set().union(*groups.values()) - set(groups)

    model.save_pretrained(tmp_path)

    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(model.state_dict()) - tied
    assert sum(p.numel() for p in model.parameters()) == sum(
        tensor.numel() for name, tensor in model.state_dict().items() if name not in {*tied, "final_logits_bias"}
    )


def test_one_step_of_training_moves_all_tied_matrices_together():
    model = tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    model.train()(input_ids=torch.tensor([[5, 2]]), labels=torch.tensor([[6, 2]])).loss.backward()
    optimizer.step()

    weights = dict(model.named_parameters(remove_duplicate=False))
    assert all(torch.equal(weights[name], weights[SHARED]) for name in (ENCODER, DECODER, HEAD))


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("size", [47, 31])
def test_resizing_a_shared_vocabulary_resizes_it_everywhere(tie, size, tmp_path):
    model = tiny_model(tie_word_embeddings=tie, logits_bias=True)
    before = run(model)

    embeddings = model.resize_token_embeddings(size, mean_resizing=False)

    assert sizes_of(model) == (size, size, size)
    assert embeddings is model.get_input_embeddings()
    assert embeddings.num_embeddings == model.lm_head.out_features == size
    assert (model.config.vocab_size, model.config.decoder_vocab_size) == (size, size)
    assert model.vocab_size == model.model.vocab_size == size
    assert model.final_logits_bias.shape == (1, size)
    kept = min(size, 40)
    torch.testing.assert_close(run(model)[..., :kept], before[..., :kept])
    assert len(groups_of(model)) == (1 if tie else 2)
    model.save_pretrained(tmp_path)
    assert torch.equal(run(VanillaTransformerForConditionalGeneration.from_pretrained(tmp_path)), run(model))


@pytest.mark.parametrize("tie", [True, False])
def test_separate_vocabularies_are_resized_each_on_its_own(tie, tmp_path):
    model = tiny_model(tie_word_embeddings=tie, logits_bias=True, **SEPARATE_VOCABULARIES)
    before = run(model)

    model.resize_token_embeddings(47)
    assert sizes_of(model) == (47, 50, 50)
    assert torch.equal(run(model), before)
    model.resize_decoder_token_embeddings(53)

    assert sizes_of(model) == (47, 53, 53)
    assert (model.config.vocab_size, model.config.decoder_vocab_size) == (47, 53)
    assert model.final_logits_bias.shape == (1, 53)
    torch.testing.assert_close(run(model)[..., :50], before)
    run(model, token=46)
    model.save_pretrained(tmp_path)
    assert torch.equal(run(VanillaTransformerForConditionalGeneration.from_pretrained(tmp_path)), run(model))


def test_a_shared_vocabulary_has_no_decoder_side_of_its_own():
    for model in (tiny_model(), VanillaTransformerModel(tiny_config())):
        with pytest.raises(ValueError, match=r"share one embedding matrix .* call `resize_token_embeddings`"):
            model.resize_decoder_token_embeddings(50)


def test_resizing_to_a_multiple_and_not_at_all():
    model = tiny_model()

    assert model.resize_token_embeddings().num_embeddings == 40
    assert model.resize_token_embeddings(pad_to_multiple_of=16).num_embeddings == 48
    assert sizes_of(model) == (48, 48, 48)


def test_new_embeddings_reach_both_stacks_and_the_output():
    model = tiny_model()
    new = torch.nn.Embedding(40, 32)

    model.set_input_embeddings(new)
    model.tie_weights()

    assert model.get_input_embeddings() is new
    assert len(groups_of(model)) == 1
    separate = tiny_model(**SEPARATE_VOCABULARIES)
    separate.set_input_embeddings(new)
    assert separate.get_input_embeddings() is separate.model.encoder.embed_tokens is new
    assert sizes_of(separate) == (40, 50, 50)
