"""Runs of Weights & Biases: losses, learning rate, scores, audio and spectrograms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import wandb
from matplotlib.backends.backend_agg import FigureCanvasAgg

from auralflow_core.config import Config
from auralflow_core.errors import TrainingError
from auralflow_core.files import write_text
from auralflow_core.trainer.figures import snippet_figure
from auralflow_core.trainer.logger import Logger

if TYPE_CHECKING:
    from auralflow_core.trainer.snippets import Snippet
    from auralflow_core.transforms import STFT


class WandbLogger(Logger):
    """Writes a run to `wandb/` of the model folder, and sends it unless W&B is set to be offline.

    A training that is resumed goes on with its run, whose id is kept in `wandb/run-id`; `visuals.wandb.id` goes first.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        super().__init__(config, folder)
        self._run: Any = None

    def open(self, step: int) -> None:
        """Begin a run, or go on with that of the training that is resumed.

        Raises:
            TrainingError: W&B refuses it, above all because nobody has logged in.
        """
        settings, id_file = self.config.visuals.wandb, self.folder / "wandb" / "run-id"
        known = id_file.read_text(encoding="utf-8").strip() if step and id_file.is_file() else ""
        try:
            self._run = wandb.init(
                dir=str(self.folder),
                project=settings.project_name or None,
                name=settings.name or self.config.model.name,
                id=settings.id or known or None,
                resume="allow",
                config=self.config.model_dump(mode="json"),
            )
        except wandb.Error as error:
            raise TrainingError(
                f"visuals.wandb: {' '.join(str(error).split())}; log in with `wandb login`, write the run to disk "
                "alone with WANDB_MODE=offline, or set visuals.wandb.use to false"
            ) from error
        write_text(id_file, f"{self._run.id}\n")

    def write_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        """Write a point of each curve; those of a step that the run has already are left out by W&B."""
        self._run.log(dict(numbers), step=step)

    def write_snippet(self, snippet: Snippet, target: str, stft: STFT, step: int) -> None:
        """Write audio and spectrograms."""
        canvas: Any = FigureCanvasAgg(snippet_figure(snippet, target, stft))
        canvas.draw()
        audio = snippet.estimates[target].T.numpy()  # (time, channel)
        name = f"{snippet.song}/{target}"
        media = {
            f"audio/{name}": wandb.Audio(audio, sample_rate=snippet.sample_rate),
            f"images/{name}": wandb.Image(np.asarray(canvas.buffer_rgba())),
        }
        self._run.log(media, step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()
