"""The learning rate of section 5.3."""

import pytest

from hf_vanilla_transformer.training.schedule import paper_learning_rate, peak_learning_rate, warmup_then_inverse_sqrt


@pytest.mark.parametrize("step", [1, 2, 399, 400, 401, 5000])
def test_rate_is_equation_3(step: int):
    by_hand = 128**-0.5 * min(step**-0.5, step * 400**-1.5)
    assert paper_learning_rate(step, d_model=128, warmup_steps=400) == pytest.approx(by_hand, rel=1e-12)


def test_rate_peaks_at_the_end_of_the_warmup():
    rates = [paper_learning_rate(step, 512, 4000) for step in (3999, 4000, 4001)]
    assert max(rates) == rates[1] == pytest.approx(peak_learning_rate(512, 4000))
    assert warmup_then_inverse_sqrt(4000, 4000) == 1


def test_no_warmup_has_no_peak():
    with pytest.raises(ValueError, match=r"at least 1 warm-up step, got 0.*`warmup_steps`"):
        peak_learning_rate(512, 0)
