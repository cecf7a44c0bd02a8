"""What everything that separates offers: its targets, a stream, and a call on arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auralflow_core.errors import AudioError

Audio = NDArray[np.float32]
AnyAudio = TypeVar("AnyAudio", Tensor, NDArray[Any])
Notify = Callable[[str], object]

_BLOCK_SECONDS = 1.0


class BaseSeparator(ABC):
    """Separates audio of any length, rate and channel count; a subclass says how a stream is separated."""

    @property
    @abstractmethod
    def targets(self) -> list[str]:
        """Names of the estimated targets, in the order of the target axis."""

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Rate in Hz that needs no conversion."""

    @abstractmethod
    def stream(
        self, blocks: Iterable[Audio], channels: int, sample_rate: int, *, on_fallback: Notify | None = None
    ) -> Iterator[Audio]:
        """Separate a stream; the blocks are taken by the thread that iterates.

        Args:
            blocks: float32 `(channel, frames)`, each of any length; they are kept for a while, so do not change them.
            channels: Channels of the stream.
            sample_rate: In Hz.
            on_fallback: Told, in a sentence, when an accelerator's memory did not suffice and what was done.

        Yields:
            `(target, channel, frames)`, together as many frames as came in. They do not depend on the blocks' lengths.
        """

    def __call__(
        self,
        audio: AnyAudio,
        sample_rate: int,
        *,
        progress: Callable[[float], object] | None = None,
        on_fallback: Notify | None = None,
    ) -> AnyAudio:
        """Separate a whole signal.

        Args:
            audio: Floating point in [-1, 1], `(channel, time)`, a tensor or an array.
            sample_rate: In Hz.
            progress: Called with the seconds done so far.
            on_fallback: See `stream`.

        Returns:
            float32 `(target, channel, time)` of the same length and rate, a tensor on the same device or an array.

        Raises:
            AudioError: The signal has another shape or holds integers.
        """
        samples = audio.detach().cpu().numpy() if isinstance(audio, Tensor) else audio
        if samples.ndim != 2 or not np.issubdtype(samples.dtype, np.floating):
            raise AudioError(
                f"cannot separate {samples.dtype} of shape {samples.shape}; pass floating point in [-1, 1], "
                "(channel, time)"
            )
        channels, frames = samples.shape
        size = max(1, round(_BLOCK_SECONDS * sample_rate))
        blocks = (samples[:, at : at + size].astype(np.float32, copy=False) for at in range(0, frames, size))
        estimates = np.empty((len(self.targets), channels, frames), np.float32)
        done = 0
        for block in self.stream(blocks, channels, sample_rate, on_fallback=on_fallback):
            estimates[..., done : done + block.shape[-1]] = block
            done += block.shape[-1]
            if progress:
                progress(done / sample_rate)
        assert done == frames
        return torch.from_numpy(estimates).to(audio.device) if isinstance(audio, Tensor) else estimates
