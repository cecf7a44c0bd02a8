"""Kill a training with SIGKILL at random moments, resume it, and compare its weights with those of one left in peace.

    python benchmarks/resume.py --kills 20

A tiny model is trained through the command line with every feature switched on that has a state: dropout, moving
average, cosine schedule, growing chunks, accumulated gradients, spec_augment, augmentations, a worker, validations and
checkpoints inside epochs, and a song with a sample that is no number, whose batches are skipped. Moments are drawn
from the whole time that a training takes, from its start to its end; a training that reached its end is compared, and
another one begun. Exit status 1 means that weights differed. Needs a system with `fork`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch loads

import numpy as np
import soundfile

import auralflow_core.training  # noqa: F401 - loaded once, not in each process
from auralflow_core.checkpoint import CheckpointStore
from auralflow_core.cli import main as auralflow

RATE = 8000
SETTINGS = {
    "hidden_channels": "2",
    "dropout_p": "0.4",
    "num_fft": "128",
    "window_size": "128",
    "hop_length": "64",
    "sample_rate": str(RATE),
    "sample_length": "0.25",
    "batch_size": "3",
    "backprop_every": "2",
    "num_workers": "1",
    "max_epochs": "99",
    "max_steps": "30",
    "optimizer": "adamw",
    "scheduler": "{warmup_steps: 9}",
    "sequence_scheduler": "{increase_every: 10, max_sequence_length: 1}",
    "spec_augment": "{time_mask_param: 5, freq_mask_param: 5}",
    "augmentations": "{stems: {gain: {p: 1}, polarity: {}, noise: {}}, mixture: {eq: {}}}",
    "ema": "{decay: 0.9}",
    "clip_value": "1",
    "on_nan": "skip",
    "validation": "{every_n_steps: 7, metric: si_sdr}",
    "checkpointing": "{save_every_n_steps: 2, keep: 2}",
    "tensorboard": "false",
    "save_audio": "false",
    "save_images": "false",
}


def write_songs(root: Path) -> None:
    """Write songs of two seconds; one of them has a sample that is infinite."""
    rng = np.random.default_rng(0)
    for number, split in enumerate(["train"] * 8 + ["valid"]):
        folder = root / split / f"song {number}"
        folder.mkdir(parents=True)
        stems = {name: 0.1 * rng.standard_normal((2 * RATE, 1)) for name in ("vocals", "drums", "bass", "other")}
        if number == 0:
            stems["drums"][RATE] = np.inf
        mixture = sum(stems.values())
        for name, audio in {**stems, "mixture": mixture}.items():
            soundfile.write(folder / f"{name}.wav", np.asarray(audio, np.float32), RATE, subtype="FLOAT")


def start(*words: object) -> int:
    """Run `auralflow` in a process of its own; return the process."""
    child = os.fork()
    if child:
        return child
    try:
        auralflow([str(word) for word in words])
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    os._exit(70)


def finish(child: int) -> None:
    """Wait for a process that has to succeed."""
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"a training failed with status {status}")


def digest(folder: Path) -> str:
    """Return the last step and the SHA-256 of its weights."""
    store = CheckpointStore(folder / "checkpoint")
    weights = (store.path(store.latest()) / "model.safetensors").read_bytes()
    return f"step {store.latest()} {hashlib.sha256(weights).hexdigest()}"


def describe(folder: Path) -> str:
    """Return what a killed training left behind."""
    steps = CheckpointStore(folder / "checkpoint").steps()
    torn = len(list((folder / "checkpoint").glob(".*"))) if steps else 0
    return f"checkpoints {', '.join(map(str, steps)) or 'none'}" + (f", {torn} unfinished" if torn else "")


def interrupted(folder: Path, songs: Path, moments: Sequence[float], numbered: int) -> int:
    """Train to the end, killed at the given moments of its runs; return how often it was."""
    killed = 0
    while True:
        has_checkpoint = bool(CheckpointStore(folder / "checkpoint").steps())
        child = start("train", folder, songs, "--quiet", *(["--resume"] if has_checkpoint else []))
        if killed == len(moments):
            finish(child)
            return killed
        time.sleep(moments[killed])
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):  # before it was killed
            return killed
        killed += 1
        print(f"kill {numbered + killed:3} after {moments[killed - 1]:5.2f} s: {describe(folder)}", flush=True)


def main() -> None:
    """Train, kill, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how many in all (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    options = parser.parse_args()
    rng, kills, wrong = random.Random(options.seed), 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        songs, model = root / "songs", root / "model"
        write_songs(songs)
        words = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
        finish(start("config", "model", "SpectrogramNetSimple", "--save", root, *words))
        peaceful = root / "peaceful"
        shutil.copytree(model, peaceful)
        began = time.monotonic()
        finish(start("train", peaceful, songs, "--quiet"))
        seconds = time.monotonic() - began
        expected = digest(peaceful)
        events = [json.loads(line)["event"] for line in (peaceful / "journal.jsonl").read_text().splitlines()]
        print(f"undisturbed: {expected} after {seconds:.1f} s, {events.count('skipped')} times batches were skipped")
        while kills < options.kills:
            folder = root / "killed"
            shutil.copytree(model, folder)
            moments = [rng.uniform(0, seconds) for _ in range(options.kills - kills)]
            kills += interrupted(folder, songs, moments, kills)
            found = digest(folder)
            wrong += found != expected
            shutil.rmtree(folder)
            print(f"           {found}: {'the same' if found == expected else 'NOT THE SAME'}", flush=True)
    print(f"{kills} kills, {wrong} trainings with other weights")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
