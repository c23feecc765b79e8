"""Replay the stages that are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from flows.errors import SettingsError
from flows.nightly.context import open_context
from flows.replay.result import StageReplay
from flows.replay.tables import replay_tables
from flows.settings import Settings


def replay(
    stages: Sequence[str],
    store: str,
    archive: str | None,
    settings: Settings,
    *,
    most_videos: int | None = None,
) -> list[StageReplay]:
    """What each stage says now of what the store holds, in the order given; tables after videos.

    The stages of videos read the archive, and take the stored plates, spans and boxes as they are: a stage is
    compared on what it had, whatever the ones before it would say now.

    Args:
        stages: of ``flows.commands.replay.STAGES``.
        store: of a finished run.
        archive: its videos, on a local disk; None where only tables are replayed.
        settings: of the run.
        most_videos: only so many, by their paths.

    Raises:
        SettingsError: a stage needs the videos, and no archive is named, or none of its videos is in the store.
        StoreNotFoundError: there is no store.
    """
    from flows.replay.videos import OF_VIDEOS, stored_videos

    of_videos = [stage for stage in stages if stage in OF_VIDEOS]
    found: list[StageReplay] = []
    if of_videos:
        if archive is None:
            raise SettingsError(f"{', '.join(of_videos)} need the videos: name them with --archive")
        context = open_context(archive, store, settings)
        videos = stored_videos(context, most_videos)
        if not videos:
            raise SettingsError(f"{archive}: none of its videos is in {store} with the same content")
        found += [OF_VIDEOS[stage](context, videos) for stage in of_videos]
    of_tables = [stage for stage in stages if stage not in OF_VIDEOS]
    return found + (replay_tables(store, settings, of_tables) if of_tables else [])
