"""Section 5.4: label-smoothed cross-entropy, from logits and, without ever holding them all, from hidden states."""

import pytest
import torch
from tiny import SEPARATE_VOCABULARIES, pad_batch, sentences, tiny_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hf_vanilla_transformer.model import loss
from hf_vanilla_transformer.model.loss import chunked_cross_entropy, label_smoothed_cross_entropy

D_MODEL, VOCAB = 16, 31


class Adapted(nn.Linear):
    """A projection that is more than its weight, as LoRA's is."""

    def __init__(self, *sizes: int, bias: bool) -> None:
        super().__init__(*sizes, bias=bias)
        self.adapter = nn.Linear(sizes[0], sizes[1], bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.adapter(x)


def problem(kind: type = nn.Linear, dtype: torch.dtype = torch.float64, bias: bool = False):
    """Hidden states (3, 7, 16), a projection, and labels with -100 at the ends and in the middle."""
    torch.manual_seed(0)
    projection = kind(D_MODEL, VOCAB, bias=bias).to(dtype)
    hidden = torch.randn(3, 7, D_MODEL, dtype=dtype, requires_grad=True)
    labels = torch.randint(0, VOCAB, (3, 7))
    labels[0, 4:], labels[1, 0], labels[2, 3] = -100, -100, -100
    return hidden, projection, labels


def assert_same(loss: torch.Tensor, expected: torch.Tensor, inputs: list[torch.Tensor], tolerance: float) -> None:
    """Equal values and equal gradients, relative to the largest gradient of each input."""
    torch.testing.assert_close(loss, expected, rtol=tolerance, atol=0)
    gradients = torch.autograd.grad(loss, inputs)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=tolerance * wanted.abs().max().item())


# From logits


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_torchs_cross_entropy(smoothing):
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 7, 11, requires_grad=True), torch.randint(0, 11, (3, 7))
    labels[0, 4:] = -100
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=smoothing)

    assert_same(label_smoothed_cross_entropy(logits, labels, smoothing), expected, [logits], 1e-6)


def test_no_real_token_no_loss_and_no_gradient():
    logits = torch.randn(1, 3, 11, requires_grad=True)

    loss = label_smoothed_cross_entropy(logits, torch.full((1, 3), -100), 0.1)
    loss.backward()

    assert loss.item() == 0
    assert not logits.grad.any()


def test_half_precision_logits_are_summed_in_full_precision():
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 50, 1000).to(torch.bfloat16), torch.randint(0, 1000, (1, 50))

    loss = label_smoothed_cross_entropy(logits, labels, 0.1)

    expected = nn.functional.cross_entropy(logits[0].double(), labels[0], label_smoothing=0.1)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


# From hidden states


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", [nn.Linear, Adapted])
@pytest.mark.parametrize("biases", ["none", "own", "logits", "both"])
def test_value_and_gradients_are_those_of_all_logits(dtype, tolerance, smoothing, kind, biases):
    """Also with one token a chunk, and with chunks that do not divide the batch."""
    hidden, projection, labels = problem(kind, dtype, bias=biases in ("own", "both"))
    bias = torch.randn(1, VOCAB, dtype=dtype, requires_grad=True) if biases in ("logits", "both") else None
    inputs = [hidden, *projection.parameters(), *([] if bias is None else [bias])]

    for number_of_items in (None, 40, torch.tensor(40)):
        for chunk_size in (None, 1, 4, 21) if kind is nn.Linear else (None,):
            logits = projection(hidden) if bias is None else projection(hidden) + bias
            expected = label_smoothed_cross_entropy(logits, labels, smoothing, number_of_items)
            loss = chunked_cross_entropy(hidden, projection, labels, smoothing, number_of_items, bias, chunk_size)
            assert loss.dtype == dtype
            assert_same(loss, expected, inputs, tolerance)


@pytest.mark.parametrize("kind", [nn.Linear, Adapted])
def test_no_label_no_loss_and_no_gradient_from_hidden_states(kind):
    hidden, projection, labels = problem(kind)

    loss = chunked_cross_entropy(hidden, projection, torch.full_like(labels, -100), 0.1, chunk_size=4)
    loss.backward()

    assert loss.item() == 0
    assert not hidden.grad.any()
    assert not any(parameter.grad.any() for parameter in projection.parameters())


