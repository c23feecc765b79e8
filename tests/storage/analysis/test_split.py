from __future__ import annotations

import numpy as np
import pytest

from storage.analysis.split import PARTS, part_sizes, split_videos
from storage.errors import SplitError

Counts = dict[str, dict[str, dict[str, int]]]


def videos(number: int, seed: int = 0) -> Counts:
    """Videos that each have a favourite of three behaviours."""
    random = np.random.default_rng(seed)
    counts: Counts = {}
    for k in range(number):
        boxes = random.multinomial(200, random.dirichlet((4, 2, 1))).tolist()
        dynamic = int(random.integers(20, 100))
        counts[f"v{k:03d}"] = {
            "behaviour": dict(zip(("peck", "walk", "fly"), boxes, strict=True)),
            "motion": {"static": 200 - dynamic, "dynamic": dynamic},
        }
    return counts


def test_whole_videos_8_to_1_to_1_within_two_points() -> None:
    counts = videos(60)
    split = split_videos(counts, seed=3)
    assert part_sizes(split) == {"train": 48, "validation": 6, "test": 6}
    assert set(split.part_of) == set(counts)
    assert split.is_balanced
    # The share that it says is the share that there is.
    for part in PARTS:
        inside = [counts[video]["behaviour"] for video, p in split.part_of.items() if p == part]
        fly = sum(one["fly"] for one in inside) / sum(sum(one.values()) for one in inside)
        assert split.shares["behaviour"]["fly"][part] == pytest.approx(fly)
    gaps = {
        name: max(of_part.values()) - min(of_part.values())
        for classes in split.shares.values()
        for name, of_part in classes.items()
    }
    assert split.largest_gap == pytest.approx(max(gaps.values()))
    assert gaps[split.widest] == pytest.approx(split.largest_gap)


def test_the_search_finds_the_one_good_split_and_the_seed_repeats_it() -> None:
    counts: Counts = {f"odd{k}": {"behaviour": {"peck": 10 - k, "fly": k}} for k in range(8)}
    # The rest of the archive has 28 of 80 flights; only these two videos have the same share.
    counts |= {
        "fair1": {"behaviour": {"peck": 26, "fly": 14}},
        "fair2": {"behaviour": {"peck": 13, "fly": 7}},
    }
    split = split_videos(counts, seed=1)
    assert {video for video, part in split.part_of.items() if part != "train"} == {"fair1", "fair2"}
    assert split.largest_gap == pytest.approx(0.0)
    assert split_videos(counts, seed=1) == split


def test_what_cannot_be_balanced_is_said() -> None:
    counts: Counts = {
        f"v{k}": {"behaviour": {"peck": 0 if k else 10, "fly": 10 if k else 0}} for k in range(10)
    }
    split = split_videos(counts, seed=1)
    assert not split.is_balanced
    assert split.largest_gap == pytest.approx(1 / 8)


def test_too_few_videos_are_refused() -> None:
    counts = videos(9) | {"empty": {"behaviour": {"peck": 0}}}
    with pytest.raises(SplitError, match="at least 10 annotated videos, there are 9"):
        split_videos(counts, seed=1)
