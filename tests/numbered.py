"""Small videos whose every frame shows its own number, so that a decoded picture says which frame it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

BITS = 9
HEIGHT, WIDTH = 96, 160


def draw_number(number: int, height: int, width: int) -> NDArray[np.uint8]:
    """A grey ramp with a row of bars, white for the ones of the number's binary digits."""
    ramp = 60 + np.arange(width) * 60 // width
    picture = np.repeat(ramp[None, :, None], height, axis=0).repeat(3, axis=2).astype(np.uint8)
    for bit in range(BITS):
        columns = slice(width * bit // BITS + 2, width * (bit + 1) // BITS - 2)
        picture[height // 4 : 3 * height // 4, columns] = 255 if number >> bit & 1 else 0
    return picture


def read_number(picture: NDArray[np.uint8]) -> int:
    """The number of a decoded picture, upright and of any size."""
    row = picture[picture.shape[0] // 2]
    centres = ((np.arange(BITS) + 0.5) * picture.shape[1] / BITS).astype(int)
    return sum(int(row[column].mean() > 127) << bit for bit, column in enumerate(centres))


def write_video(
    path: Path,
    frames: int = 60,
    *,
    codec: str = "libx264",
    rate: Fraction | int = 30,
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (HEIGHT, WIDTH),
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    times_ms: Callable[[int], int] | None = None,
    metadata: Mapping[str, str] | None = None,
    first: int = 0,
) -> Path:
    """Write a video of the frames numbered from ``first``; the I-frames are 15 apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", container_options=dict(container_options or {})) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *size, pixel_format
        stream.options = {"g": "15", "sc_threshold": "0", **(options or {})}
        stream.codec_context.thread_count = 1
        if times_ms is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(first, first + frames):
            frame = av.VideoFrame.from_ndarray(draw_number(number, *size), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms(number), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
