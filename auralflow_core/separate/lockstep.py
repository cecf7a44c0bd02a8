"""Several streams of estimates, taken evenly."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from auralflow_core.separate.base import Audio


def in_step(streams: Sequence[Iterator[Audio]]) -> Iterator[list[Audio]]:
    """Yield what streams of equal length have at the same time; the one that lags is pulled.

    Args:
        streams: Each yields `(..., frames)`; they are closed at the end.

    Yields:
        For each stream as many frames as for the others.
    """
    filled = [(block for block in stream if block.shape[-1]) for stream in streams]
    try:
        held = [block for stream in filled for block in islice(stream, 1)]
        while len(held) == len(streams):
            frames = min(block.shape[-1] for block in held)
            yield [block[..., :frames] for block in held]
            held = [
                rest
                for block, stream in zip(held, filled, strict=True)
                for rest in ([block[..., frames:]] if block.shape[-1] > frames else islice(stream, 1))
            ]
        assert not held, "the streams differ in length"
    finally:
        for stream in streams:
            if isinstance(stream, Generator):
                stream.close()


def without_first(blocks: Iterable[Audio], frames: int) -> Iterator[Audio]:
    """Yield blocks `(..., frames)` without the first frames of the stream."""
    left = frames
    for block in blocks:
        if block.shape[-1] > left:
            yield block[..., left:]
        left = max(0, left - block.shape[-1])


def regrouped(blocks: Iterable[Audio], frames: int) -> Iterator[Audio]:
    """Yield blocks `(..., frames)` whose lengths are multiples of a number of frames, the last one's aside."""
    rest: Audio | None = None
    for block in blocks:
        joined = block if rest is None or not rest.shape[-1] else np.concatenate([rest, block], axis=-1)
        whole = joined.shape[-1] // frames * frames
        if whole:
            yield joined[..., :whole]
        rest = joined[..., whole:]
    if rest is not None and rest.shape[-1]:
        yield rest
