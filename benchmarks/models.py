"""Train every installed architecture for the same time on the same songs, and measure it.

    python benchmarks/models.py SONGS --minutes 3 --threads 2
    python benchmarks/models.py SONGS --types SpectrogramNetSimple "$(python -m auralflow_conformer small)"

SONGS has train/ and test/ in the MUSDB18-HQ layout. For each model type: parameter count, seconds of audio that a
training step and a separation take in one second, and the SDR of the test songs (median over frames, then songs) beside
the mixture's own. With --write the figures go to docs/models.json, from which `nox -s docs` makes the table.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from auralflow_core.build import default_config, load_model, open_dataset
from auralflow_core.cli.config import change
from auralflow_core.config import Config, Setting, load_config, save_config
from auralflow_core.evaluate import evaluate, medians
from auralflow_core.registry import default_registry
from auralflow_core.separate import Separator
from auralflow_core.trainer import Callback, Step, Trainer
from auralflow_core.training import prepare_training

FIGURES = Path(__file__).parent.parent / "docs" / "models.json"


class Stopwatch(Callback):
    """Measures training steps alone: not validation, not pictures."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.steps = 0
        self._last = 0.0

    def on_step(self, trainer: Trainer, step: Step) -> None:
        """Take the time since the last step, within an epoch."""
        now = time.perf_counter()
        if step.batch > 1:
            self.seconds += now - self._last
            self.steps += 1
        self._last = now


def start(type_: str, folder: Path) -> dict[str, Any]:
    """Return the starting configuration of a model type, or that of a file, as `auralflow config --from` takes it."""
    if not Path(type_).is_file():
        return default_config(type_, "model").model_dump(mode="json")
    command = [sys.executable, "-m", "auralflow", "config", folder.name, "--from", type_, "--save", str(folder.parent)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return load_config(folder).model_dump(mode="json")


def measure(type_: str, songs: Path, minutes: float) -> dict[str, Any]:
    """Return the figures of one model type, or of a configuration file."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        config = change(start(type_, folder), [Setting("max_minutes", str(minutes))])
        save_config(config, folder / "config.json")
        watch = Stopwatch()
        trainer = prepare_training(config, folder, songs, callbacks=[watch])
        trainer.fit()
        audio_in_step = config.training.batch_size * config.dataset.sample_length
        return {
            "parameters": sum(parameter.numel() for parameter in trainer.model.network.parameters()),
            "training": round(audio_in_step * watch.steps / max(watch.seconds, 1e-9), 2),
            **separation_figures(folder, songs, config),
            "steps": trainer.progress.step,
        }


def separation_figures(folder: Path, songs: Path, config: Config) -> dict[str, float]:
    """Return speed and scores of the best checkpoint on the test songs."""
    separator = Separator(load_model(folder))
    test_songs = open_dataset(songs, config).songs("test")
    audio = torch.from_numpy(test_songs[0].read_mixture())
    separator(audio[:, : test_songs[0].sample_rate], test_songs[0].sample_rate)
    began = time.perf_counter()
    separator(audio, test_songs[0].sample_rate)
    seconds = time.perf_counter() - began
    median = medians(evaluate(separator, test_songs))[0]
    return {
        "separation": round(test_songs[0].duration / seconds, 2),
        "sdr": round(median["SDR"], 2),
        "mixture_sdr": round(median["mixture_SDR"], 2),
    }


def count_songs(songs: Path) -> dict[str, int]:
    """Return how many songs each split has."""
    return {split: sum(path.is_dir() for path in (songs / split).iterdir()) for split in ("train", "test")}


def main() -> None:
    """Measure the types named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("songs", type=Path)
    parser.add_argument("--minutes", type=float, default=3.0, help="minutes to train each type (default 3)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--types", nargs="*", help="model types, or files (default: all that are installed)")
    parser.add_argument("--write", action="store_true", help=f"write the figures to {FIGURES.name}")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    types = args.types or [entry.name for entry in default_registry().models]
    conditions = {
        "minutes": args.minutes,
        "songs": count_songs(args.songs),
        "threads": args.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    before = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() else {"models": {}}
    models = before["models"] if before.get("conditions") == conditions else {}
    for type_ in types:
        models[type_] = measure(type_, args.songs, args.minutes)
        print(type_, json.dumps(models[type_]), flush=True)
        if args.write:
            text = json.dumps({"conditions": conditions, "models": dict(sorted(models.items()))}, indent=2)
            FIGURES.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
