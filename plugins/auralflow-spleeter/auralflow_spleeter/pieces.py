"""Spectrograms cut into the pieces that Spleeter's networks look at, and joined again.

Shapes: B batch, P piece, T target, C channel, F bin, N frame.
"""

from __future__ import annotations

from typing import NamedTuple

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
