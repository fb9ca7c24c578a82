"""Cross-entropy with label smoothing (section 5.4), from logits or, using less memory, from hidden states.

The logits of a batch are by far the largest tensor of a training step: 4,096 tokens with a vocabulary of 37,000 take
600 MB in float32, and a loss computed from them holds several tensors of that size. `chunked_cross_entropy` computes
the loss and gradients of a few hundred tokens at a time instead; both functions give the same numbers. The chunked
form of torch's `linear_cross_entropy` supports neither label smoothing nor autocast, and is slower on CPUs.

Shapes use: batch, target_len, tokens, d_model, vocab.
"""

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from .devices import on_accelerator

_IGNORED = -100
_LOGITS_AT_ONCE = 2**24  # 64 MiB in float32: hundreds of tokens of a large vocabulary, all of a small one
_LOGITS_AT_ONCE_ON_ACCELERATOR = 2**27  # 512 MiB: smaller matrix products leave most of the device idle
_PIECES = 16

COMPILES_OWN_GRADIENTS = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13)
"""`torch.compile` of torch 2.11 loses the gradient of hidden states that `_LinearCrossEntropy` computes; with such
versions, compiled training holds all logits."""


def label_smoothed_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    label_smoothing: float = 0.0,
    num_items_in_batch: int | torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropy with the target distribution (1 - eps) one-hot + eps / vocab (section 5.4), over real tokens.

    Args:
        logits: (batch, target_len, vocab).
        labels: (batch, target_len); -100 marks positions to ignore. Not shifted: labels[i] is for logits[i].
        label_smoothing: eps, in [0, 1).
        num_items_in_batch: number of real target tokens in the whole batch of one optimizer step. The loss is the sum
            over tokens divided by it, so that gradients do not depend on how the batch is split. Defaults to the
            number of real tokens in `labels`.

    Returns:
        A scalar in nats per token; float32, or float64 if the logits are.
    """
    total = _sum_over_tokens(logits.flatten(0, 1), labels.flatten(), label_smoothing)
    return total / _divisor(labels, num_items_in_batch)


def chunked_cross_entropy(
    hidden_states: torch.Tensor,
    projection: nn.Module,
    labels: torch.Tensor,
    label_smoothing: float = 0.0,
    num_items_in_batch: int | torch.Tensor | None = None,
    logits_bias: torch.Tensor | None = None,
    chunk_size: int | None = None,
) -> torch.Tensor:
    """`label_smoothed_cross_entropy(projection(hidden_states) + logits_bias, ...)`, without ever holding all logits.

    For a plain `nn.Linear`, gradients are computed chunk by chunk along with the loss, at no extra cost. Any other
    projection (LoRA, quantised, sharded, hooked) is called on pieces of the batch, and once more for the gradients.
    So is a linear one in float16, whose gradients would underflow before the trainer's scaling reaches them.

    Args:
        hidden_states: the decoder's output, (batch, target_len, d_model).
        projection: maps d_model to vocab.
        labels, label_smoothing, num_items_in_batch: as in `label_smoothed_cross_entropy`.
        logits_bias: added to the logits, one number for each token of the vocabulary.
        chunk_size: number of tokens whose logits a plain `nn.Linear` computes at once. Defaults to as many as fit
            into 64 MiB of float32, or 512 MiB on an accelerator.

    Returns:
        A scalar in nats per token; float32, or float64 if the logits would be.

    Raises:
        ValueError: the shape of `labels` differs from that of `hidden_states`.
    """
    if hidden_states.shape[:-1] != labels.shape:
        raise ValueError(
            f"Every position of the decoder needs a label, but positions are {tuple(hidden_states.shape[:-1])} and "
            f"labels {tuple(labels.shape)} (batch, length). Pass labels as long as the decoder's inputs."
        )
    hidden = hidden_states.flatten(0, 1)
    targets = labels.flatten().to(hidden.device)
    bias = None if logits_bias is None else logits_bias.flatten()
    if torch.compiler.is_compiling() and not COMPILES_OWN_GRADIENTS:
        total = _sum_of_logits(hidden, projection, bias, targets, label_smoothing)
    elif _is_plain_linear(projection) and _matmul_dtype(hidden) != torch.float16:
        total = _sum_through_weight(hidden, projection, bias, targets, label_smoothing, chunk_size)
    else:
        total = _sum_through_module(hidden, projection, bias, targets, label_smoothing)
    return total / _divisor(targets, num_items_in_batch)


def _sum_over_tokens(logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    return nn.functional.cross_entropy(
        logits.to(_full_precision(logits)),
        targets,
        ignore_index=_IGNORED,
        label_smoothing=label_smoothing,
        reduction="sum",
    )


def _divisor(labels: torch.Tensor, num_items_in_batch: int | torch.Tensor | None) -> int | torch.Tensor:
    return labels.ne(_IGNORED).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch


def _full_precision(x: torch.Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


# A plain linear projection: its gradients are computed along with the loss, chunk by chunk


def _is_plain_linear(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a module does nothing but multiply by the tensor at its `weight` and add the one at its `bias`."""
    return (
        type(module) is nn.Linear
        and type(module.weight) in (nn.Parameter, torch.Tensor)
        and "forward" not in vars(module)
        and not (module._forward_hooks or module._forward_pre_hooks)
        and not (module._backward_hooks or module._backward_pre_hooks)
    )


