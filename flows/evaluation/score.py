"""How well a store agrees with the truth of a simulated archive.

A found box counts where it belongs to an individual of the taxon. True boxes that are mostly hidden or
mostly outside the frame, and those of birds that never move, are not asked for: to miss one is no error, and
what was found there is set aside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flows.evaluation.comparison import (
    MIN_IOU,
    Comparison,
    compare,
    frame_boxes,
    identity_boxes,
    number_by_video_id,
    take_boxes,
    video_numbers,
    with_images,
)
from flows.evaluation.truth import Truth, read_truth
from model.metrics import MeanAveragePrecision, frame_map, instance_map
from storage.analysis.identity import (
    IdentityAgreement,
    Ints,
    best_pairs,
    box_agreement,
    identity_agreement,
    match_boxes,
)
from storage.queries import Store


def score_store(store: Store, truth_dir: Path, true_boxes: pd.DataFrame | None = None) -> dict[str, Any]:
    """All scores of a store.

    Args:
        store: what was found.
        truth_dir: the folder ``truth`` that ``aviaflow simulate`` writes.
        true_boxes: detections (columns of that table) that the model made on the true boxes, without which
            ``frame_map_true`` and ``paper_map`` are None.

    Returns:
        The keys of ``aviaflow score --json``; a score without anything to score is None.

    Raises:
        TruthMissingError: the truth is incomplete.
    """
    truth = read_truth(truth_dir)
    videos = store.videos()
    number = video_numbers(truth, videos)
    compared = compare(store, truth, number)
    agreement = identity_agreement(compared.asked(), compared.tracked(), MIN_IOU)
    boxes = box_agreement(compared.asked(), compared.tracked(), MIN_IOU)
    events = store.events()
    partner = {compared.persons[t]: compared.individuals[f] for t, f in agreement.partner.items()}
    detected = detected_map(compared)
    bouts = _counted_bouts(compared, truth, events)
    result: dict[str, Any] = {
        "box_recall": boxes.recall,
        "box_precision": boxes.precision,
        "idf1": agreement.idf1,
        "idf1_flight": flight_agreement(compared).idf1,
        "time_budget_similarity": time_budget_similarity(*bouts, partner, compared.behaviours),
        "frame_map_detected": detected.mean,
        "frame_map_true": None,
        "paper_map": None,
        "bout_f1": bout_f1(*bouts, partner),
        "true_seconds": _seconds_by_behaviour(bouts[0], compared.behaviours),
        "never_moving": never_moving(compared),
        "per_class": {"frame_map_detected": detected.per_class},
    }
    if true_boxes is not None:
        on_true = with_images(true_boxes, number_by_video_id(number, videos))
        frame_true, paper = true_box_maps(compared, on_true)
        result |= {"frame_map_true": frame_true.mean, "paper_map": paper.mean}
        result["per_class"] |= {"frame_map_true": frame_true.per_class, "paper_map": paper.per_class}
    return {key: _without_nan(value) for key, value in result.items()}


def flight_agreement(compared: Comparison) -> IdentityAgreement:
    """IDF1 of birds in flight: of the true boxes of flight and of the found boxes that match one of them."""
    flight = compared.behaviours.index("flight") + 1 if "flight" in compared.behaviours else 0
    true, found = compared.asked(), compared.tracked()
    label = compared.true.loc[compared.true["asked"] & compared.true["moves"], "label"].to_numpy()
    i, j = match_boxes(true, found, MIN_IOU)
    return identity_agreement(
        take_boxes(true, np.flatnonzero(label == flight)), take_boxes(found, j[label[i] == flight]), MIN_IOU
    )


def never_moving(compared: Comparison) -> dict[str, Any]:
    """Birds that never move, counted apart: how many, and how many of their boxes were found."""
    still = compared.true[compared.true["asked"] & ~compared.true["moves"]]
    tracked = identity_boxes(compared.found[compared.found["identity"] >= 0])
    found = box_agreement(identity_boxes(still), tracked, MIN_IOU)
    return {"individuals": int(still["identity"].nunique()), "boxes": found.true, "box_recall": found.recall}


def _counted_bouts(
    compared: Comparison, truth: Truth, events: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """True and found bouts of the individuals that count, with ``who`` in place of their identity's name.

    Not counted are birds that never move, birds of which most boxes are not asked for, and what was found of those.
    """
    not_asked = _mostly(~compared.true["asked"], compared.true["person"])
    uncounted = truth.never_moving | not_asked
    true = truth.events[~truth.events["person"].isin(uncounted)].rename(columns={"person": "who"})
    tracked = compared.found[compared.found["identity"] >= 0]
    aside = _mostly(tracked["set_aside"], tracked["individual_id"])
    found = events[~events["individual_id"].isin(aside)].rename(columns={"individual_id": "who"})
    return true, found


def _mostly(holds: pd.Series[bool], who: pd.Series[str]) -> frozenset[str]:
    """Those for whom it holds in more than half of their rows."""
    share = holds.groupby(who).mean()
    return frozenset(share.index[share > 0.5].astype(str))


def time_budget_similarity(
    true: pd.DataFrame, found: pd.DataFrame, partner: Mapping[str, str], behaviours: tuple[str, ...]
) -> dict[str, float]:
    """The smaller over the larger of found and true seconds, weighted by the larger, over individuals.

    That is the sum of the smaller ones over the sum of the larger ones; who has no partner has 0 on the other
    side. ``partner`` is the found individual of each true one.
    """
    pairs = found.assign(who=found["who"].map({f: t for t, f in partner.items()}).fillna("/" + found["who"]))
    seconds = pd.concat(
        [frame.groupby(["behaviour", "who"])["duration_s"].sum() for frame in (true, pairs)], axis=1
    )
    seconds = seconds.fillna(0.0)
    sums = pd.DataFrame({"smaller": seconds.min(axis=1), "larger": seconds.max(axis=1)})
    by_behaviour = sums.groupby(level="behaviour").sum().reindex(list(behaviours), fill_value=0.0)
    by_behaviour.loc["overall"] = sums.sum()
    shares = by_behaviour["smaller"] / by_behaviour["larger"].where(by_behaviour["larger"] > 0)
    return {str(name): float(value) for name, value in shares.items()}


def bout_f1(true: pd.DataFrame, found: pd.DataFrame, partner: Mapping[str, str]) -> float:
    """F1 of bouts: right where partners do the same during at least half of their joint time."""
    total = len(true) + len(found)
    if not total:
        return float("nan")
    hits = 0
    found_by, true_by = found.groupby(["who", "behaviour"]), true.groupby(["who", "behaviour"])
    found_groups = found_by.groups
    for (person, behaviour), group in true_by:
        key = (partner.get(str(person)), behaviour)
        if key in found_groups:
            hits += len(_overlapping(group, found_by.get_group(key))[0])
    return 2 * hits / total


def _overlapping(true: pd.DataFrame, found: pd.DataFrame) -> tuple[Ints, Ints]:
    """One-to-one pairs of bouts with a temporal IoU of at least ``MIN_IOU``."""
    start_t, end_t = (
        true[c].to_numpy("datetime64[us]").astype(np.int64)[:, None] for c in ("start_time", "end_time")
    )
    start_f, end_f = (
        found[c].to_numpy("datetime64[us]").astype(np.int64)[None] for c in ("start_time", "end_time")
    )
    shared = np.maximum(np.minimum(end_t, end_f) - np.maximum(start_t, start_f), 0)
    iou = shared / np.maximum(np.maximum(end_t, end_f) - np.minimum(start_t, start_f), 1)
    i, j = np.nonzero(iou >= MIN_IOU)
    return best_pairs(i.astype(np.int64), j.astype(np.int64), 1000.0 + iou[i, j])


def detected_map(compared: Comparison) -> MeanAveragePrecision:
    """Frame-mAP with the found boxes, whether or not they belong to an individual."""
    true = compared.true[compared.true["asked"] & compared.true["moves"]]
    return _frame_map(true, compared.found[~compared.found["set_aside"]], compared.behaviours)


def true_box_maps(
    compared: Comparison, on_true: pd.DataFrame
) -> tuple[MeanAveragePrecision, MeanAveragePrecision]:
    """Frame-mAP and the paper's mAP over instances, of scores that were made on the true boxes."""
    true = compared.true[compared.true["asked"]]
    boxes = on_true.assign(identity=0)
    i, j = match_boxes(identity_boxes(true), identity_boxes(boxes), 0.9)
    columns = [f"p_{name}" for name in compared.behaviours]
    probabilities = np.zeros((len(true), len(columns)))  # an instance without a score was not recognised
    probabilities[i] = np.nan_to_num(on_true[columns].to_numpy(np.float64)[j])
    labels = true["label"].to_numpy()[:, None] == np.arange(1, len(columns) + 1)
    return (
        _frame_map(true, on_true.iloc[j], compared.behaviours),
        instance_map(probabilities, labels, compared.behaviours),
    )


