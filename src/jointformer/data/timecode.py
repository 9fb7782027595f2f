"""Timecodes (SMPTE 12M), the names of frames by which editing programs find a picture's place: 01:00:59:28."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

_LABEL = re.compile(r"([01]?\d|2[0-3]):([0-5]\d):([0-5]\d)([:;.,])(\d{2,3})", re.ASCII)


def read_timecode(container: Any, stream: Any) -> str | None:
    """The text in which an opened file tells its first frame's timecode, None where it tells none."""
    for place in (stream, *container.streams, container):  # mxf and avi: the file's; mov: its track may stand alone
        for key, text in place.metadata.items():
            if key.lower() == "timecode":
                return str(text)
    return None


def later_timecode(text: str, frames: int, fps: Fraction) -> str | None:
    """The timecode a number of frames after another; None for a text that is none at this rate.

    Frames are counted at the next whole rate. Any separator but a colon before the frame says that labels are dropped,
    at 29.97 and 59.94 frames/s, to keep up with the clock: the first 2 (4) of each minute but every tenth. A day of 24
    hours begins anew.
    """
    label, count = _LABEL.fullmatch(text.strip()), round(fps)
    if label is None:
        return None
    hour, minute, second, frame = (int(label[group]) for group in (1, 2, 3, 5))
    separator = ":" if label[4] == ":" else ";"
    if frame >= count or (separator == ";" and count % 30):
        return None
    dropped = count // 15 if separator == ";" else 0
    minutes = 60 * hour + minute
    number = (60 * minutes + second) * count + frame - dropped * (minutes - minutes // 10)
    one, ten = 60 * count - dropped, 600 * count - 9 * dropped  # frames in a minute with dropped labels, in ten minutes
    tens, rest = divmod((number + frames) % (144 * ten), ten)
    # The first minute of ten has all its labels.
    labels = tens * 600 * count + rest + dropped * max((rest - dropped) // one, 0)
    seconds, frame = divmod(labels, count)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{separator}{frame:02d}"
