"""What doctor says of NVDEC."""

from __future__ import annotations

import pytest

from flows.doctor import _nvdec
from workers import nvdec


def test_nvdec_is_described_or_the_reason_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvdec, "is_installed", lambda: False)
    assert _nvdec().status == "ok"
    assert "not installed" in _nvdec().detail
    monkeypatch.setattr(nvdec, "is_installed", lambda: True)
    sizes = {"h264": 4096, "hevc": 8192}
    able = {codec: {"width_max": w, "height_max": w, "num_decoder_engines": 7} for codec, w in sizes.items()}
    monkeypatch.setattr(nvdec, "_capabilities", able.__getitem__)
    assert _nvdec().detail == "h264 up to 4096x4096, hevc up to 8192x8192; 7 engines"

    def broken(codec: str) -> dict[str, int]:
        raise nvdec.NvdecError("the driver is too old")

    monkeypatch.setattr(nvdec, "_capabilities", broken)
    assert _nvdec().status == "note"
    assert _nvdec().detail.endswith("leaves all to the processors: the driver is too old")
