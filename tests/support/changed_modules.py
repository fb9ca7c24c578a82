"""Modules that are subclassed, replaced or wrapped: one table of such changes."""

import copy

import torch
from changes import Changed, Times, decoder_layer, encoder_layer, louder, louder_values, own, table
from torch import nn

CHANGES, change = table()


# Subclasses

OWN_FORWARD = {
    "an encoder layer": lambda model: encoder_layer(model),
    "a decoder layer": lambda model: decoder_layer(model),
    "the encoder's self-attention": lambda model: encoder_layer(model).self_attn,
    "the decoder's self-attention": lambda model: decoder_layer(model, 1).self_attn,
    "encoder-decoder attention": lambda model: decoder_layer(model).encoder_attn,
    "the encoder's v_proj": lambda model: encoder_layer(model, 1).self_attn.v_proj,
    "the decoder's fc2": lambda model: decoder_layer(model, 1).fc2,
    "lm_head": lambda model: model.lm_head,
    "a layer norm": lambda model: decoder_layer(model).encoder_attn_layer_norm,
    "the encoder's activation": lambda model: encoder_layer(model).activation_fn,
    "the decoder's activation": lambda model: decoder_layer(model).activation_fn,
    "the encoder's embedding": lambda model: model.model.encoder.embed_tokens,
    "the decoder's embedding": lambda model: model.model.decoder.embed_tokens,
    "the encoder's positions": lambda model: model.model.encoder.embed_positions,
    "the decoder's positions": lambda model: model.model.decoder.embed_positions,
    "the encoder": lambda model: model.model.encoder,
    "the model's body": lambda model: model.model,
}


def with_own_forward(part):
    def apply(model, monkeypatch):
        module = part(model)
        forward = type(module).forward
        own(module, forward=lambda self, *args, **kwargs: louder(forward(self, *args, **kwargs)))

    return apply


for name, part in OWN_FORWARD.items():
    slow = None if name.endswith(("embedding", "positions")) else True  # a fast search may call these as they are
    change(f"a subclass with its own forward: {name}", slow=slow)(with_own_forward(part))


def with_own_method(part, method, changed):
    def apply(model, monkeypatch):
        module = part(model)
        usual = getattr(type(module), method)
        own(module, **{method: lambda self, *args, **kwargs: changed(usual(self, *args, **kwargs))})

    return apply


for name, part, method, changed in (
    ("an encoder layer", encoder_layer, "feed_forward", louder),
    ("a decoder layer", decoder_layer, "feed_forward", louder),
    ("an encoder layer", encoder_layer, "add_and_norm", louder),
    ("a decoder layer", decoder_layer, "add_and_norm", louder),
    ("encoder-decoder attention", lambda model: decoder_layer(model).encoder_attn, "keys_and_values", louder_values),
    ("the decoder's self-attention", lambda model: decoder_layer(model).self_attn, "keys_and_values", louder_values),
    ("the encoder's self-attention", lambda model: encoder_layer(model).self_attn, "keys_and_values", louder_values),
    ("the decoder", lambda model: model.model.decoder, "embed", louder),
    ("the encoder", lambda model: model.model.encoder, "embed", louder),
):
    change(f"a subclass with its own {method}: {name}")(with_own_method(part, method, changed))


def remade(module, **methods):
    """Another module of a subclass with these methods, and the same weights."""
    new = copy.deepcopy(module)
    own(new, **methods)
    return new


@change("attention replaced by one of a subclass with its own forward")
def _(model, monkeypatch):
    attention = decoder_layer(model).encoder_attn
    forward = type(attention).forward
    decoder_layer(model).encoder_attn = remade(attention, forward=lambda *args, **more: louder(forward(*args, **more)))


@change("attention replaced by one of a subclass with its own keys_and_values")
def _(model, monkeypatch):
    attention = decoder_layer(model).encoder_attn
    usual = type(attention).keys_and_values
    decoder_layer(model).encoder_attn = remade(
        attention, keys_and_values=lambda *args, **more: louder_values(usual(*args, **more))
    )


