"""The empty scene of each lighting regime, from frames of one camera that are spread over its day.

Per pixel the plate is the mode of the samples, at a common brightness. A mode is fooled by an animal that
stays at one spot most of the time, so every sample is then compared with the plate: where a region differs
and its outline lies on edges of the *plate* rather than of the sample, it is the plate that holds the animal,
and it is healed there from the samples in which the place is empty.

Everything is compared as a mean over 3 x 3 pixels; a plate's pixels are such means.
"""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.messages import Plate
from workers.pictures import (
    FIT_STEP,
    Picture,
    distance,
    edges,
    fit_brightness,
    is_infrared,
    outline_share,
    smooth,
)

MIN_REGIME_SAMPLES = 6
"""A regime with fewer samples has no plate of its own."""
DIM_LEVEL = 60.0
"""Colour frames with a mean grey level below this are ``dim``."""
REGIME_RATIO = 1.8
"""Frames of one regime differ in mean level by at most this factor."""
NOISE_FLOOR = 1.5
"""Least noise in grey levels: rounding and compression are never finer."""
SAME_STATE = 6.0
"""Values of a pixel this many grey levels apart are one state of the scene."""
HEAL_ROUNDS = 3
OUTLINE_SHARE = 0.7
"""A thing is in the picture whose edges are the stronger ones on at least this share of its outline."""
MIN_VOTES = 0.03
"""Share of the samples that have to find the plate wrong at a pixel before it is healed."""
LIGHT_GAIN, LIGHT_UNEXPLAINED = 0.5, 0.1
"""A region is the same in another light if a line of at least this gain leaves at most this share unexplained."""
SPECK_CONTRAST = 20.0
"""Pixels that differ from the median of their neighbours by more grey levels are looked at again."""
MIN_STATE = 0.1
"""A state of a pixel counts if this share of the samples has it."""
MIN_THING = 4e-4
"""Least bounding box of a difference that is judged, as a share of the picture."""
MIN_BODY = 2e-3
"""The same where bodies are told from reeds and glitter, whose movement is noise."""

NOISE_RANK, NOISE_SIGMAS = 0.8, 1.28
"""Noise is this quantile of the distances to the plate, which is this many standard deviations."""

_FAINT_REACH = 12
_BAND_ROWS = 24
_KERNEL = np.ones((3, 3), np.uint8)


def build_plates(samples: Picture) -> tuple[Plate, ...]:
    """Build one background plate for each lighting regime of one camera.

    Args:
        samples: RGB frames of one camera-day in the order of time, shape ``(N, H, W, 3)``, N at least 1.

    Returns:
        The plates, the regime with most samples first.

    Raises:
        ValueError: ``samples`` is empty or not of that shape.
    """
    if samples.ndim != 4 or samples.shape[0] < 1 or samples.shape[3] != 3:
        raise ValueError(f"samples must have shape (N, H, W, 3) with N at least 1, got {samples.shape}")
    plates: list[Plate] = []
    names: dict[str, int] = {}
    for name, members in _group_by_regime(samples):
        names[name] = names.get(name, 0) + 1
        regime = name if names[name] == 1 else f"{name}-{names[name]}"
        plates.append(_build_plate(samples[members], regime))
    return tuple(plates)


def _group_by_regime(samples: Picture) -> list[tuple[str, NDArray[np.intp]]]:
    """Name and members of each regime, the largest first."""
    levels = samples[:, ::FIT_STEP, ::FIT_STEP].mean(axis=(1, 2, 3)) + 1.0
    grey = np.array([is_infrared(frame) for frame in samples])
    groups = [
        group for flag in (False, True) for group in _group_by_level(np.flatnonzero(grey == flag), levels)
    ]
    large = [group for group in groups if group.size >= MIN_REGIME_SAMPLES]
    large = large or [np.arange(samples.shape[0])]
    named = []
    for group in sorted(large, key=lambda group: (-group.size, int(group[0]))):
        if np.mean(grey[group]) > 0.5:
            name = "infrared"
        else:
            name = "dim" if float(levels[group].mean()) < DIM_LEVEL else "day"
        named.append((name, np.sort(group)))
    return named