def _matmul_dtype(x: torch.Tensor) -> torch.dtype:
    """The dtype in which `nn.functional.linear` would multiply `x` here."""
    device = x.device.type
    if x.dtype == torch.float64 or not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return x.dtype
    return torch.get_autocast_dtype(device)


def _sum_through_weight(
    hidden: torch.Tensor,
    projection: nn.Linear,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    label_smoothing: float,
    chunk_size: int | None,
) -> torch.Tensor:
    weight: torch.Tensor = projection.weight
    if projection.bias is not None:
        bias = projection.bias if bias is None else projection.bias + bias
    if not torch.is_grad_enabled():
        hidden, weight, bias = hidden.detach(), weight.detach(), None if bias is None else bias.detach()
    # ignored tokens add nothing to the weight's gradient and pass no gradient back
    hidden = hidden.masked_fill(targets.eq(_IGNORED)[:, None], 0.0)
    chunk_size = chunk_size or _chunk_size(weight.shape[0], hidden.device)
    return _LinearCrossEntropy.apply(hidden, weight, bias, targets, label_smoothing, chunk_size, _matmul_dtype(hidden))


def _chunk_size(vocab: int, device: torch.device) -> int:
    """Number of tokens whose logits are held at once."""
    logits = _LOGITS_AT_ONCE_ON_ACCELERATOR if on_accelerator(device) else _LOGITS_AT_ONCE
    return max(logits // vocab, 1)


class _LinearCrossEntropy(torch.autograd.Function):
    """Summed loss of hidden states (tokens, d_model) under a weight (vocab, d_model) and a bias (vocab,) or None."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        label_smoothing: float,
        chunk_size: int,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        total = hidden.new_zeros((), dtype=torch.promote_types(dtype, torch.float32))
        gradients = _Gradients(hidden, weight, bias, ctx.needs_input_grad)
        weight = weight.to(dtype)
        for start in range(0, hidden.shape[0], chunk_size):
            chunk, labels = hidden[start : start + chunk_size].to(dtype), targets[start : start + chunk_size]
            log_probabilities = _log_probabilities(chunk, weight, bias, total.dtype)
            total += _sum_of_losses(log_probabilities, labels, label_smoothing)
            if any(ctx.needs_input_grad):
                of_logits = _gradient_of_logits(log_probabilities, labels, label_smoothing, dtype)
                gradients.add(start, chunk, weight, of_logits, labels.ne(_IGNORED))
                del of_logits
            del log_probabilities  # makes room for the next chunk's
        ctx.save_for_backward(gradients.hidden, gradients.weight, gradients.bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients = [None if saved is None else saved * grad.to(saved.dtype) for saved in ctx.saved_tensors]
        return (*gradients, None, None, None, None)


def _log_probabilities(
    chunk: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype
) -> torch.Tensor:
    """Log-probabilities of all tokens of the vocabulary, (chunk, vocab), in the full precision `dtype`."""
    if chunk.is_cuda and torch.version.cuda and chunk.dtype != dtype:
        logits = torch.mm(chunk, weight.T, out_dtype=dtype)  # without rounding in between
    else:
        logits = (chunk @ weight.T).to(dtype)
    return (logits if bias is None else logits.add_(bias)).log_softmax(-1)


def _sum_of_losses(log_probabilities: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    total = nn.functional.nll_loss(log_probabilities, labels, ignore_index=_IGNORED, reduction="sum")
    if label_smoothing:
        uniform = -log_probabilities.mean(-1).masked_fill(labels.eq(_IGNORED), 0.0).sum()
        total = (1 - label_smoothing) * total + label_smoothing * uniform
    return total


def _gradient_of_logits(
    log_probabilities: torch.Tensor, labels: torch.Tensor, label_smoothing: float, dtype: torch.dtype
) -> torch.Tensor:
    """Softmax minus the target distribution; arbitrary for ignored tokens.

    Args:
        log_probabilities: of a chunk, (chunk, vocab); their memory is reused.
        dtype: dtype of the result.
    """
    index = labels.clamp(min=0)[:, None]
    gradient = log_probabilities.exp_()
    gradient.scatter_add_(1, index, gradient.new_full(index.shape, label_smoothing - 1))
    rounded = gradient if gradient.dtype == dtype else torch.empty_like(gradient, dtype=dtype)
    return torch.sub(gradient, label_smoothing / gradient.shape[-1], out=rounded)


class _Gradients:
    """The gradients of hidden states, weight and bias, as needed; summed at full precision."""

    def __init__(
        self, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, needed: Sequence[bool]
    ) -> None:
        self.hidden = torch.empty_like(hidden) if needed[0] else None
        self.weight = torch.zeros_like(weight, dtype=_full_precision(weight)) if needed[1] else None
        self.bias = torch.zeros_like(bias, dtype=_full_precision(bias)) if needed[2] and bias is not None else None

    def add(
        self, start: int, chunk: torch.Tensor, weight: torch.Tensor, of_logits: torch.Tensor, real: torch.Tensor
    ) -> None:
        """Add the contribution of the tokens from `start` on.

        Args:
            chunk: hidden states, (chunk, d_model), 0 for ignored tokens.
            of_logits: gradient of the logits, (chunk, vocab).
            real: True for tokens that are not ignored, (chunk,).
        """
        if self.bias is not None:
            self.bias += real.to(of_logits.dtype) @ of_logits
        if self.hidden is not None:
            self.hidden[start : start + len(chunk)] = of_logits @ weight
        if self.weight is not None and self.weight.dtype == chunk.dtype:
            self.weight.addmm_(of_logits.T, chunk)
        elif self.weight is not None:
            self.weight += of_logits.T @ chunk


# Any other projection: pieces of the batch, whose logits are recomputed for the gradients


def _sum_of_logits(
    hidden: torch.Tensor,
    projection: nn.Module,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    label_smoothing: float,
) -> torch.Tensor:
    logits = projection(hidden)  # (tokens, vocab)
    logits = logits if bias is None else logits + bias
    return _sum_over_tokens(logits, targets.to(logits.device), label_smoothing)


def _sum_through_module(
    hidden: torch.Tensor,
    projection: nn.Module,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    label_smoothing: float,
) -> torch.Tensor:
    def sum_of_piece(piece: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return _sum_of_logits(piece, projection, bias, labels, label_smoothing)

    # a fixed number of pieces: processes that share a sharded projection must call it equally often
    pieces = zip(hidden.tensor_split(_PIECES), targets.tensor_split(_PIECES), strict=True)
    return torch.stack([checkpoint(sum_of_piece, *piece, use_reentrant=False) for piece in pieces]).sum()
