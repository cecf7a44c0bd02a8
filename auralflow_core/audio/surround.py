"""The order of loudspeakers: signals here have WAV's; Vorbis and Opus have their own.

libsndfile does not change between the two, so surround would come out of other speakers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Vorbis I specification, section 4.3.9: for each channel of Vorbis its place in WAV.
_VORBIS = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 4, 5, 3),
    7: (0, 2, 1, 5, 6, 4, 3),
    8: (0, 2, 1, 6, 7, 4, 5, 3),
}


def to_vorbis_order(block: NDArray[Any]) -> NDArray[Any]:
    """Return frames `(time, channel)` in the order of Vorbis, which counts more than two channels otherwise."""
    order = _VORBIS.get(block.shape[1])
    return block if order is None else block[:, list(order)]


def from_vorbis_order(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return frames `(time, channel)` of Vorbis in the order of WAV."""
    order = _VORBIS.get(block.shape[1])
    return block if order is None else np.ascontiguousarray(block[:, np.argsort(order)])
