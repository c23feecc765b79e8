"""How many runs tried a video whose process was ended: it need not happen again, so some more runs try it."""

from __future__ import annotations

from collections.abc import Mapping

from storage.parquet import Footer

MOST_RUNS = 3
"""That try a video by themselves; ``--reprocess`` always does."""
TRIED_IN_RUNS = "tried_in_runs"


def tried_in_runs(tables: Mapping[str, Footer]) -> dict[str, int]:
    """Runs that tried a quarantined video, by its id, as a camera-day's table of videos says.

    Only of those that may be read another time: a file that cannot be is not among them.
    """
    counts = tables["videos"].details.get(TRIED_IN_RUNS, {}) if "videos" in tables else {}
    return {str(video_id): int(runs) for video_id, runs in counts.items()}


def with_outlook(reason: str, runs: int) -> str:
    """The reason of a quarantine with what becomes of the video."""
    if runs < MOST_RUNS:
        return f"{reason}; the next run tries it again ({runs} of {MOST_RUNS} did)"
    return f"{reason}; {runs} runs tried it, and only --reprocess does again"