def _group_by_level(members: NDArray[np.intp], levels: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Cut sorted mean levels wherever the next frame is brighter than ``REGIME_RATIO`` times the first."""
    order = members[np.argsort(levels[members], kind="stable")]
    groups: list[NDArray[np.intp]] = []
    start = 0
    for i in range(1, order.size + 1):
        if i == order.size or levels[order[i]] > REGIME_RATIO * levels[order[start]]:
            groups.append(order[start:i])
            start = i
    return groups


def _build_plate(samples: Picture, regime: str) -> Plate:
    smoothed = np.stack([smooth(frame) for frame in samples])
    levels = smoothed[:, ::FIT_STEP, ::FIT_STEP].mean(axis=(1, 2, 3))
    reference = smoothed[np.argsort(levels, kind="stable")[levels.size // 2]].copy()
    for i, frame in enumerate(smoothed):
        smoothed[i] = cv2.LUT(frame, fit_brightness(frame, reference))
    plate = _mode(smoothed)
    for _ in range(HEAL_ROUNDS):
        healed = _heal(plate, smoothed)
        if np.array_equal(healed, plate):
            break
        plate = healed
    plate = _without_specks(plate, smoothed)
    noise = _noise(plate, smoothed)
    digest = hashlib.sha256(plate.tobytes() + np.rint(noise * 16).astype(np.uint16).tobytes()).hexdigest()
    return Plate(plate_id=digest[:16], regime=regime, pixels=plate, noise=noise)


def _mode(smoothed: Picture) -> Picture:
    """Half-sample mode of the grey level per pixel, with the mean colour of the samples near it."""
    plate: Picture = np.empty_like(smoothed[0])
    for top in range(0, plate.shape[0], _BAND_ROWS):
        band = smoothed[:, top : top + _BAND_ROWS].astype(np.float32)
        grey = band.mean(axis=3)
        window = np.sort(grey, axis=0)
        while window.shape[0] > 2:
            half = (window.shape[0] + 1) // 2
            first = np.argmin(window[half - 1 :] - window[: window.shape[0] - half + 1], axis=0)
            window = np.take_along_axis(window, first[None] + np.arange(half)[:, None, None], axis=0)
        centre = window[0]
        near = (np.abs(grey - centre) <= SAME_STATE / 2).astype(np.float32)
        colour = np.einsum("nhwc,nhw->hwc", band, near) / near.sum(axis=0)[..., None]
        plate[top : top + _BAND_ROWS] = np.rint(colour)
    return plate


def _differences(plate: Picture, frame: Picture) -> Picture:
    """Where a frame differs from the plate at its brightness, cleaned of specks, shape ``(H, W)``."""
    apart = distance(plate, frame)
    threshold = max(6.0 * 1.4826 * float(np.median(apart)), 12.0)
    mask = cv2.morphologyEx((apart > threshold).astype(np.uint8), cv2.MORPH_OPEN, _KERNEL)
    closed: Picture = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    return closed


def _verdicts(plate: Picture, frame: Picture, least_size: float = MIN_THING) -> NDArray[np.int8]:
    """Per pixel: 1 the frame holds a thing, -1 the plate does, 2 undecided, 0 they agree."""
    mask = _differences(plate, frame)
    verdict = np.zeros(mask.shape, np.int8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    in_frame, in_plate = edges(frame), edges(plate)
    for contour in contours:
        x, y, w, h = cv2.boundingRect(contour)
        if w * h < least_size * mask.size:
            continue
        window = np.s_[max(y - 2, 0) : y + h + 2, max(x - 2, 0) : x + w + 2]
        filled = np.zeros(mask[window].shape, np.uint8)
        cv2.drawContours(filled, [contour], -1, 1, cv2.FILLED, offset=(-window[1].start, -window[0].start))
        share = outline_share(filled, in_frame[window], in_plate[window])
        value = 1 if share >= OUTLINE_SHARE else -1 if share <= 1.0 - OUTLINE_SHARE else 2
        verdict[window][filled > 0] = value
    return verdict


def _heal(plate: Picture, smoothed: Picture) -> Picture:
    """Replace the regions of which samples say that the plate, not they, holds a thing.

    A region is replaced only if that takes edges away from its outline, and if it is not the same thing in
    another light: a camera that sets its exposure changes bright cloth more than the rest.
    """
    votes = np.stack([_verdicts(plate, frame) == -1 for frame in smoothed])
    wrong = (votes.sum(axis=0) >= max(1, round(MIN_VOTES * votes.shape[0]))).astype(np.uint8)
    rows, columns = np.nonzero(wrong)
    if rows.size == 0:
        return plate
    healed = plate.copy()
    chosen = np.where(votes[:, rows, columns, None], smoothed[:, rows, columns].astype(np.float32), np.nan)
    healed[rows, columns] = np.rint(np.nanmedian(chosen, axis=0))
    before, after = edges(plate), edges(healed)
    count, labels = cv2.connectedComponents(wrong, connectivity=8)
    for label in range(1, count):
        region = labels == label
        band = cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_GRADIENT, _KERNEL) > 0
        same = _same_in_other_light(plate[region], healed[region])
        if same or after[band].mean() >= before[band].mean():
            healed[region] = plate[region]
    return healed


def _same_in_other_light(one: Picture, other: Picture) -> bool:
    """Whether a straight line through the grey levels of one picture explains the other, shape ``(N, 3)`` each.

    The line must rise: bare ground is explained by a flat one, whatever stood there.
    """
    x, y = one.mean(axis=1), other.mean(axis=1)
    x, y = x - x.mean(), y - y.mean()
    gain = float((x * y).sum() / max(float((x * x).sum()), 1e-6))
    unexplained = float(np.square(y - gain * x).sum() / max(float((y * y).sum()), 1e-6))
    return gain >= LIGHT_GAIN and unexplained <= LIGHT_UNEXPLAINED


def _without_specks(plate: Picture, smoothed: Picture) -> Picture:
    """Give pixels that stand out from their neighbours the state of theirs that resembles these most.

    A pixel that is really different has no such state and stays as it is.
    """
    median = cv2.medianBlur(plate, 9)
    rows, columns = np.nonzero(distance(plate, median) > SPECK_CONTRAST)
    values = smoothed[:, rows, columns].astype(np.int16)
    own, around = plate[rows, columns].astype(np.int16), median[rows, columns].astype(np.int16)
    rare = (np.abs(values - own).max(axis=2) <= SAME_STATE).mean(axis=0) < 0.5
    rows, columns, values, own, around = rows[rare], columns[rare], values[:, rare], own[rare], around[rare]
    nearest = np.abs(own - around).max(axis=1)
    for candidate in values:
        common = (np.abs(values - candidate).max(axis=2) <= SAME_STATE).mean(axis=0) >= MIN_STATE
        apart = np.abs(candidate - around).max(axis=1)
        better = common & (apart < nearest)
        own[better], nearest[better] = candidate[better], apart[better]
    cleaned = plate.copy()
    cleaned[rows, columns] = own
    return cleaned


def _noise(plate: Picture, smoothed: Picture) -> NDArray[np.float32]:
    """Robust standard deviation around the plate where no thing stands, shape ``(H, W)``.

    A high percentile rather than the median: reeds and glitter cross a pixel a small part of the time.
    """
    apart = np.stack([distance(plate, frame) for frame in smoothed])
    things = np.stack([_bodies(plate, frame, d) for frame, d in zip(smoothed, apart, strict=True)])
    apart[things] = 255
    counted = (~things).sum(axis=0)
    apart.sort(axis=0)
    rank = np.maximum(np.ceil(NOISE_RANK * counted).astype(np.intp) - 1, 0)
    spread = np.take_along_axis(apart, rank[None], axis=0)[0] / NOISE_SIGMAS
    noise: NDArray[np.float32] = np.where(counted > 0, np.maximum(spread, NOISE_FLOOR), NOISE_FLOOR)
    return noise.astype(np.float32)


def _bodies(plate: Picture, frame: Picture, apart: Picture) -> NDArray[np.bool_]:
    """Pixels of things of a body's size, with the faint parts about them, shape ``(H, W)``."""
    body = (_verdicts(plate, frame, MIN_BODY) > 0).astype(np.uint8)
    if not body.any():
        return body > 0
    reach = np.ones((2 * _FAINT_REACH + 1, 2 * _FAINT_REACH + 1), np.uint8)
    faint = (apart > 3.0 * max(1.4826 * float(np.median(apart)), 1.0)).astype(np.uint8)
    all_parts = body | (faint & cv2.dilate(body, reach))
    return np.asarray(cv2.dilate(all_parts, np.ones((5, 5), np.uint8)) > 0)
