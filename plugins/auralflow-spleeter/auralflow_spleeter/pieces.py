"""Spectrograms cut into the pieces that Spleeter's networks look at, and joined again.

Shapes: B batch, P piece, T target, C channel, F bin, N frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Pieces(NamedTuple):
    """How a spectrogram is cut.

    Attributes:
        frames: Frames of a piece; the last piece is filled with silence.
        bins: Bins that are processed, from the lowest; those above are left out.
        multiple: The bins of a piece are filled with silence to a multiple of this.
    """

    frames: int
    bins: int
    multiple: int = 1

    def cut(self, magnitude: Tensor) -> Tensor:
        """Map `(B, C, F, N)` to pieces `(B * P, C, frames, bins)`: time before frequency, as in Spleeter's kernels."""
        low = magnitude[:, :, : self.bins]
        *_, bins, frames = low.shape
        filled = functional.pad(low, (0, -frames % self.frames, 0, -bins % self.multiple))
        batch, channels, bins, frames = filled.shape
        pieces = filled.reshape(batch, channels, bins, frames // self.frames, self.frames)
        return pieces.permute(0, 3, 1, 4, 2).flatten(0, 1)

    def join(self, masks: Tensor, magnitude: Tensor) -> Tensor:
        """Map the masks of pieces `(B * P, T, C, frames, bins)` to `(B, T, C, bins, N)`, of processed bins alone."""
        batch, _, bins, frames = magnitude.shape
        # (B, P, T, C, frames, bins) -> (B, T, C, bins, P, frames)
        by_item = masks.reshape(batch, -1, *masks.shape[1:]).permute(0, 2, 3, 5, 1, 4)
        return by_item.flatten(-2)[..., : min(bins, self.bins), :frames]

    def mask_windows(self, estimate: Callable[[Tensor], Tensor], windows: Iterable[Tensor]) -> Iterator[Tensor]:
        """Estimate masks of a spectrogram that comes by windows, piece by piece: no more than one piece is held.

        Args:
            estimate: Maps magnitudes `(B, C, F, n)` to masks `(B, T, C, bins, n)`, whose pieces do not know each other.
            windows: Magnitudes `(B, C, F, n)`, successive in time, of any lengths.

        Yields:
            The masks of each window.
        """
        sizes: deque[int] = deque()
        waiting: list[Tensor] = []  # magnitudes of less than a piece
        masks: list[Tensor] = []  # masks of less than a window
        for window in windows:
            sizes.append(window.shape[-1])
            held = torch.cat([*waiting, window], dim=-1)
            whole = held.shape[-1] // self.frames * self.frames
            waiting = [held[..., whole:]]
            if whole:
                masks.append(estimate(held[..., :whole]))
                masks = yield from _given_out(masks, sizes)
        if waiting and waiting[0].shape[-1]:
            masks.append(estimate(waiting[0]))
        yield from _given_out(masks, sizes)


def _given_out(masks: list[Tensor], sizes: deque[int]) -> Generator[Tensor, None, list[Tensor]]:
    """Yield the masks of the windows that are complete, and return the rest."""
    held = torch.cat(masks, dim=-1) if masks else None
    while held is not None and sizes and sizes[0] <= held.shape[-1]:
        size = sizes.popleft()
        yield held[..., :size]
        held = held[..., size:]
    return [] if held is None else [held]
