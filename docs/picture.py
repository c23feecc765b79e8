"""Draw README's picture: ``python docs/picture.py demo docs/result.png``, after ``make demo``.

One frame of each of the first two cameras, with the boxes, individuals and behaviours that a run found.
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.settings import CONFIGS, load_ethogram
from storage import Store

GREY, WHITE = (120, 120, 120), (255, 255, 255)
FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.36)


def main(demo: Path, picture: Path) -> None:
    """Draw the picture from a demo's folder."""
    store = Store(demo / "store")
    videos = store.videos().query("status == 'done'")
    frames = [
        annotated(demo / "reserve" / "archive" / row.uri, row.video_id, store)
        for row in videos.drop_duplicates("camera").head(2).itertuples()
    ]
    picture.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(picture), np.hstack(frames))


def annotated(path: Path, video_id: str, store: Store) -> NDArray[np.uint8]:
    """The frame of a video with the most individuals, with what was found in it, as BGR."""
    boxes = store.detections().query("video_id == @video_id")
    tracks = store.tracks().query("video_id == @video_id")
    boxes = boxes.assign(row=boxes.groupby("video_id").cumcount()).merge(
        tracks, on=["video_id", "row", "frame"]
    )
    frame = int(boxes.groupby("frame").size().idxmax())
    shown = boxes[boxes["frame"] == frame]
    events = store.events(states=True)
    start = store.videos().set_index("video_id").loc[video_id, "start_time"]
    image = read_frame(path, frame)
    colours = {b.name: b.colour for b in load_ethogram(CONFIGS / "ethogram_crane.yaml").behaviours}
    for box in shown.itertuples():
        moment = start + pd.Timedelta(seconds=box.time_s)
        own = events[events["individual_id"] == box.individual_id]
        now = own[(own["start_time"] <= moment) & (own["end_time"] > moment)]
        state = "unscored" if now.empty else str(now.iloc[0]["behaviour"])
        draw(image, box, f"{box.individual_id[:3]} {state}", bgr(colours.get(state)))
    return image


def read_frame(path: Path, index: int) -> NDArray[np.uint8]:
    """One frame as BGR."""
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == index:
                return np.ascontiguousarray(frame.to_ndarray(format="bgr24"))
    raise ValueError(f"{path} has no frame {index}")


def draw(image: NDArray[np.uint8], box: object, text: str, colour: tuple[int, int, int]) -> None:
    """A box with its label."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (
        round(getattr(box, name) * size)
        for name, size in zip(("x1", "y1", "x2", "y2"), (width, height) * 2, strict=True)
    )
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, 1, cv2.LINE_AA)
    (wide, high), _ = cv2.getTextSize(text, *FONT, 1)
    left, bottom = max(0, min(x1, width - wide - 4)), max(y1, high + 6)
    cv2.rectangle(image, (left, bottom - high - 6), (left + wide + 4, bottom), colour, cv2.FILLED)
    cv2.putText(image, text, (left + 2, bottom - 3), *FONT, WHITE, 1, cv2.LINE_AA)


def bgr(colour: str | None) -> tuple[int, int, int]:
    """``#rrggbb`` as OpenCV wants it."""
    if colour is None:
        return GREY
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return blue, green, red


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
