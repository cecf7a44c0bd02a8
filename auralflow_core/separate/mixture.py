"""Stems that add up to the mixture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from auralflow_core.separate.base import Audio
from auralflow_core.separate.lockstep import regrouped
from auralflow_core.separate.tape import Tape

_CELL = 2048
_SILENCE = 1e-10  # -100 dBFS, below which all targets share alike


def summing_to_mixture(
    blocks: Iterable[Audio], separate: Callable[[Iterable[Audio]], Iterator[Audio]]
) -> Iterator[Audio]:
    """Separate a stream, and spread over the targets what their estimates leave of the mixture.

    Each target gets a share like its share of the energy of all targets in the last 2048 frames or so: what is left
    over hides best where something sounds, and a silent target stays silent. The shares are the same for all channels,
    which keeps the leftover's place in the stereo image, and move linearly over 2048 frames.

    Args:
        blocks: The mixture `(channel, frames)`.
        separate: Gives the estimates `(target, channel, frames)` of such blocks.

    Yields:
        `(target, channel, frames)`, whose sum over the targets is the mixture but for rounding.
    """
    tape = Tape()
    place = 0
    last: Audio | None = None
    for estimates in regrouped(separate(tape.recording(blocks)), _CELL):
        leftover = -estimates.sum(axis=0)
        mixture = np.empty_like(leftover)
        tape.copy_to(mixture, place)
        leftover += mixture
        place += mixture.shape[-1]
        tape.forget(place)
        shares = _shares(estimates)
        before = np.concatenate([shares[:, :1] if last is None else last, shares[:, :-1]], axis=1)
        last = shares[:, -1:]
        yield estimates + _ramps(before, shares)[:, None, : mixture.shape[-1]] * leftover


def _shares(estimates: Audio) -> Audio:
    """Return each target's share of the energy in each cell, `(target, cell)`."""
    frames = estimates.shape[-1]
    padded = np.pad(estimates, ((0, 0), (0, 0), (0, -frames % _CELL)))
    cells = padded.reshape(*padded.shape[:2], -1, _CELL)
    energies = np.square(cells).sum(axis=-1).sum(axis=1) + np.float32(_CELL * _SILENCE)
    shares: Audio = energies / energies.sum(axis=0)
    return shares


def _ramps(before: Audio, after: Audio) -> Audio:
    """Return straight lines from one share to the next, `(target, time)`."""
    rise = np.arange(1, _CELL + 1, dtype=np.float32) / _CELL
    ramps = (before[..., None] + (after - before)[..., None] * rise).reshape(len(after), -1)
    return ramps.astype(np.float32, copy=False)