class Louder(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 1.5


@change("a linear layer replaced by one of a subclass with its own forward")
def _(model, monkeypatch):
    layer = encoder_layer(model)
    new = Louder(layer.fc1.in_features, layer.fc1.out_features)
    new.load_state_dict(layer.fc1.state_dict())
    layer.fc1 = new


@change("a subclass of the whole model that scales its logits")
def _(model, monkeypatch):
    class Sharper(type(model)):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits * 1.5
            return output

    model.__class__ = Sharper


@change("a subclass of the whole model with its own _logits")
def _(model, monkeypatch):
    class Sharper(type(model)):
        def _logits(self, *args, **kwargs):
            return super()._logits(*args, **kwargs) * 1.5

    model.__class__ = Sharper


def renamed(ids):
    """Token 7 for every token from 20 on, but for the start."""
    return ids.where(ids < 20, torch.full_like(ids, 7))


@change("a subclass of the whole model with its own prepare_inputs_for_generation")
def _(model, monkeypatch):
    class Renaming(type(model)):
        def prepare_inputs_for_generation(self, *args, **kwargs):
            inputs = super().prepare_inputs_for_generation(*args, **kwargs)
            return {**inputs, "decoder_input_ids": renamed(inputs["decoder_input_ids"])}

    model.__class__ = Renaming
    return Changed(
        model,
        forward=lambda decoder_input_ids, **inputs: model(decoder_input_ids=renamed(decoder_input_ids), **inputs),
    )


class QuietEncoder(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids=None, **kwargs):
        return louder(self.encoder(input_ids=input_ids, **kwargs), 0.5)


@change("a subclass of the whole model with its own get_encoder")
def _(model, monkeypatch):
    class Quieter(type(model)):
        def get_encoder(self, *args, **kwargs):
            return QuietEncoder(super().get_encoder(*args, **kwargs))

    def forward(input_ids, attention_mask, **inputs):
        encoded = model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)
        return model(encoder_outputs=encoded, attention_mask=attention_mask, **inputs)

    model.__class__ = Quieter
    return Changed(model, forward=forward)


@change("a list of layers that runs backwards", slow=None)
def _(model, monkeypatch):
    class Backwards(nn.ModuleList):
        def __iter__(self):
            return iter(list(super().__iter__())[::-1])

    model.model.encoder.layers.__class__ = Backwards


# Wrappers


class Around(nn.Module):
    """Looks like the module in it, but for its output."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, *args, **kwargs):
        return louder(self.inner(*args, **kwargs))


@change("lm_head in a Sequential")
def _(model, monkeypatch):
    model.lm_head = nn.Sequential(model.lm_head, Times(1.5))


@change("fc1 in a Sequential")
def _(model, monkeypatch):
    decoder_layer(model).fc1 = nn.Sequential(Times(1.5), decoder_layer(model).fc1)


for name, place in {
    "lm_head": lambda model: (model, "lm_head"),
    "fc1": lambda model: (encoder_layer(model), "fc1"),
    "an encoder layer": lambda model: (model.model.encoder.layers, "0"),
    "a decoder layer": lambda model: (model.model.decoder.layers, "1"),
    "the encoder's self-attention": lambda model: (encoder_layer(model), "self_attn"),
    "encoder-decoder attention": lambda model: (decoder_layer(model), "encoder_attn"),
    "the encoder": lambda model: (model.model, "encoder"),
    "the decoder's embedding": lambda model: (model.model.decoder, "embed_tokens"),
    "a layer norm": lambda model: (encoder_layer(model), "final_layer_norm"),
}.items():

    def wrap(model, monkeypatch, place=place):
        parent, child = place(model)
        setattr(parent, child, Around(getattr(parent, child)))

    change(f"{name} in a module that looks like it", slow=None if name.endswith("embedding") else True)(wrap)


@change("values without a bias beside keys with one", slow=None)
def _(model, monkeypatch):
    decoder_layer(model).self_attn.v_proj.bias = None


@change("a sparse weight")
def _(model, monkeypatch):
    fc1 = encoder_layer(model).fc1
    fc1.weight = nn.Parameter((fc1.weight * (fc1.weight > 0)).detach().to_sparse_csr(), requires_grad=False)


@change("a weight that is a transposed view", slow=None, matters=False)
def _(model, monkeypatch):
    for layer in (encoder_layer(model).fc1, decoder_layer(model).fc2, model.lm_head):
        layer.weight = nn.Parameter(layer.weight.detach().t().contiguous().t())


@change("lm_head with a bias", slow=None)
def _(model, monkeypatch):
    new = nn.Linear(model.lm_head.in_features, model.lm_head.out_features)
    new.weight = model.lm_head.weight
    nn.init.normal_(new.bias, generator=torch.Generator().manual_seed(0))
    model.lm_head = new


@change("a last norm where there was none", slow=None)
def _(model, monkeypatch):
    model.model.decoder.layer_norm = Times(1.5)


@change("a module that is never called", matters=False, slow=None)
def _(model, monkeypatch):
    model.extra = Louder(3, 4)