class LargestTensor(TorchDispatchMode):
    """The most numbers that any result of an operation holds."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


def most_held(kind: type, tokens: int, vocab: int, device: str = "cpu", chunk_size: int | None = None) -> int:
    """The most numbers in one tensor while a loss and its gradients are computed."""
    with torch.device(device):
        hidden, projection = torch.randn(4, tokens // 4, 2, requires_grad=True), kind(2, vocab, bias=False)
        labels = torch.ones(4, tokens // 4, dtype=torch.long)
    with LargestTensor() as largest:
        chunked_cross_entropy(hidden, projection, labels, 0.1, chunk_size=chunk_size).backward()
    return largest.numbers


@pytest.mark.parametrize("kind", [nn.Linear, Adapted])
def test_logits_of_all_tokens_are_never_held(kind):
    assert most_held(kind, tokens=256, vocab=500, chunk_size=16) <= 256 * 500 / 16


@pytest.mark.parametrize(("device", "mebibytes"), [("cpu", 64), ("meta", 512)])
def test_logits_take_as_much_memory_as_is_said(device, mebibytes):
    """A device that is no processor holds those of more tokens at once; "meta" is one that computes nothing."""
    most = mebibytes * 2**20 // 4
    vocab = 32_000
    assert 0.9 * most < most_held(nn.Linear, tokens=most // vocab + 100, vocab=vocab, device=device) <= most


def test_a_vocabulary_of_any_size_is_taken_token_by_token():
    vocab = 2**28
    assert most_held(nn.Linear, tokens=4, vocab=vocab, device="meta") == 2 * vocab  # the weight


def test_frozen_weights_and_no_gradients_at_all():
    hidden, projection, labels = problem()
    expected = label_smoothed_cross_entropy(projection(hidden), labels, 0.1)

    with torch.no_grad():
        assert chunked_cross_entropy(hidden, projection, labels, 0.1).item() == pytest.approx(expected.item())
    projection.requires_grad_(False)
    assert_same(chunked_cross_entropy(hidden, projection, labels, 0.1, chunk_size=4), expected, [hidden], 1e-12)


def test_a_graph_that_is_kept_gives_its_gradient_again_and_no_second_derivative():
    hidden, projection, labels = problem()
    loss = chunked_cross_entropy(hidden, projection, labels, 0.1)

    first, second = (torch.autograd.grad(3 * loss, hidden, retain_graph=True)[0] for _ in range(2))

    assert torch.equal(first, second)
    (gradient,) = torch.autograd.grad(loss**2, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_hooked_or_replaced_forward_is_called():
    """Sharding, offloading and probing work by such means."""
    hidden, projection, labels = problem()
    expected = chunked_cross_entropy(hidden, projection, labels, 0.1)
    twice = label_smoothed_cross_entropy(2 * projection(hidden), labels, 0.1)

    handle = projection.register_forward_hook(lambda module, args, output: 2 * output)
    torch.testing.assert_close(chunked_cross_entropy(hidden, projection, labels, 0.1), twice)
    handle.remove()
    projection.forward = lambda x: 2 * nn.functional.linear(x, projection.weight)
    torch.testing.assert_close(chunked_cross_entropy(hidden, projection, labels, 0.1), twice)
    del projection.forward
    torch.testing.assert_close(chunked_cross_entropy(hidden, projection, labels, 0.1), expected)


def test_a_module_is_called_equally_often_whatever_the_batch():
    """Processes that share a sharded projection wait for each other at every call."""
    calls = []
    projection = nn.Linear(D_MODEL, VOCAB)
    projection.register_forward_hook(lambda *_: calls.append(1))

    counts = []
    for length in (1, 50):
        hidden = torch.randn(2, length, D_MODEL, requires_grad=True)
        chunked_cross_entropy(hidden, projection, torch.ones(2, length, dtype=torch.long)).backward()
        counts.append(len(calls))
        calls.clear()

    assert counts[0] == counts[1]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_under_autocast_the_products_are_in_bf16_and_the_rest_is_not(smoothing):
    hidden, projection, labels = problem(dtype=torch.float32, bias=True)
    inputs = [hidden, *projection.parameters()]
    in_full = label_smoothed_cross_entropy(projection(hidden), labels, smoothing)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = label_smoothed_cross_entropy(projection(hidden), labels, smoothing)
        loss = chunked_cross_entropy(hidden, projection, labels, smoothing, chunk_size=4)

    assert loss.dtype == torch.float32
    assert loss.item() != in_full.item()
    assert_same(loss, expected, inputs, 1e-2)


def test_small_gradients_survive_float16():
    """A trainer scales the loss up, which is too late for gradients that were rounded to 0 before."""
    hidden, projection, labels = problem(dtype=torch.float32)
    bias, scale = torch.zeros(VOCAB), 2**16
    rare = ~torch.isin(torch.arange(VOCAB), labels)
    bias[rare] = -17.0
    expected = label_smoothed_cross_entropy(projection(hidden) + bias, labels)
    (wanted,) = torch.autograd.grad(expected, projection.weight)

    half = hidden.detach().half()
    loss = chunked_cross_entropy(half, projection.half(), labels, logits_bias=bias)
    (gradient,) = torch.autograd.grad(scale * loss, projection.weight)

    tolerance = 0.02 * wanted[rare].abs().max().item()
    torch.testing.assert_close(gradient[rare].float() / scale, wanted[rare], rtol=0, atol=tolerance)


@pytest.mark.parametrize("compiles_own_gradients", [True, False])
def test_compiled_it_gives_the_same(compiles_own_gradients, monkeypatch):
    """Where `torch.compile` loses gradients that a function computes itself, all logits are held."""
    monkeypatch.setattr(loss, "COMPILES_OWN_GRADIENTS", compiles_own_gradients and loss.COMPILES_OWN_GRADIENTS)
    torch.compiler.reset()
    hidden, projection, labels = problem(dtype=torch.float32)
    inputs = [hidden, projection.weight]
    expected = label_smoothed_cross_entropy(projection(hidden), labels, 0.1)

    compiled = torch.compile(chunked_cross_entropy, backend="eager")

    assert_same(compiled(hidden, projection, labels, 0.1, chunk_size=10), expected, inputs, 1e-6)


def test_labels_of_another_length_are_refused():
    hidden, projection, labels = problem()

    with pytest.raises(ValueError, match=r"positions are \(3, 7\) and labels \(3, 6\)"):
        chunked_cross_entropy(hidden, projection, labels[:, :6])


# In the model


def batch() -> dict[str, torch.Tensor]:
    input_ids, attention_mask = pad_batch(sentences([4, 9, 6]))
    labels, _ = pad_batch(sentences([5, 3, 7], seed=1), value=-100)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def loss_and_gradients(model, **inputs) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss = model(**batch(), **inputs).loss
    loss.backward()
    return loss.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    "settings",
    [{}, {"tie_word_embeddings": False}, {"logits_bias": True}, SEPARATE_VOCABULARIES],
    ids=["tied", "untied", "logits_bias", "separate"],
)
@pytest.mark.parametrize("number_of_items", [None, 40])
def test_training_skips_the_logits_and_changes_nothing_else(settings, number_of_items):
    model = tiny_model(dropout=0.0, label_smoothing=0.1, **settings).train()
    if "logits_bias" in settings:
        model.final_logits_bias.normal_()

    assert model(**batch()).logits is None
    loss, gradients = loss_and_gradients(model, num_items_in_batch=number_of_items)
    expected, wanted = loss_and_gradients(model, num_items_in_batch=number_of_items, skip_logits=False)

    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    largest = max(gradient.abs().max().item() for gradient in wanted.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=0, atol=1e-6 * largest, msg=name)


def test_logits_are_there_in_evaluation_without_gradients_and_when_asked_for():
    model = tiny_model(dropout=0.0, label_smoothing=0.1)
    inputs = batch()
    source = {name: value for name, value in inputs.items() if name != "labels"}

    evaluated = model(**inputs)
    assert evaluated.logits.shape == (3, 7, 40)
    without_logits = model(**inputs, skip_logits=True)
    assert without_logits.logits is None
    torch.testing.assert_close(without_logits.loss, evaluated.loss)
    model.train()
    assert model(**inputs, skip_logits=False).logits is not None
    assert model(**source).logits is not None
    assert model(**inputs, logits_to_keep=7).logits is not None
    with torch.no_grad():
        assert model(**inputs).logits is not None


def test_logits_that_cannot_be_skipped_are_an_error():
    model = tiny_model()
    inputs = batch()

    with pytest.raises(ValueError, match="needs `labels`, but none are given"):
        model(input_ids=inputs["input_ids"], skip_logits=True)
    for kept in (2, torch.tensor([0, 3])):
        with pytest.raises(ValueError, match="`logits_to_keep` asks for some"):
            model(**inputs, logits_to_keep=kept, skip_logits=True)


def test_a_model_trains_in_bf16_autocast_without_logits():
    model = tiny_model(dropout=0.0, label_smoothing=0.1).train()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, gradients = loss_and_gradients(model)
        expected, wanted = loss_and_gradients(model, skip_logits=False)

    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=0)
    name = "model.decoder.layers.0.fc1.weight"
    torch.testing.assert_close(gradients[name], wanted[name], rtol=0, atol=0.02 * wanted[name].abs().max().item())


def test_distributed_processes_get_the_gradients_of_all_logits(tmp_path):
    """The weights' gradients pass through the hooks by which DDP averages them."""
    model = tiny_model(dropout=0.0, label_smoothing=0.1).train()
    _, wanted = loss_and_gradients(model, skip_logits=False)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        _, gradients = loss_and_gradients(nn.parallel.DistributedDataParallel(model))
    finally:
        torch.distributed.destroy_process_group()

    for name, gradient in wanted.items():
        torch.testing.assert_close(gradients[f"module.{name}"], gradient, atol=1e-6, rtol=1e-4, msg=name)
