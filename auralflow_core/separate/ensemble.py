"""Several separators over one stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import tee
from typing import Literal

import numpy as np

from auralflow_core.errors import ConfigError, did_you_mean
from auralflow_core.separate.base import Audio, BaseSeparator, Notify
from auralflow_core.separate.lockstep import in_step
from auralflow_core.separate.mixture import summing_to_mixture
from auralflow_core.separate.spectral_mean import spectral_mean

Weight = float | Mapping[str, float]


class Ensemble(BaseSeparator):
    """Averages the estimates of several separators, which go through a stream side by side.

    Its targets are those of all of them; a target that only some have is averaged over these.

    Args:
        separators: The separators.
        weights: For each separator its weight, or its weight for each of its targets by name (1 for those left out);
            by default all count alike.
        mode: "waveform" is the mean of the audio; "spectrum" the mean of the magnitudes, with the phase of the mean.
        sum_to_mixture: Whether to spread over the targets what is left of the mixture.

    Raises:
        ConfigError: There is no separator, or the weights do not fit.
    """

    def __init__(
        self,
        separators: Sequence[BaseSeparator],
        weights: Sequence[Weight] | None = None,
        mode: Literal["waveform", "spectrum"] = "waveform",
        *,
        sum_to_mixture: bool = False,
    ) -> None:
        if not separators:
            raise ConfigError("an ensemble needs at least one separator")
        if mode not in ("waveform", "spectrum"):
            raise ConfigError(f"mode: {mode!r} is unknown; use waveform or spectrum")
        self.separators = tuple(separators)
        self._targets = list(dict.fromkeys(name for separator in separators for name in separator.targets))
        self._weights = self._shares([1.0] * len(separators) if weights is None else weights)
        self._mode = mode
        self._sum_to_mixture = sum_to_mixture

    @property
    def targets(self) -> list[str]:
        """Names of all targets, in the order in which the separators have them."""
        return list(self._targets)

    @property
    def sample_rate(self) -> int:
        """The highest of the separators' rates in Hz."""
        return max(separator.sample_rate for separator in self.separators)

    def stream(
        self, blocks: Iterable[Audio], channels: int, sample_rate: int, *, on_fallback: Notify | None = None
    ) -> Iterator[Audio]:
        """Separate a stream; see `BaseSeparator.stream`."""
        separate = partial(self._averaged, channels=channels, sample_rate=sample_rate, on_fallback=on_fallback)
        return summing_to_mixture(blocks, separate) if self._sum_to_mixture else separate(blocks)

    def _averaged(
        self, blocks: Iterable[Audio], channels: int, sample_rate: int, on_fallback: Notify | None
    ) -> Iterator[Audio]:
        copies = tee(blocks, len(self.separators))
        streams = [
            separator.stream(copy, channels, sample_rate, on_fallback=on_fallback)
            for separator, copy in zip(self.separators, copies, strict=True)
        ]
        together = map(self._stacked, in_step(streams))
        if self._mode == "spectrum":
            return spectral_mean(together, self._weights)
        return (_weighted_sum(estimates, self._weights) for estimates in together)

    def _stacked(self, parts: Sequence[Audio]) -> Audio:
        """Return all estimates as `(separator, target, channel, frames)`, zero where a separator lacks a target."""
        stacked = np.zeros((len(parts), len(self._targets), *parts[0].shape[1:]), np.float32)
        for estimates, separator, part in zip(stacked, self.separators, parts, strict=True):
            estimates[[self._targets.index(name) for name in separator.targets]] = part
        return stacked

    def _shares(self, weights: Sequence[Weight]) -> Audio:
        """Return each separator's share of each target, `(separator, target)`; a target's shares sum to one."""
        if len(weights) != len(self.separators):
            raise ConfigError(f"weights: {len(weights)} for {len(self.separators)} separators; give one for each")
        table = np.zeros((len(self.separators), len(self._targets)))
        for row, separator, weight in zip(table, self.separators, weights, strict=True):
            by_target = weight if isinstance(weight, Mapping) else dict.fromkeys(separator.targets, weight)
            for name in by_target:
                if name not in separator.targets:
                    raise ConfigError(
                        f"weights: {name!r} is no target of this separator{did_you_mean(name, separator.targets)} (it "
                        f"has {', '.join(separator.targets)})"
                    )
            for name in separator.targets:
                row[self._targets.index(name)] = by_target.get(name, 1.0)
        sums = table.sum(axis=0)
        if not np.isfinite(table).all() or table.min() < 0 or sums.min() <= 0:
            raise ConfigError(
                f"weights: {list(weights)}; each must be 0 or more, and of each target at least one above 0"
            )
        shares: Audio = (table / sums).astype(np.float32)
        return shares


def _weighted_sum(estimates: Audio, weights: Audio) -> Audio:
    """Return `(target, channel, frames)`."""
    total: Audio = estimates[0] * weights[0][:, None, None]
    for found, weight in zip(estimates[1:], weights[1:], strict=True):
        total += found * weight[:, None, None]
    return total
