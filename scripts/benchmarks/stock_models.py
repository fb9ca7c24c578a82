"""Convert our model to one of `transformers`' own classes, to decode it with its search.

Marian is post-norm, as the paper is; a model with `normalize_before` becomes Pegasus, which is Marian with LayerNorm
before each sub-layer and at the end of each stack.
"""

from typing import Any

FINAL_NORMS = [f"model.{side}.layer_norm.{part}" for side in ("encoder", "decoder") for part in ("weight", "bias")]
TOLERANCE = 1e-3


def to_stock_model(model: Any) -> Any:
    """Convert to a `transformers` class with the same function.

    Raises:
        ValueError: there is no such class.
    """
    from hf_vanilla_transformer import to_marian

    stock = to_pegasus(model) if model.config.normalize_before else to_marian(model)
    require_same_logits(model, stock)
    return stock


def to_pegasus(model: Any) -> Any:
    """Convert by way of Marian, whose weights have the same names except for the last LayerNorm of each stack."""
    from transformers import PegasusConfig, PegasusForConditionalGeneration

    from hf_vanilla_transformer import (
        VanillaTransformerConfig,
        VanillaTransformerForConditionalGeneration,
        to_marian,
    )
    from hf_vanilla_transformer.conversion.marian import sines_first

    weights = model.state_dict()
    norms = {name: weights.pop(name) for name in FINAL_NORMS}
    config = VanillaTransformerConfig.from_dict({**model.config.to_dict(), "normalize_before": False})
    post_norm = VanillaTransformerForConditionalGeneration(config).to(model.dtype)
    post_norm.load_state_dict(weights)
    post_norm.generation_config = model.generation_config
    marian = to_marian(post_norm)
    if config.positional_encoding == "interleaved":
        order = sines_first(config.d_model)
        norms = {name: tensor[order] for name, tensor in norms.items()}
    known = PegasusConfig().to_dict()
    of_marian = {name: value for name, value in marian.config.to_dict().items() if name in known}
    for name in ("model_type", "architectures", "transformers_version"):
        of_marian.pop(name, None)
    pegasus = PegasusForConditionalGeneration(PegasusConfig(**of_marian)).to(model.dtype)
    pegasus.load_state_dict({**marian.state_dict(), **norms})
    pegasus.tie_weights()
    pegasus.generation_config = marian.generation_config
    return pegasus.eval()


def require_same_logits(model: Any, stock: Any) -> None:
    """Check that both models compute the same logits: only then are their speeds comparable."""
    import torch

    torch.manual_seed(0)
    source, target = torch.randint(5, min(200, model.config.vocab_size), (2, 3, 9))
    with torch.inference_mode():
        ours, theirs = (each.eval()(input_ids=source, decoder_input_ids=target).logits for each in (model, stock))
    difference = float((ours - theirs).abs().max())
    assert difference < TOLERANCE, f"{type(stock).__name__} computes something else: logits differ by {difference}"
