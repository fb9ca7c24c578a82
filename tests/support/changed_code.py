"""Functions and attributes of modules, classes and attention that are replaced: one table of such changes.

Classes and their module are reached through a model's own, since they may have been copied into a folder with it.
"""

import copy
import functools
import sys

import torch
from changes import Changed, decoder_layer, encoder_layer, louder, louder_values, table
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

CHANGES, change = table()
CALLED_AS_THEY_ARE = ("an embedding", "the positions", "positions", "nn.Embedding")
"""Modules that a fast search may call, whatever they do."""


# Of one module


def replace(module, name, changed=louder):
    """Set an attribute that shadows the class's method, and changes what that gives."""
    usual = getattr(module, name)

    @functools.wraps(usual)
    def method(*args, **kwargs):
        return changed(usual(*args, **kwargs))

    setattr(module, name, method)


def sharper(output):
    output.logits = output.logits * 1.5
    return output


for name, part, method, changed in (
    ("a layer's fc1", lambda model: encoder_layer(model).fc1, "forward", louder),
    ("a decoder layer's fc2", lambda model: decoder_layer(model).fc2, "forward", louder),
    ("an encoder layer", encoder_layer, "forward", louder),
    ("a decoder layer", decoder_layer, "forward", louder),
    ("an attention", lambda model: decoder_layer(model, 1).encoder_attn, "forward", louder),
    ("an encoder's attention", lambda model: encoder_layer(model).self_attn, "forward", louder),
    ("an encoder layer", encoder_layer, "feed_forward", louder),
    ("a decoder layer", decoder_layer, "feed_forward", louder),
    ("an encoder layer", encoder_layer, "add_and_norm", louder),
    ("a decoder layer", decoder_layer, "add_and_norm", louder),
    ("an attention", lambda model: decoder_layer(model).encoder_attn, "keys_and_values", louder_values),
    ("the encoder", lambda model: model.model.encoder, "forward", louder),
    ("the encoder", lambda model: model.model.encoder, "embed", louder),
    ("the decoder", lambda model: model.model.decoder, "forward", louder),
    ("the decoder", lambda model: model.model.decoder, "embed", louder),
    ("the model's body", lambda model: model.model, "forward", louder),
    ("the model", lambda model: model, "forward", sharper),
    ("the model", lambda model: model, "_logits", louder),
    ("lm_head", lambda model: model.lm_head, "forward", louder),
    ("a layer norm", lambda model: decoder_layer(model).final_layer_norm, "forward", louder),
    ("an activation", lambda model: decoder_layer(model).activation_fn, "forward", louder),
    ("an embedding", lambda model: model.model.encoder.embed_tokens, "forward", louder),
    ("the positions", lambda model: model.model.decoder.embed_positions, "forward", louder),
):

    def set_method(model, monkeypatch, part=part, method=method, changed=changed):
        replace(part(model), method, changed)

    slow = None if name in CALLED_AS_THEY_ARE else True
    change(f"{method} of {name}, set on it", slow=slow)(set_method)


@change("prepare_inputs_for_generation of the model, set on it")
def _(model, monkeypatch):
    def renamed(ids):
        return ids.where(ids < 20, torch.full_like(ids, 7))

    replace(
        model,
        "prepare_inputs_for_generation",
        lambda inputs: {**inputs, "decoder_input_ids": renamed(inputs["decoder_input_ids"])},
    )
    return Changed(
        model,
        forward=lambda decoder_input_ids, **inputs: model(decoder_input_ids=renamed(decoder_input_ids), **inputs),
    )


@change("get_encoder of the model, set on it")
def _(model, monkeypatch):
    other = copy.deepcopy(model.model.encoder)
    other.embed_scale = 1.0
    replace(model, "get_encoder", lambda encoder: other)

    def forward(input_ids, attention_mask, **inputs):
        encoded = other(input_ids=input_ids, attention_mask=attention_mask)
        return model(encoder_outputs=encoded, attention_mask=attention_mask, **inputs)

    return Changed(model, forward=forward)


# Attributes of one module


@change("scaling of an encoder's attention", slow=None)
def _(model, monkeypatch):
    encoder_layer(model).self_attn.scaling = 1.0


@change("scaling of a decoder's attention", slow=None)
def _(model, monkeypatch):
    decoder_layer(model).encoder_attn.scaling = 1.0


