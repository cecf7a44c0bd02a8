"""TensorBoard runs: losses, learning rate, audio and spectrograms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from auralflow_core.config import Config
from auralflow_core.layout import ModelFolder
from auralflow_core.trainer.figures import snippet_figure
from auralflow_core.trainer.logger import Logger

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from auralflow_core.trainer.snippets import Snippet
    from auralflow_core.transforms import STFT


class TensorBoardLogger(Logger):
    """Writes event files to `runs/` of the model folder, or to the session's shared `runs/`."""

    def __init__(self, config: Config, folder: Path) -> None:
        super().__init__(config, folder)
        self._writer: SummaryWriter | None = None

    def open(self, step: int) -> None:
        """Open the event file; after a resume, steps that were not saved are taken out of the curves."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(ModelFolder(self.folder).runs), purge_step=step + 1 if step else None)

    def write_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        """Write a point of each curve."""
        assert self._writer is not None
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        # By itself it writes every two minutes: a killed training would lack points of steps that it does not repeat.
        self._writer.flush()

    def write_snippet(self, snippet: Snippet, target: str, stft: STFT, step: int) -> None:
        """Write audio and spectrograms."""
        assert self._writer is not None
        tag, audio = f"{snippet.song}/{target}", snippet.estimates[target].mean(0, keepdim=True)
        self._writer.add_audio(tag, audio, step, sample_rate=snippet.sample_rate)
        self._writer.add_figure(tag, snippet_figure(snippet, target, stft), step, close=False)

    def close(self) -> None:
        """Close the event file."""
        assert self._writer is not None
        self._writer.close()
