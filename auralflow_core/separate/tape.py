"""The part of a stream that is still needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from auralflow_core.separate.base import Audio


class Tape:
    """Blocks of a stream, found by their place in it; they are held, not copied, until they are forgotten.

    Attributes:
        end: How many frames came in so far.
    """

    def __init__(self) -> None:
        self.end = 0
        self._blocks: deque[tuple[int, Audio]] = deque()

    def append(self, block: Audio) -> None:
        """Add the next block `(channel, frames)`."""
        if block.shape[1]:
            self._blocks.append((self.end, block))
            self.end += block.shape[1]

    def recording(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """Yield blocks and keep them."""
        for block in blocks:
            self.append(block)
            yield block

    def copy_to(self, output: Audio, start: int) -> None:
        """Copy the frames from `start` on into `(channel, frames)`; where the stream has none, nothing is copied."""
        stop = start + output.shape[1]
        for place, block in self._blocks:
            first, last = max(start, place), min(stop, place + block.shape[1])
            if first < last:
                output[:, first - start : last - start] = block[:, first - place : last - place]

    def forget(self, until: int) -> None:
        """Let go of the blocks that end at `until` or before."""
        while self._blocks and self._blocks[0][0] + self._blocks[0][1].shape[1] <= until:
            self._blocks.popleft()
