"""Decode: the frames of a video's 15 Hz grid, once, in order, scaled inside the decoder."""

from __future__ import annotations

from workers.pyav_reader import decode_iframes

__all__ = ["decode_iframes"]
