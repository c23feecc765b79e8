"""Background plates of a camera-day as one ``.npz`` object, without pickle."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.errors import CorruptObjectError


@dataclass(frozen=True, slots=True, eq=False)
class PlateRecord:
    """The empty scene of one camera under one lighting regime."""

    plate_id: str
    regime: str
    pixels: NDArray[np.uint8]
    """RGB, shape ``(H, W, 3)``."""
    noise: NDArray[np.float32]
    """Robust standard deviation of the grey level, shape ``(H, W)``."""
    made_of: str = ""
    """Digest of the recordings that it was made of."""


def plates_to_bytes(plates: Sequence[PlateRecord]) -> bytes:
    """The object's bytes; equal plates give equal bytes."""
    index = json.dumps([[plate.plate_id, plate.regime, plate.made_of] for plate in plates])
    arrays: dict[str, NDArray[np.generic]] = {"index": np.frombuffer(index.encode(), np.uint8)}
    for number, plate in enumerate(plates):
        arrays[f"pixels_{number}"] = plate.pixels
        arrays[f"noise_{number}"] = plate.noise
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def plates_from_bytes(data: bytes, name: str) -> tuple[PlateRecord, ...]:
    """The plates of an object.

    Args:
        data: the object.
        name: where it is, for the message of an error.

    Raises:
        CorruptObjectError: these are no plates.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            index = json.loads(arrays["index"].tobytes())
            return tuple(
                PlateRecord(plate_id, regime, arrays[f"pixels_{number}"], arrays[f"noise_{number}"], *made_of)
                for number, (plate_id, regime, *made_of) in enumerate(index)
            )
    # RuntimeError: a flipped bit that says compressed or encrypted otherwise.
    except (ValueError, KeyError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise CorruptObjectError(f"{name}: holds no background plates: {error}") from error
