"""The two sinusoidal encodings that the page compares (section 3.5), in plain Python."""

import math

from .contents import Array


def interleaved(positions: int, d_model: int) -> Array:
    """The paper's: PE(pos, 2i) = sin(pos / 10000^(2i / d_model)), PE(pos, 2i + 1) = cos(...); (positions, d_model)."""
    half = d_model // 2
    values = []
    for position in range(positions):
        for i in range(half):
            angle = position / 10000 ** (2 * i / d_model)
            values += [math.sin(angle), math.cos(angle)]
    return Array((positions, 2 * half), values)


def two_halves(positions: int, d_model: int) -> Array:
    """Tensor2Tensor's: sines, then cosines, the range of wavelengths divided by d_model / 2 - 1."""
    half = d_model // 2
    values = []
    for position in range(positions):
        angles = [position / 10000 ** (i / max(half - 1, 1)) for i in range(half)]
        values += [*map(math.sin, angles), *map(math.cos, angles)]
    return Array((positions, 2 * half), values)
