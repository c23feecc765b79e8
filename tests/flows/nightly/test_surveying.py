"""Surveying a camera-day: plates that cannot be read are made again."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from flows.nightly import surveying
from flows.nightly.context import open_context
from flows.nightly.plan import DayPlan
from flows.settings import Settings
from storage.layout import CameraDay, plates_path
from workers.messages import Plate


def test_damaged_plates_are_made_again_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Plate("new", "day", np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), np.float32))
    monkeypatch.setattr(surveying, "_new_plates", lambda *_: (made,))
    context = open_context(str(tmp_path), str(tmp_path / "store"), Settings())
    day = CameraDay("marsh", "east", dt.date(2026, 3, 1))
    context.catalog.fs.write_atomic(plates_path(day), b"damaged")
    plan = DayPlan(day, (), (), (), ())
    plates = surveying._plates(context, plan, (4, 6))
    assert plates == (made,)
    assert f"{plates_path(day)}: holds no background plates" in capsys.readouterr().err
    assert [plate.plate_id for plate in context.catalog.read_plates(day) or ()] == ["new"]
    surveying._plates(context, plan, (4, 6))
    assert capsys.readouterr().err == ""
