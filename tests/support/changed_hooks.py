"""Modules that are reparametrised, quantised or hooked: one table of such changes."""

import copy
import warnings
from collections import OrderedDict

import pytest
import torch
from changes import Times, decoder_layer, encoder_layer, louder, table
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

CHANGES, change = table()


# Parametrisations and quantisers


@change("a parametrisation")
def _(model, monkeypatch):
    parametrize.register_parametrization(decoder_layer(model).fc1, "weight", Times(1.5))


@change("a parametrisation of a layer norm", slow=None)
def _(model, monkeypatch):
    parametrize.register_parametrization(decoder_layer(model, 1).final_layer_norm, "weight", Times(1.5))


@change("weight normalisation")
def _(model, monkeypatch):
    parametrizations.weight_norm(decoder_layer(model).fc1)
    decoder_layer(model).fc1.parametrizations.weight.original0.data.mul_(1.5)


@change("weight normalisation of the older kind")
def _(model, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(decoder_layer(model).fc1)
    decoder_layer(model).fc1.weight_g.data.mul_(1.5)


@change("spectral normalisation")
def _(model, monkeypatch):
    torch.manual_seed(0)
    parametrizations.spectral_norm(encoder_layer(model).self_attn.v_proj)


@change("pruning")
def _(model, monkeypatch):
    torch.manual_seed(0)
    prune.random_unstructured(encoder_layer(model).fc2, "weight", 0.5)


@change("pruning made permanent", slow=None)
def _(model, monkeypatch):
    torch.manual_seed(0)
    prune.random_unstructured(encoder_layer(model).fc2, "weight", 0.5)
    prune.remove(encoder_layer(model).fc2, "weight")


class Doubling(torch.Tensor):
    """A weight whose products are twice as large, as quantisers' weights multiply in a way of their own."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        output = super().__torch_function__(function, types, args, kwargs or {})
        if function is nn.functional.linear:
            return output.as_subclass(torch.Tensor) * 2.0
        return output


@change("a weight that is a tensor of another kind")
def _(model, monkeypatch):
    fc1 = decoder_layer(model, 1).fc1
    fc1.weight = nn.Parameter(fc1.weight.detach().as_subclass(Doubling), requires_grad=False)


def quantised(model, which, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that these will move
        return torch.ao.quantization.quantize_dynamic(model, which, dtype=dtype)


def with_an_outlier(layer, bias, by):
    """One output so large that 8 bits leave little of the others, and a bias that keeps it from being heard."""
    layer.weight.data[-1] *= by
    bias.data.flatten()[-1] = -1e4


# the inputs' range of 8 bits is that of a whole tensor, so that each way of batching rounds in its own
ROUGHLY = {"tolerance": 0.05}


@change("all linear layers in int8", tolerance=0.15)
def _(model, monkeypatch):
    with_an_outlier(model.lm_head, model.final_logits_bias, 8.0)
    for layer in model.model.decoder.layers:
        with_an_outlier(layer.fc1, layer.fc1.bias, 50.0)
    return quantised(model, {nn.Linear}, torch.qint8)


@change("lm_head in int8", **ROUGHLY)
def _(model, monkeypatch):
    with_an_outlier(model.lm_head, model.final_logits_bias, 8.0)
    return quantised(model, {"lm_head"}, torch.qint8)


@change("the first fc1 in int8", **ROUGHLY)
def _(model, monkeypatch):
    with_an_outlier(decoder_layer(model).fc1, decoder_layer(model).fc1.bias, 150.0)
    return quantised(model, {"model.decoder.layers.0.fc1"}, torch.qint8)


@change("the last fc1 in int8", **ROUGHLY)
def _(model, monkeypatch):
    with_an_outlier(decoder_layer(model, 1).fc1, decoder_layer(model, 1).fc1.bias, 70.0)
    return quantised(model, {"model.decoder.layers.1.fc1"}, torch.qint8)


@change("all linear layers in float16, rounded coarsely before")
def _(model, monkeypatch):
    for module in model.modules():
        if type(module) is nn.Linear:
            module.weight.data = (module.weight.data * 8).round() / 8
    return quantised(model, {nn.Linear}, torch.float16)


@change("int8 weights of torchao")
def _(model, monkeypatch):
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())


# Hooks

HOOKED = {
    "fc1": lambda model: decoder_layer(model).fc1,
    "v_proj": lambda model: encoder_layer(model).self_attn.v_proj,
    "a layer": lambda model: encoder_layer(model),
    "an attention": lambda model: decoder_layer(model).encoder_attn,
    "lm_head": lambda model: model.lm_head,
    "the encoder's embedding": lambda model: model.model.encoder.embed_tokens,
    "the decoder's embedding": lambda model: model.model.decoder.embed_tokens,
    "the positions": lambda model: model.model.decoder.embed_positions,
    "an activation": lambda model: encoder_layer(model).activation_fn,
    "the encoder": lambda model: model.model.encoder,
}

for name, part in HOOKED.items():

    def hook(model, monkeypatch, part=part):
        part(model).register_forward_hook(lambda module, args, output: louder(output))

    change(f"a hook on {name}")(hook)


@change("a hook on every linear layer")
def _(model, monkeypatch):
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda module, args, output: louder(output, 1.1))


@change("a hook on the whole model")
def _(model, monkeypatch):
    def sharpen(module, args, output):
        output.logits = output.logits * 1.5
        return output

    model.register_forward_hook(sharpen)


@change("a hook before a module")
def _(model, monkeypatch):
    decoder_layer(model).fc1.register_forward_pre_hook(lambda module, args: (args[0] * 1.5,))


@change("a hook that takes keyword arguments")
def _(model, monkeypatch):
    decoder_layer(model).encoder_attn.register_forward_hook(
        lambda module, args, kwargs, output: louder(output), with_kwargs=True
    )


@change("a hook before a module that takes keyword arguments")
def _(model, monkeypatch):
    def quieten(module, args, kwargs):
        return args, {**kwargs, "key_value_states": kwargs["key_value_states"] * 0.5}

    decoder_layer(model).encoder_attn.register_forward_pre_hook(quieten, with_kwargs=True)


def without_global_hooks(monkeypatch, name):
    """Let global hooks be registered in a table of their own, which goes when the test is over."""
    monkeypatch.setattr(torch.nn.modules.module, name, OrderedDict())


@change("a global hook")
def _(model, monkeypatch):
    without_global_hooks(monkeypatch, "_global_forward_hooks")
    torch.nn.modules.module.register_module_forward_hook(
        lambda module, args, output: output * 1.1 if isinstance(module, nn.Linear) else None
    )


@change("a global hook before modules")
def _(model, monkeypatch):
    without_global_hooks(monkeypatch, "_global_forward_pre_hooks")
    torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, args: (args[0] * 1.1,) if isinstance(module, nn.Linear) else None
    )


@change("a hook of accelerate")
def _(model, monkeypatch):
    hooks = pytest.importorskip("accelerate.hooks", reason="accelerate is not installed")

    class Louder(hooks.ModelHook):
        def post_forward(self, module, output):
            return louder(output)

    hooks.add_hook_to_module(decoder_layer(model).fc1, Louder())


@change("the idle hooks that a call for attention weights leaves", matters=False, slow=False)
def _(model, monkeypatch):
    ids = torch.tensor([[5, 6, 2]])
    model(input_ids=ids, decoder_input_ids=ids, output_attentions=True, output_hidden_states=True)
    assert any(module._forward_hooks for module in model.modules())


@change("a hook on a deep copy's original", matters=False, slow=False)
def _(model, monkeypatch):
    changed = copy.deepcopy(model)
    decoder_layer(model).fc1.register_forward_hook(lambda module, args, output: louder(output))
    return changed
