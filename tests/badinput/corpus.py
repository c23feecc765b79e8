"""All cases, in the order of the table."""

from __future__ import annotations

from tests.badinput.archives import ARCHIVES
from tests.badinput.damaged import DAMAGED_VIDEOS
from tests.badinput.unusual import UNUSUAL_VIDEOS

CASES = [*DAMAGED_VIDEOS, *UNUSUAL_VIDEOS, *ARCHIVES]
