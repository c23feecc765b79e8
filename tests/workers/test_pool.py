"""Inference actors that camera-days share: whom a chunk may go to, and who may have one for itself."""

from __future__ import annotations

from unittest.mock import MagicMock

from workers.pool import CHUNKS_AT_ONCE, ActorPool, SharedActors


def pools(actors: int, camera_days: int = 2) -> list[ActorPool]:
    shared = SharedActors([MagicMock()] * actors)
    return [ActorPool(shared) for _ in range(camera_days)]


def test_chunks_go_to_the_least_loaded_actor_until_there_is_no_room() -> None:
    pool, _ = pools(2)
    places = [pool.reserve() for _ in range(2 * CHUNKS_AT_ONCE)]
    assert places == [0, 1] * CHUNKS_AT_ONCE
    assert not pool.has_room
    assert pool.reserve() is None
    pool.returned(1)
    assert pool.has_room
    assert pool.reserve() == 1


def test_an_actor_that_another_camera_day_took_for_itself_after_there_was_room_gets_no_chunk() -> None:
    pool, other = pools(1)
    assert pool.has_room
    assert other.free_one() is None  # has claimed it, and asks where it is
    assert pool.reserve() is None
    other.share_all()
    assert pool.reserve() == 0


def test_an_actor_is_nobodys_own_while_a_place_of_it_is_reserved() -> None:
    pool, other = pools(1)
    assert other.reserve() == 0
    assert pool.free_one() is None
    assert pool.waits_for_others
    assert not pool.answers  # it is not even asked where it is
    other.close()
    assert not pool.waits_for_others
    assert pool.free_one() is None
    assert pool.answers  # now it is