@change("twice as many heads", slow=None)
def _(model, monkeypatch):
    attention = decoder_layer(model).encoder_attn
    attention.d_k = attention.d_v = attention.d_k // 2


@change("an encoder's attention that looks back alone", lengths=(9, 9, 9, 9))
def _(model, monkeypatch):
    """`transformers` reads `is_causal` where there is no mask: in a batch without padding."""
    encoder_layer(model).self_attn.is_causal = True


@change("normalize_before of one encoder layer", slow=None)
def _(model, monkeypatch):
    encoder_layer(model).normalize_before = True


@change("normalize_before of one decoder layer", slow=None)
def _(model, monkeypatch):
    decoder_layer(model, 1).normalize_before = True


@change("embed_scale of the encoder", slow=None)
def _(model, monkeypatch):
    model.model.encoder.embed_scale = 1.0


@change("embed_scale of the decoder", slow=None)
def _(model, monkeypatch):
    model.model.decoder.embed_scale = 2.0


@change("epsilon of a layer norm", slow=None)
def _(model, monkeypatch):
    decoder_layer(model).final_layer_norm.eps = 1.0


@change("no logits_bias in the config", slow=None)
def _(model, monkeypatch):
    model.config.logits_bias = False


@change("an activation of another kind", slow=None)
def _(model, monkeypatch):
    encoder_layer(model).activation_fn = nn.Tanh()
    decoder_layer(model, 1).activation_fn = nn.GELU()


@change("an activation that is a function", slow=None)
def _(model, monkeypatch):
    for layer in (encoder_layer(model), decoder_layer(model, 1)):
        del layer.activation_fn
        layer.activation_fn = torch.tanh


@change("an activation of a subclass", slow=None)
def _(model, monkeypatch):
    class Capped(nn.ReLU):
        def forward(self, x):
            return super().forward(x).clamp(max=0.5)

    decoder_layer(model).activation_fn = Capped()


class NoPositions(nn.Module):
    def forward(self, position_ids):
        return torch.zeros(*position_ids.shape, 32)


@change("no positions in the encoder", slow=None)
def _(model, monkeypatch):
    model.model.encoder.embed_positions = NoPositions()


@change("no positions in the decoder", slow=None)
def _(model, monkeypatch):
    model.model.decoder.embed_positions = NoPositions()


@change("another convention of positions", slow=None)
def _(model, monkeypatch):
    model.model.encoder.embed_positions.convention = "concatenated"


def drops_evenly(monkeypatch):
    """Dropout that scales instead of drawing: what is dropped out can be told from one call to the next."""
    monkeypatch.setattr(
        nn.functional, "dropout", lambda x, p=0.5, training=True, inplace=False: x * (1 - p) if training else x
    )


@change("one encoder layer in training mode")
def _(model, monkeypatch):
    drops_evenly(monkeypatch)
    encoder_layer(model).train()


@change("one decoder layer in training mode")
def _(model, monkeypatch):
    drops_evenly(monkeypatch)
    decoder_layer(model, 1).train()


@change("the decoder in training mode, its layers not")
def _(model, monkeypatch):
    drops_evenly(monkeypatch)
    model.model.decoder.training = True


@change("dropout of a layer in evaluation mode", matters=False, slow=None)
def _(model, monkeypatch):
    decoder_layer(model).dropout = 0.5


# Classes and functions


def replace_in(monkeypatch, place, name, changed=louder):
    """As `replace`, for a class or a module, until the test is over."""
    usual = getattr(place, name)

    @functools.wraps(usual)
    def function(*args, **kwargs):
        return changed(usual(*args, **kwargs))

    monkeypatch.setattr(place, name, function)


