"""Finds H.264 pictures that need not be decoded: not shown, and no other refers to them."""

import bisect
import collections
import math
from collections.abc import Iterable, Iterator, Sequence

import av

# The packets before and after that of a picture which are searched for the picture displayed next:
# pictures are coded out of order.
_NEAR = 8
# Seconds by which a moment may differ from the time of a picture and still count as equal.
_ROUNDING = 1e-6


def skipping(
    packets: Iterable[av.Packet], stream: av.VideoStream, moments: Sequence[float]
) -> Iterator[av.Packet]:
    """Packets of a stream. Before each is yielded, the decoder is told whether its picture may be
    left out.

    An H.264 picture says whether others refer to it. A picture that no other refers to, and that is
    not on display at any moment, can be left out without changing the others.

    Args:
      packets: in the order of decoding.
      stream: of the packets; its decoder is told.
      moments: time stamps in seconds, in order.
    """
    tick = float(stream.time_base)
    waiting: collections.deque[tuple[av.Packet, float | None]] = collections.deque()
    near: collections.deque[float] = collections.deque(maxlen=2 * _NEAR)
    first = math.inf

    def told() -> av.Packet:
        packet, time = waiting.popleft()
        needed = time is None or _seen(time, near, first, moments)
        stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
        return packet

    for packet in packets:
        time = None if packet.pts is None else packet.pts * tick
        waiting.append((packet, time))
        if time is not None:
            near.append(time)
            first = min(first, time)
        if len(waiting) > _NEAR:
            yield told()
    while waiting:
        yield told()


def _seen(time: float, near: Iterable[float], first: float, moments: Sequence[float]) -> bool:
    """Whether the picture of a time may be on display at a moment."""
    following = min((other for other in near if other > time), default=None)
    # The first picture is on display at all moments before it too.
    if following is None or (time == first and moments[0] < following + _ROUNDING):
        return True
    place = bisect.bisect_left(moments, time - _ROUNDING)
    return place < len(moments) and moments[place] < following + _ROUNDING