def _frame_map(true: pd.DataFrame, found: pd.DataFrame, behaviours: tuple[str, ...]) -> MeanAveragePrecision:
    true_boxes = {
        name: frame_boxes(true[true["label"] == label]) for label, name in enumerate(behaviours, start=1)
    }
    scored = {name: found[found[f"p_{name}"].notna()] for name in behaviours}
    found_boxes = {
        name: (frame_boxes(rows), rows[f"p_{name}"].to_numpy(np.float64)) for name, rows in scored.items()
    }
    return frame_map(true_boxes, found_boxes, MIN_IOU)


def describe_score(scores: Mapping[str, Any]) -> str:
    """The scores as a text for people."""
    lines = [
        f"{'box recall':<24}{_shown(scores['box_recall'])}",
        f"{'box precision':<24}{_shown(scores['box_precision'])}",
        f"{'identity (IDF1)':<24}{_shown(scores['idf1'])}, in flight {_shown(scores['idf1_flight'])}",
        f"{'bouts (F1)':<24}{_shown(scores['bout_f1'])}",
    ]
    for key, name in (
        ("paper_map", "mAP, true boxes"),
        ("frame_map_true", "frame-mAP, true boxes"),
        ("frame_map_detected", "frame-mAP, found boxes"),
    ):
        lines.append(f"{name:<24}{_shown(scores[key])}")
    still = scores["never_moving"]
    lines.append(
        f"{'birds that never move':<24}{still['individuals']}, counted apart; "
        f"box recall {_shown(still['box_recall'])}"
    )
    lines.append("")
    lines.append(f"{'time budget':<24}{'similarity':>10}{'true seconds':>14}")
    for behaviour, seconds in scores["true_seconds"].items():
        similarity = _shown(scores["time_budget_similarity"][behaviour])
        lines.append(f"{behaviour:<24}{similarity:>10}{seconds:>14.1f}")
    lines.append(f"{'overall':<24}{_shown(scores['time_budget_similarity']['overall']):>10}")
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _seconds_by_behaviour(bouts: pd.DataFrame, behaviours: tuple[str, ...]) -> dict[str, float]:
    seconds = bouts.groupby("behaviour")["duration_s"].sum().reindex(list(behaviours), fill_value=0.0)
    return {str(name): float(value) for name, value in seconds.items()}


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: what has no value is None."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
