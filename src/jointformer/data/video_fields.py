"""Interlaced frames -> whole pictures: camcorders and television take a frame's rows in two fields, at two moments."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, Generic, TypeVar

import av

from jointformer.errors import DataError

T = TypeVar("T")


def is_interlaced(frame: Any, stream: Any) -> bool:
    """Whether a decoded frame holds two fields. Of HEVC that is said to be interlaced each frame is a single one."""
    return bool(frame.interlaced_frame) and stream.codec_context.name != "hevc"


def whole_pictures(frames: Iterable[tuple[T, Any]], stream: Any) -> Iterator[tuple[T, Any]]:
    """The (tag, decoded frame or error) as they come, with whole pictures in place of interlaced frames.

    A whole picture shows the moment of its first field. The other's rows come from both, from the frame before and the
    next one; it is the same wherever decoding began, if that was a frame earlier. Frames that are not interlaced stay
    as they are, and nothing is held back where there are no others.
    """
    fields: _Fields[T] | None = None
    before: Any = None
    for tag, frame in frames:
        readable = not isinstance(frame, DataError)
        if before is not None and not (readable and _alike(before, frame)):
            if fields is not None:
                yield from fields.rest()
            fields = before = None
        if readable and fields is None and is_interlaced(frame, stream):
            fields = _Fields(frame, before)
        if fields is None:
            yield tag, frame
        else:
            yield from fields.add(tag, frame)
        before = frame if readable else None
    if fields is not None:
        yield from fields.rest()


class _Fields(Generic[T]):
    """FFmpeg's bwdif from the first interlaced frame on; `before`: the frame before that, which was given already."""

    def __init__(self, first: Any, before: Any) -> None:
        self._graph: Any = av.filter.Graph()
        source = self._graph.add_buffer(template=first, time_base=Fraction(1))
        deinterlacer = self._graph.add("bwdif", mode="send_frame", deint="interlaced")
        self._graph.link_nodes(source, deinterlacer, self._graph.add("buffersink")).configure()
        self._tags: deque[T] = deque()
        self._given = 0
        if before is not None:
            self._graph.push(before)
            self._given = 1

    def add(self, tag: T, frame: Any) -> Iterator[tuple[T, Any]]:
        """The pictures that are whole now that this frame has come: its own follows with the next."""
        self._tags.append(tag)
        self._graph.push(frame)
        yield from self._made()

    def rest(self) -> Iterator[tuple[T, Any]]:
        """The picture of the last frame, which has no next one."""
        self._graph.push(None)
        yield from self._made()

    def _made(self) -> Iterator[tuple[T, Any]]:
        while True:
            try:
                picture = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            if self._given:
                self._given -= 1
            else:
                yield self._tags.popleft(), picture


def _alike(one: Any, other: Any) -> bool:
    return (one.width, one.height, one.format.name) == (other.width, other.height, other.format.name)
