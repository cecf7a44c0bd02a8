"""A training through the command line whose chunks grow longer: killed across both changes, and seen in TensorBoard."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from auralflow_core.cli import main

STEPS = {1: (0.25, 4), 4: (0.5, 2), 7: (1.0, 1)}
"""The steps from which chunks are so many seconds long, and batches so large."""
LAST = 9
TINY = {
    "model": {
        "type": "Conformer",
        "params": {"feat_in": 16, "n_layers": 2, "d_model": 16, "n_heads": 2, "head_dim": 8, "dropout_ff": 0.1},
    },
    "dataset": {"sample_rate": 8000, "num_fft": 128, "window_size": 128, "hop_length": 64, "sample_length": 0.25},
    "training": {
        "device": "cpu",
        "max_epochs": 1,
        "max_steps": LAST,
        "batch_size": 4,
        "checkpointing": {"save_every_n_steps": 3},
        "sequence_scheduler": {"increase_every": 3, "max_sequence_length": 1},
        "spec_augment": {"time_mask_param": 5, "freq_mask_param": 5},
    },
    "visuals": {"save_images": False, "save_audio": False, "metric_songs": 0, "save_summary_steps": 1},
}

# Trains a model folder in a process that is left alone, and another one in processes of which the first two are killed,
# each two steps after its last checkpoint, which was written before chunks grew. Prints how each of them ended, and
# the latest checkpoints that the killed ones left.
SCRIPT = """
import os, signal, sys
import torch._dynamo, auralflow_core.trainer.tensorboard, auralflow_core.training  # once, not in each process
from auralflow_core.cli import main
from auralflow_core.trainer import Trainer

os.fsync = lambda handle: None  # Of what a killed process wrote nothing is lost.

whole, stopped, songs = sys.argv[1:]
tell = Trainer.tell

def train(folder, *words, kill_after=None):
    def told(self, event, *facts):
        tell(self, event, *facts)
        if event == "on_step" and facts[0].step == kill_after:
            self._writer.wait()  # The last checkpoint is whole.
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        Trainer.tell = told
        main(["train", folder, songs, "--quiet", *words])
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status, max(name for name in os.listdir(f"{folder}/checkpoint") if name.startswith("step-")), flush=True)

train(whole)
train(stopped, kill_after=5)
train(stopped, "--resume", kill_after=8)
train(stopped, "--resume")
"""


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """A folder of four songs of noise, in the layout of MUSDB18-HQ."""
    noise = np.random.default_rng(0)
    for split, number in (("train", 0), ("train", 1), ("train", 2), ("test", 0)):
        song = tmp_path / "songs" / split / f"song {number}"
        song.mkdir(parents=True)
        stems = {stem: noise.uniform(-0.2, 0.2, 48000) for stem in ("vocals", "drums", "bass", "other")}
        for name, audio in {**stems, "mixture": np.sum(list(stems.values()), axis=0)}.items():
            soundfile.write(song / f"{name}.wav", audio, 8000)
    return tmp_path / "songs"


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """Return the curves in the event files of a model folder, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "runs"), size_guidance={"scalars": 0})
    found.Reload()
    return {name: {event.step: event.value for event in found.Scalars(name)} for name in found.Tags()["scalars"]}


def run(*words: object) -> None:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output


# TensorBoard's own imports warn of what they use.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_killed_across_both_changes_it_goes_on_exactly_and_tensorboard_shows_them(tmp_path: Path, songs: Path) -> None:
    source, whole, stopped = tmp_path / "tiny.json", tmp_path / "whole", tmp_path / "stopped"
    source.write_text(json.dumps(TINY))
    for folder in (whole, stopped):
        run("config", folder.name, "--from", source, "--save", tmp_path)
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, whole, stopped, songs], capture_output=True, text=True, check=False
    )
    told = [line for line in ended.stdout.splitlines() if "step-" in line]
    assert told == ["0 step-00000009", "-9 step-00000003", "-9 step-00000006", "0 step-00000009"], ended.stderr

    weights = [folder / "checkpoint/step-00000009/model.safetensors" for folder in (whole, stopped)]
    assert weights[0].read_bytes() == weights[1].read_bytes()

    expected = {step: STEPS[max(first for first in STEPS if first <= step)] for step in range(1, LAST + 1)}
    shown, again = curves(whole), curves(stopped)
    assert shown["sequence/seconds"] == {step: seconds for step, (seconds, _) in expected.items()}
    assert shown["sequence/batch_size"] == {step: size for step, (_, size) in expected.items()}
    for name in ("sequence/seconds", "sequence/batch_size", "loss/step", "lr/step", "loss/validation"):
        assert again[name] == shown[name]

    run("separate", stopped, songs / "test/song 0/mixture.wav", "--save", tmp_path / "stems")
    estimate, _ = soundfile.read(next((tmp_path / "stems").rglob("*vocals*")))
    assert len(estimate) == 48000 and np.isfinite(estimate).all()
