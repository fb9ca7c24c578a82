"""Weights that change between two calls of `generate`, in every way that torch offers: one table of such changes.

Most leave the middle of a matrix alone, so that looking at a few of its numbers would not do.
"""

import copy

import torch
from changes import decoder_layer, encoder_layer, table
from torch import nn

CHANGES, change = table()


def fc1(model):
    return decoder_layer(model).fc1


def tripled(weight):
    return weight.detach().clone() * -3.0


# One matrix, or a part of it

WAYS = {
    "in place": lambda weight: weight.mul_(-3.0),
    "some rows in place": lambda weight: weight[:9].mul_(-3.0),
    "some rows of .data": lambda weight: weight.data[:9].mul_(-3.0),
    "the last rows of .data": lambda weight: weight.data[-9:].mul_(-3.0),
    "some columns of .data": lambda weight: weight.data[:, 1:9].mul_(-4.0),
    "one number of .data": lambda weight: weight.data[3, 5].fill_(12.0),
    "some rows of a NumPy view": lambda weight: weight.detach().numpy().__imul__(row_factors(weight)),
    "rows of .data exchanged": lambda weight: weight.data.copy_(weight.data[mixed(len(weight))]),
    "copy_": lambda weight: weight.copy_(tripled(weight)),
    "copy_ of .data": lambda weight: weight.data.copy_(tripled(weight)),
    ".data replaced": lambda weight: setattr(weight, "data", tripled(weight)),
    "set_": lambda weight: weight.set_(tripled(weight)),
    "the storage written to": lambda weight: weight.untyped_storage().copy_(tripled(weight).untyped_storage()),
    "nn.init": lambda weight: nn.init.normal_(weight, generator=torch.Generator().manual_seed(0)),
    "many at once": lambda weight: torch._foreach_mul_([weight], -3.0),
    "swap_tensors": lambda weight: torch.utils.swap_tensors(weight, nn.Parameter(tripled(weight))),
    "some rows through DLPack": lambda weight: torch.from_dlpack(weight.detach())[:9].mul_(-3.0),
}


def row_factors(weight):
    """-3 for the first rows, else 1, as NumPy has it."""
    factors = torch.ones(len(weight), 1)
    factors[:9] = -3.0
    return factors.numpy()


def mixed(rows):
    """An order that leaves the middle in its place."""
    order = torch.arange(rows)
    order[:9] = order[:9].flip(0)
    return order


for name, way in WAYS.items():

    def edit(model, monkeypatch, way=way):
        with torch.no_grad():
            way(fc1(model).weight)

    change(f"fc1 changed: {name}", slow=False)(edit)


@change("fc1 changed: in inference mode", slow=False)
def _(model, monkeypatch):
    with torch.inference_mode():
        fc1(model).weight.mul_(-3.0)


@change("fc1 changed: after a call in inference mode", slow=False)
def _(model, monkeypatch):
    with torch.inference_mode():
        model.generate(torch.tensor([[5, 6, 2]]), max_new_tokens=2)
    fc1(model).weight.data[:9].mul_(-3.0)


@change("fc1 changed: after a functional_call", slow=False)
def _(model, monkeypatch):
    """Which replaces another weight for one call, and restores it."""
    weight = fc1(model).weight
    ids = torch.tensor([[5, 6, 2]])
    with torch.no_grad():
        torch.func.functional_call(
            model, {"lm_head.weight": model.lm_head.weight * 2}, kwargs={"input_ids": ids, "decoder_input_ids": ids}
        )
    weight.data[:9].mul_(-3.0)


@change("fc1 changed: another parameter", slow=False)
def _(model, monkeypatch):
    fc1(model).weight = nn.Parameter(tripled(fc1(model).weight))


@change("fc1 changed: another module", slow=False)
def _(model, monkeypatch):
    new = copy.deepcopy(fc1(model))
    new.weight.data.mul_(-3.0)
    decoder_layer(model).fc1 = new


@change("fc1 changed: load_state_dict", slow=False)
def _(model, monkeypatch):
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["model.decoder.layers.0.fc1.weight"].mul_(-3.0)
    model.load_state_dict(state)


@change("fc1 changed: load_state_dict with assign", slow=False)
def _(model, monkeypatch):
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["model.decoder.layers.0.fc1.weight"].mul_(-3.0)
    model.load_state_dict(state, assign=True)


@change("fc1 changed: its entry in state_dict", slow=False)
def _(model, monkeypatch):
    model.state_dict()["model.decoder.layers.0.fc1.weight"][:9].mul_(-3.0)


@change("fc1 changed: hidden from state_dict", slow=None)
def _(model, monkeypatch):
    def hide(module, state, prefix, metadata):
        state.pop(f"{prefix}weight")

    fc1(model).register_state_dict_post_hook(hide)
    model.generate(torch.tensor([[5, 6, 2]]), max_new_tokens=2)
    with torch.no_grad():
        fc1(model).weight.mul_(-3.0)


@change("fc1 changed: in a deep copy", slow=False)
def _(model, monkeypatch):
    changed = copy.deepcopy(model)
    with torch.no_grad():
        fc1(changed).weight.mul_(-3.0)
    return changed


@change("fc1 changed: without its bias", slow=None)
def _(model, monkeypatch):
    fc1(model).bias = None


def by_optimizer(kind, **settings):
    def apply(model, monkeypatch):
        ids = torch.tensor([[5, 6, 7, 2]])
        optimizer = kind([fc1(model).weight, decoder_layer(model).final_layer_norm.weight], **settings)
        for _ in range(2):
            optimizer.zero_grad()
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()

    return apply