for name, kind, method, changed in (
    ("attention", lambda model: type(decoder_layer(model).self_attn), "forward", louder),
    ("attention", lambda model: type(decoder_layer(model).self_attn), "keys_and_values", louder_values),
    ("encoder layers", lambda model: type(encoder_layer(model)), "forward", louder),
    ("decoder layers", lambda model: type(decoder_layer(model)), "forward", louder),
    ("all layers", lambda model: type(decoder_layer(model)).__mro__[1], "feed_forward", louder),
    ("all layers", lambda model: type(decoder_layer(model)).__mro__[1], "add_and_norm", louder),
    ("the encoder", lambda model: type(model.model.encoder), "forward", louder),
    ("both stacks", lambda model: type(model.model.encoder).__mro__[1], "embed", louder),
    ("positions", lambda model: type(model.model.decoder.embed_positions), "forward", louder),
    ("the model", lambda model: type(model), "forward", sharper),
    ("the model", lambda model: type(model), "_logits", louder),
    ("nn.Linear", lambda model: nn.Linear, "forward", lambda x: x * 1.1),
    ("nn.LayerNorm", lambda model: nn.LayerNorm, "forward", louder),
    ("nn.Embedding", lambda model: nn.Embedding, "forward", louder),
    ("activations", lambda model: type(decoder_layer(model).activation_fn), "forward", louder),
):

    def set_on_class(model, monkeypatch, kind=kind, method=method, changed=changed):
        replace_in(monkeypatch, kind(model), method, changed)

    slow = None if name in CALLED_AS_THEY_ARE else True
    change(f"{method} of {name}, set on the class", slow=slow)(set_on_class)


@change("attention of the eager kind", matters=False, slow=None)
def _(model, monkeypatch):
    model.set_attn_implementation("eager")


@change("eager_attention_forward of the model's module")
def _(model, monkeypatch):
    model.set_attn_implementation("eager")
    module = sys.modules[type(decoder_layer(model).self_attn).__module__]
    replace_in(monkeypatch, module, "eager_attention_forward")


@change("scaled_dot_product_attention of the model's module")
def _(model, monkeypatch):
    model.set_attn_implementation("eager")
    module = sys.modules[type(decoder_layer(model).self_attn).__module__]
    module = sys.modules[module.eager_attention_forward.__module__]
    replace_in(monkeypatch, module, "scaled_dot_product_attention")


@functools.wraps(sdpa_attention_forward)
def loud_attention(*args, **kwargs):
    return louder(sdpa_attention_forward(*args, **kwargs))


def registered(monkeypatch, name):
    """Register `loud_attention` under `name`, until the test is over."""
    for interface in (AttentionInterface, AttentionMaskInterface):
        monkeypatch.setattr(interface, "_global_mapping", dict(interface._global_mapping))
    AttentionInterface.register(name, loud_attention)
    AttentionMaskInterface.register(name, sdpa_mask)


@change("an attention function of one's own")
def _(model, monkeypatch):
    registered(monkeypatch, "loud")
    model.set_attn_implementation("loud")


@change("an attention function of one's own named sdpa")
def _(model, monkeypatch):
    registered(monkeypatch, "sdpa")


@change("an attention function of one's own in transformers' table")
def _(model, monkeypatch):
    """Where it hides the registered one, without being registered."""
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, "sdpa", loud_attention)


@change("an attention function of one's own named eager")
def _(model, monkeypatch):
    registered(monkeypatch, "eager")
    model.set_attn_implementation("eager")


@change("a mask function of one's own named sdpa")
def _(model, monkeypatch):
    """Sees the first token of the source as padding."""

    def mask(*args, **kwargs):
        made = sdpa_mask(*args, **kwargs)
        if made is not None and kwargs.get("q_length", 0) and made.shape[-1] == 16:
            made = made.clone()
            made[..., 1] = False
        return made

    monkeypatch.setattr(AttentionMaskInterface, "_global_mapping", dict(AttentionMaskInterface._global_mapping))
    AttentionMaskInterface.register("sdpa", mask)


@change("an attention of one layer alone of another kind")
def _(model, monkeypatch):
    registered(monkeypatch, "loud")
    attention = decoder_layer(model).encoder_attn
    config = type(attention.config).from_dict(attention.config.to_dict())
    config._attn_implementation = "loud"
    attention.config = config


@change("one layer twice", slow=None)
def _(model, monkeypatch):
    model.model.encoder.layers[1] = model.model.encoder.layers[0]


@change("a buffer that became a function of the layer", slow=None)
def _(model, monkeypatch):
    """`final_logits_bias` computed at each reading, by a property of a subclass."""
    bias = model.final_logits_bias.clone()

    class Computing(type(model)):
        @property
        def final_logits_bias(self):
            return bias * 3.0

    del model.final_logits_bias
    model.__class__ = Computing
