"""Training for so much CPU time, which makes trainings comparable on a machine that does other things too.

Imported by `quality.py` and `defaults.py`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from auralflow_core.trainer import Callback

if TYPE_CHECKING:
    from auralflow_core.config import Config
    from auralflow_core.separate import BaseSeparator
    from auralflow_core.trainer import Step, Trainer

# No other limit, and nothing written but checkpoints.
ENDLESS = {"max_epochs": "100000", "tensorboard": "false", "save_images": "false", "save_audio": "false"}


class Budget:
    """CPU seconds of this process."""

    def __init__(self, minutes: float) -> None:
        self._seconds = 60 * minutes
        self._began = time.process_time()

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return time.process_time() - self._began

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left."""
        return self.spent >= self._seconds


class Deadline(Callback):
    """Lets the step at which the budget is spent be the last one; it counts from the first step on."""

    def __init__(self, minutes: float) -> None:
        self._minutes = minutes
        self.steps, self.cpu_seconds = 0, 0.0

    def on_start(self, trainer: Trainer) -> None:
        """Begin to count."""
        self._budget = Budget(self._minutes)

    def on_step(self, trainer: Trainer, step: Step) -> None:
        """Look at the clock."""
        self.steps, self.cpu_seconds = step.step, self._budget.spent
        if self._budget.is_spent:
            trainer.config = trainer.config.model_copy(update={"max_steps": step.step})


def configured(type_: str, *settings: Mapping[str, str]) -> Config:
    """Return the starting configuration of a model type with some settings, of which later ones win."""
    from auralflow_core.build import default_config
    from auralflow_core.cli.config import change
    from auralflow_core.config import Setting

    merged: dict[str, str] = {}
    for some in settings:
        merged |= some
    data = default_config(type_, "model").model_dump(mode="json")
    return change(data, [Setting(*item) for item in merged.items()])


def train(config: Config, folder: Path, songs: Path, minutes: float) -> Deadline:
    """Train a new model in a folder for so many CPU minutes."""
    from auralflow_core.config import save_config
    from auralflow_core.training import prepare_training

    deadline = Deadline(minutes)
    save_config(config, folder / "config.json")
    prepare_training(config, folder, songs, callbacks=[deadline]).fit()
    return deadline


def scores(separator: BaseSeparator, songs: Path, config: Config) -> tuple[list[float], list[float]]:
    """Return each test song's SDR, and that of its mixture."""
    from auralflow_core.build import open_dataset
    from auralflow_core.evaluate import evaluate

    rows = evaluate(separator, open_dataset(songs, config).songs("test"))
    pairs = [(row["SDR"], row["mixture_SDR"]) for row in rows]
    return [sdr for sdr, _ in pairs], [mixture for _, mixture in pairs]


def settings_of(words: list[str]) -> dict[str, str]:
    """Return `--name value` pairs as settings."""
    return dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2], strict=True))
