"""H.264 files with exact timestamps."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray


def encode_mp4(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    size: tuple[int, int],
    fps: int,
    keyint: int,
    crf: int,
    b_frames: int,
) -> int:
    """Write RGB frames of ``size`` (height, width) as H.264; returns how many.

    Frame ``n`` is shown at exactly ``n / fps`` seconds. I-frames lie ``keyint`` frames apart, no scene cuts.
    One encoder thread, so that the bytes depend on the pixels alone.
    """
    height, width = size
    options = {
        "preset": "veryfast", "crf": str(crf), "threads": "1", "bf": str(b_frames),
        "x264-params": f"keyint={keyint}:min-keyint={keyint}:scenecut=0:open-gop=0",
    }  # fmt: skip
    count = 0
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, fps)
        stream.codec_context.thread_count = 1
        for count, rgb in enumerate(frames, start=1):
            frame = av.VideoFrame.from_ndarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), format="yuv420p")
            frame.pts, frame.time_base = count - 1, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return count
