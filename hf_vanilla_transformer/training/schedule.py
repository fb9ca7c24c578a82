"""The learning rate of section 5.3."""


def paper_learning_rate(step: int, d_model: int, warmup_steps: int) -> float:
    """d_model^-0.5 * min(step^-0.5, step * warmup_steps^-1.5), equation 3.

    Args:
        step: optimizer steps, counted from 1.
        d_model: width of the model.
        warmup_steps: steps of linear growth, at least 1 (the paper: 4,000).
    """
    return peak_learning_rate(d_model, warmup_steps) * warmup_then_inverse_sqrt(step, warmup_steps)


def peak_learning_rate(d_model: int, warmup_steps: int) -> float:
    """The highest rate of equation 3, reached at the end of the warm-up."""
    if warmup_steps < 1:
        raise ValueError(
            f"The paper's learning rate needs at least 1 warm-up step, got {warmup_steps}. Set `warmup_steps`, or "
            "another `lr_scheduler_type` and a `learning_rate`."
        )
    return d_model**-0.5 * warmup_steps**-0.5


def warmup_then_inverse_sqrt(step: int, warmup_steps: int) -> float:
    """The shape of equation 3 with a peak of 1: linear up to `warmup_steps`, then step^-0.5; steps from 1."""
    return min(step / warmup_steps, (warmup_steps / step) ** 0.5)
