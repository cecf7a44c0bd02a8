"""Applies what was drawn, in a worker or on the model's device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from auralflow_core.config.augmentation_groups import AugmentationsConfig
from auralflow_core.data.augment.damage import require_mp3
from auralflow_core.data.augment.draws import MIXTURE, Drawn, Plan, draw_plan, stem_settings
from auralflow_core.data.augment.effects import EFFECTS
from auralflow_core.data.augment.stretch import require_stretch
from auralflow_core.data.drawing import REST

_STREAM = 3  # tells these numbers from what else is drawn for a chunk


class Augmenter:
    """Augments training chunks, each by what its name and the seed say.

    Args:
        config: The settings of `dataset.augmentations`.
        sample_rate: In Hz.
        targets: Names of the targets, in their order.
        seed: `training.random_seed`.

    Raises:
        ConfigError: Something is switched on that cannot work here: its library is not installed, or MP3 has no such
            sample rate.
    """

    def __init__(self, config: AugmentationsConfig, sample_rate: int, targets: Sequence[str], seed: int) -> None:
        self._config = config
        self._sample_rate = sample_rate
        self._seed = seed
        self._stems = {name: stem_settings(config, name) for name in (*targets, REST)}
        self._check()

    @property
    def on_device(self) -> bool:
        """Whether chunks are finished on the model's device, by `finish`."""
        return self._config.device == "model"

    def plan(self, epoch: int, number: int) -> Plan:
        """Return what is drawn for a chunk."""
        return draw_plan(self._config, self._stems, np.random.default_rng([self._seed, epoch, number, _STREAM]))

    def rate(self, plan: Plan) -> float:
        """Return how much of a song becomes a chunk: its tempo, as a multiple of the song's."""
        return next((float(drawn["rate"]) for drawn in plan[REST] if drawn["effect"] == "tempo"), 1.0)

    def __call__(self, parts: Tensor, plan: Plan, frames: int) -> tuple[Tensor, Tensor]:
        """Augment a chunk.

        Args:
            parts: float32 `(part, channel, time)` on the CPU: the targets and the rest, `self.rate(plan)` times as long
                as the chunk or a little more.
            plan: What was drawn.
            frames: Length of the chunk.

        Returns:
            The mixture `(channel, frames)` and the targets `(target, channel, frames)`; where `on_device`, with what
            runs on the CPU alone.
        """
        done = [
            self._apply(part, (drawn for drawn in plan[name] if EFFECTS[drawn["effect"]].on_host))[:, :frames]
            for name, part in zip(self._stems, parts, strict=True)
        ]
        parts = torch.stack(done)
        if self.on_device:
            return parts.sum(0), parts[:-1]
        return self._finish(parts, plan)

    def finish(self, mixture: Tensor, targets: Tensor, plans: Sequence[Plan]) -> tuple[Tensor, Tensor]:
        """Augment a batch that workers began, on the device where it is.

        Args:
            mixture: `(batch, channel, time)`.
            targets: `(batch, target, channel, time)`.
            plans: What was drawn for each chunk.
        """
        parts = torch.cat([targets, (mixture - targets.sum(1)).unsqueeze(1)], dim=1)
        done = [self._finish(chunk, plan) for chunk, plan in zip(parts, plans, strict=True)]
        mixtures, finished = zip(*done, strict=True)
        return torch.stack(mixtures), torch.stack(finished)

    def _finish(self, parts: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
        """Apply what can run anywhere; return the mixture and the targets."""
        done = torch.stack(
            [
                self._apply(part, (drawn for drawn in plan[name] if not EFFECTS[drawn["effect"]].on_host))
                for name, part in zip(self._stems, parts, strict=True)
            ]
        )
        return self._apply(done.sum(0), plan[MIXTURE]), done[:-1]

    def _apply(self, audio: Tensor, effects: Iterable[Drawn]) -> Tensor:
        for drawn in effects:
            values = {name: value for name, value in drawn.items() if name != "effect"}
            audio = EFFECTS[drawn["effect"]].apply(audio, self._sample_rate, **values)
        return audio

    def _check(self) -> None:
        """Refuse now what would fail in the first epoch."""
        used = self._config.used
        if used & {"pitch", "tempo"}:
            require_stretch()
        if "mp3" in used:
            require_mp3(self._sample_rate)