for name, kind, settings in (
    ("SGD", torch.optim.SGD, {"lr": 3.0}),
    ("SGD, fused", torch.optim.SGD, {"lr": 3.0, "fused": True}),
    ("AdamW", torch.optim.AdamW, {"lr": 0.3}),
    ("AdamW, fused", torch.optim.AdamW, {"lr": 0.3, "fused": True}),
    ("AdamW, foreach", torch.optim.AdamW, {"lr": 0.3, "foreach": True}),
):
    change(f"fc1 changed: {name}", slow=False)(by_optimizer(kind, **settings))


# Other weights than fc1

SOME_ROWS = {
    "encoder's q_proj": lambda model: encoder_layer(model).self_attn.q_proj.weight,
    "encoder's k_proj": lambda model: encoder_layer(model).self_attn.k_proj.weight,
    "encoder's v_proj": lambda model: encoder_layer(model).self_attn.v_proj.weight,
    "decoder's v_proj": lambda model: decoder_layer(model).self_attn.v_proj.weight,
    "decoder's out_proj": lambda model: decoder_layer(model).self_attn.out_proj.weight,
    "encoder-decoder k_proj": lambda model: decoder_layer(model).encoder_attn.k_proj.weight,
    "encoder-decoder v_proj": lambda model: decoder_layer(model).encoder_attn.v_proj.weight,
    "encoder's fc2": lambda model: encoder_layer(model).fc2.weight,
    "a bias of v_proj": lambda model: decoder_layer(model).encoder_attn.v_proj.bias,
    "a bias of fc2": lambda model: encoder_layer(model).fc2.bias,
    "lm_head": lambda model: model.lm_head.weight,
    "final_logits_bias": lambda model: model.final_logits_bias[0],
    "the embedding": lambda model: model.model.shared.weight,
    "a layer norm's weight": lambda model: decoder_layer(model).final_layer_norm.weight,
    "a layer norm's bias": lambda model: encoder_layer(model).self_attn_layer_norm.bias,
}

for name, weight in SOME_ROWS.items():

    def edit(model, monkeypatch, weight=weight):
        some = weight(model).data[: len(weight(model)) // 2 - 1]
        some.mul_(-2.0).sub_(0.5)

    change(f"half of {name} through .data", slow=False)(edit)


@change("final_logits_bias through NumPy", slow=False)
def _(model, monkeypatch):
    model.final_logits_bias.numpy()[0, 3:12] += 1.5


@change("final_logits_bias that is no longer saved", slow=None)
def _(model, monkeypatch):
    model.register_buffer("final_logits_bias", model.final_logits_bias, persistent=False)
    model.generate(torch.tensor([[5, 6, 2]]), max_new_tokens=2)
    model.final_logits_bias[0, 3:12] += 1.5


@change("a row of the embedding through NumPy", slow=False)
def _(model, monkeypatch):
    model.model.shared.weight.detach().numpy()[3:15] *= -1.0


@change("a layer norm's weight replaced", slow=False)
def _(model, monkeypatch):
    decoder_layer(model).final_layer_norm.weight = nn.Parameter(torch.full((32,), 1.7))


# The whole


@change("two decoder layers exchanged", slow=None)
def _(model, monkeypatch):
    layers = model.model.decoder.layers
    layers[0], layers[1] = layers[1], layers[0]


@change("two encoder layers exchanged", slow=None)
def _(model, monkeypatch):
    layers = model.model.encoder.layers
    layers[0], layers[1] = layers[1], layers[0]


@change("one fc1 for two decoder layers", slow=None)
def _(model, monkeypatch):
    decoder_layer(model, 1).fc1 = fc1(model)


@change("the last decoder layer deleted", slow=None)
def _(model, monkeypatch):
    del model.model.decoder.layers[-1]


@change("an encoder layer appended", slow=None)
def _(model, monkeypatch):
    model.model.encoder.layers.append(copy.deepcopy(encoder_layer(model)))


@change("resize_token_embeddings", slow=None)
def _(model, monkeypatch):
    torch.manual_seed(0)
    model.resize_token_embeddings(52)
    model.lm_head.weight.data[40:] = torch.randn(12, 32, generator=torch.Generator().manual_seed(0))


@change("tied weights untied", slow=None, of={"tie_word_embeddings": True})
def _(model, monkeypatch):
    assert model.lm_head.weight is model.model.shared.weight
    model.lm_head.weight = nn.Parameter(tripled(model.lm_head.weight).roll(1, 0))


@change("tied weights changed", slow=False, of={"tie_word_embeddings": True})
def _(model, monkeypatch):
    model.model.shared.weight.data[3:15].mul_(-1.0)


@change("another embedding for the decoder", slow=None)
def _(model, monkeypatch):
    new = copy.deepcopy(model.model.shared)
    new.weight.data[3:].mul_(-1.0)
    model.model.decoder.embed_tokens = new


@change("float64", matters=False, slow=None)
def _(model, monkeypatch):
    model.double()


@change("float64, then changed", slow=None)
def _(model, monkeypatch):
    model.double()
    model.generate(torch.tensor([[5, 6, 2]]), max_new_tokens=2)
    fc1(model).weight.data[:9].mul_(-3.0)


@change("all .data replaced by equal numbers", matters=False, slow=False)
def _(model, monkeypatch):
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


@change("shared memory", matters=False, slow=False)
def _(model, monkeypatch):
    model.share_memory()


@change("shared memory, then changed", slow=False)
def _(model, monkeypatch):
    model.share_memory()
    model.generate(torch.tensor([[5, 6, 2]]), max_new_tokens=2)
    fc1(model).weight.data[:9].mul_(-3.0)
