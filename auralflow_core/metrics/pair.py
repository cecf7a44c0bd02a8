"""References and estimates of one song, handed out in stretches of float64, so that long songs stay in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auralflow_core.errors import DataError

Audio = NDArray[Any] | Tensor


@dataclass(frozen=True)
class Pair:
    """References and estimates `(target, channel, time)` of one shape, and the device that computes on them."""

    references: Audio
    estimates: Audio
    device: torch.device

    @property
    def num_targets(self) -> int:
        """Number of targets."""
        return int(self.references.shape[0])

    @property
    def num_channels(self) -> int:
        """Number of channels."""
        return int(self.references.shape[1])

    @property
    def length(self) -> int:
        """Number of samples."""
        return int(self.references.shape[2])

    def read(self, start: int, stop: int, low: int = 0, high: int | None = None) -> Tensor:
        """Return the samples `[start, stop)` as float64 `(2, target, channel, time)`: references, then estimates.

        What lies outside `[low, high)` or outside the song is zero.
        """
        first, last = max(start, low, 0), min(stop, self.length if high is None else high, self.length)
        shape = (2, self.num_targets, self.num_channels, stop - start)
        if last <= first:
            return torch.zeros(shape, dtype=torch.float64, device=self.device)
        both = torch.empty(shape, dtype=torch.float64, device=self.device)
        both[..., : first - start] = 0
        both[..., last - start :] = 0
        for place, audio in zip(both, (self.references, self.estimates), strict=True):
            place[..., first - start : last - start] = _tensor(audio[..., first:last])
        return both

    def row(self, kind: Literal["references", "estimates"], number: int, start: int, stop: int) -> NDArray[np.float64]:
        """Return one (target, channel) row, flattened, of the references or the estimates as float64 `(time,)`."""
        audio = self.references if kind == "references" else self.estimates
        target, channel = divmod(number, self.num_channels)
        return _tensor(audio[target, channel, start:stop]).cpu().double().numpy()


def pair_of(references: Audio, estimates: Audio) -> Pair:
    """Check that references and estimates belong together.

    Raises:
        DataError: They are not `(target, channel, time)`, differ in shape, or are empty.
    """
    shape, other = tuple(references.shape), tuple(estimates.shape)
    if len(shape) != 3:
        raise DataError(f"references have shape {shape}; expected (target, channel, time)")
    if shape != other:
        raise DataError(
            f"references have shape {shape}, estimates {other}: they must be equal, (target, channel, time); "
            "trim or pad the estimates to the references"
        )
    if 0 in shape:
        raise DataError(f"references have shape {shape}: no audio to score")
    devices = [audio.device for audio in (references, estimates) if isinstance(audio, Tensor)]
    device = devices[0] if devices else torch.device("cpu")
    # Apple's devices have no float64.
    return Pair(references, estimates, torch.device("cpu") if device.type == "mps" else device)


def _tensor(audio: Audio) -> Tensor:
    if isinstance(audio, Tensor):
        return audio.detach()
    # torch warns of an array that it may not write, and refuses steps backwards.
    plain = audio.flags.writeable and min(audio.strides) >= 0
    return torch.from_numpy(audio if plain else np.array(audio))
