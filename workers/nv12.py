"""RGB pictures from the NV12 surfaces of a GPU's video decoder, scaled and converted as swscale does it on a CPU.

The plates of a camera-day are made by swscale, and pictures are held against them: a conversion by the formula of
the standard would be brighter by one to two levels, since swscale's tables are. Tensors only; runs on any device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

BT601 = (104597, 132201, 25675, 53279)
COEFFICIENTS = {
    0: BT601,
    1: (117489, 138438, 13975, 34925),
    2: BT601,
    4: (104448, 132798, 24759, 53109),
    5: BT601,
    6: BT601,
    7: (117579, 136230, 16907, 35559),
    9: (110013, 140363, 12277, 42626),
}
"""Share of V in red, U in blue, U and V in green, in 1/65536 for limited range, by the number of the matrix in ITU-T
H.273: BT.709 (1), FCC, BT.601 (5, 6, and where nothing is said), SMPTE 240M, BT.2020."""
LEFT_SHIFT = 0.25
"""Chroma samples by which H.264 and HEVC place chroma to the left of where it would lie evenly, unless they say."""
ONE = 1 << 16


@dataclass(frozen=True, slots=True)
class Colour:
    """How a stream codes colour."""

    matrix: int = 2
    """Number of the matrix in ITU-T H.273, a key of ``COEFFICIENTS``; 2 where the stream says nothing."""
    is_full_range: bool = False
    """Whether luma spans 0 to 255 instead of 16 to 235."""
    is_chroma_left: bool = True
    """Whether chroma lies at the left of its two pixels, as in H.264 and HEVC, instead of between them."""


def nv12_to_rgb(surface: torch.Tensor, size: tuple[int, int], colour: Colour) -> torch.Tensor:
    """Scale a surface down, bilinearly, and convert it; as swscale does it but for the rounding of its weights.

    Args:
        surface: rows of luma, then rows of U and V in turn, bytes, shape ``(3 / 2 H, W)`` with even H and W.
        size: height and width of the picture, the height less than H and the width at most W: where nothing is
            scaled down swscale computes in other ways.
        colour: how the stream codes it.

    Returns:
        RGB bytes, shape ``(*size, 3)``, on the surface's device.
    """
    height, width = surface.shape[0] * 2 // 3, surface.shape[1]
    if not (size[0] < height and size[1] <= width):
        raise ValueError(f"size must be below {(height, width)}, got {size}")
    luma = surface[:height].float()
    chroma = surface[height:].reshape(height // 2, width // 2, 2).permute(2, 0, 1).float()
    shift = LEFT_SHIFT if colour.is_chroma_left else 0.0
    pairs = (size[1] + 1) // 2  # swscale gives each two pixels one colour
    y = _scaled(luma, (size[0], size[1]), 0.0)
    u, v = _scaled(chroma, (size[0], pairs), shift).repeat_interleave(2, dim=-1)[..., : size[1]]
    return _converted(y, u, v, colour)


def _scaled(plane: torch.Tensor, size: tuple[int, int], shift: float) -> torch.Tensor:
    """Planes ``(..., H, W)`` at another size, rounded to integers."""
    rows = _weights(plane.shape[-2], size[0], 0.0, plane.device)
    columns = _weights(plane.shape[-1], size[1], shift, plane.device)
    return (rows @ (plane @ columns.T) + 0.5).floor().clamp(0, 255).int()


@lru_cache(maxsize=16)
def _weights(source: int, target: int, shift: float, device: torch.device) -> torch.Tensor:
    """Weight of each source sample in each target sample, shape ``(target, source)``.

    A triangle as wide as two target samples (two source samples where it enlarges) around the middle of the target
    sample; what reaches beyond the edge counts for the sample at the edge.
    """
    reach = max(source / target, 1.0)
    weights = np.zeros((target, source))
    for place in range(target):
        centre = (place + 0.5) * source / target - 0.5 + shift
        samples = np.arange(int(np.floor(centre - reach)), int(np.ceil(centre + reach)) + 1)
        triangle = np.maximum(0.0, 1.0 - np.abs(samples - centre) / reach)
        np.add.at(weights[place], samples.clip(0, source - 1), triangle / triangle.sum())
    return torch.from_numpy(weights).float().to(device)


def _converted(y: torch.Tensor, u: torch.Tensor, v: torch.Tensor, colour: Colour) -> torch.Tensor:
    """RGB bytes of integer planes: the tables of swscale (``ff_yuv2rgb_c_init_tables``), computed.

    It counts the share of chroma in whole steps of luma, and rounds its black level down with its tables' start.
    """
    v_red, u_blue, u_green, v_green = COEFFICIENTS[colour.matrix]
    if colour.is_full_range:
        step, black, start = ONE, 0, 384
        v_red, u_blue, u_green, v_green = (c * 224 // 255 for c in (v_red, u_blue, u_green, v_green))
    else:
        step, black, start = ONE * 255 // 219, 16 * ONE, 326

    def steps(plane: torch.Tensor, share: int) -> torch.Tensor:
        per_sample = int((share * ONE + ONE // 2) / step)
        return (plane * per_sample >> 16) - (per_sample >> 9)

    def level(luma: torch.Tensor) -> torch.Tensor:
        return ((luma + start) * step - 384 * ONE - black + ONE // 2 >> 16).clamp(0, 255)

    red, blue = level(y + steps(v, v_red)), level(y + steps(u, u_blue))
    green = level(y + steps(u, -u_green) + steps(v, -v_green))
    return torch.stack((red, green, blue), -1).to(torch.uint8)
