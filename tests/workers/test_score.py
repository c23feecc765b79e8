"""What an inference actor makes of the frames of a chunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.checkpoint import embedded_checkpoint
from model.engines.choice import EngineSpec
from workers.detectors import DetectorSpec
from workers.messages import FrameChunk, GridSpan
from workers.score import FrameScorer, ScorerSpec


def test_a_frame_on_which_several_keyframes_fall_is_looked_at_once(tmp_path: Path) -> None:
    csv = tmp_path / "boxes.csv"
    csv.write_text("".join(f"slow.mp4,{second}.0,0.1,0.1,0.5,0.6,1,-1\n" for second in range(3)))
    detector = DetectorSpec("given", boxes_csv=csv, uris=(("slow", "slow.mp4"),))
    scorer = FrameScorer(ScorerSpec(embedded_checkpoint(), detector, "cpu", EngineSpec("torch"), 4, 1, 6))
    # A frame a second: keyframes 0 and 4 show frame 0, 8 to 20 frame 1, 24 to 36 frame 2; 0, 16 and 28 are nearest.
    frame = np.rint(np.arange(38) / 15).astype(np.int64)
    chunk = FrameChunk("slow", 0, np.zeros((38, 54, 96, 3), np.uint8), frame / 1.0, frame)
    found = scorer.score(None, chunk, GridSpan(0, 38), (), behaviour=False)
    assert found.rows.frame.tolist() == [0, 1, 2]
    assert found.looked_at == 3
    rest = scorer.score(
        None, chunk, GridSpan(18, 25), (), behaviour=True
    )  # another keyframe is nearer to each
    assert (len(rest.rows.frame), rest.looked_at) == (0, 0)
    assert rest.rows.p_behaviour.shape == (0, 6)
