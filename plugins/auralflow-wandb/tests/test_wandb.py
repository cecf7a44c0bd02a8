"""Runs of Weights & Biases, written offline by real trainings and read back from their files."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread

pytest.importorskip("wandb")
if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

RATE = 8000
SETTINGS = {
    "hidden_channels": 2,
    "num_fft": 128,
    "window_size": 128,
    "hop_length": 64,
    "sample_rate": RATE,
    "sample_length": 0.5,
    "batch_size": 2,
    "max_epochs": 1,
    "every_n_epochs": 1,
    "snippet_length": 0.5,
    "metric_length": 1,
    "save_summary_steps": 3,
    "clip_value": 5,
    "wandb.use": "true",
    "wandb.project_name": "offline tests",
    "wandb.name": "first try",
}
OFFLINE = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "OMP_NUM_THREADS": "1"}
HEADER = 7
BLOCK = 32768


# Commands one after the other in one process, since each would import torch anew; the one that is refused in a fork
# with an environment of its own, since W&B reads that once.
COMMANDS = """
import json, os, sys
import torch._dynamo, wandb
import auralflow_core.cli.training_progress, auralflow_core.training
from auralflow_core.cli import main

configure, refused, train = json.loads(sys.argv[1])
for words in configure:
    main([*map(str, words)], standalone_mode=False)
if not os.fork():
    told = os.open(refused["told"], os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(told, stream)
    os.environ.update(refused["environment"])
    try:
        main(refused["words"])
    except SystemExit as end:
        os._exit(int(end.code))
_, status = os.wait()
assert os.waitstatus_to_exitcode(status) == 1, status
for words in train:
    main([*map(str, words)], standalone_mode=False)
"""


def python(*words: object) -> None:
    """Run Python in a process of its own, as W&B starts others beside it."""
    base = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "AURALFLOW_"))}
    result = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        env={**base, **OFFLINE},
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def records(path: Path) -> Iterator[Any]:
    """Read a run's file: records of protobuf in the blocks of LevelDB's log format, behind a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, whole = path.read_bytes(), HEADER, b""
    while place + HEADER <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        size, kind = struct.unpack_from("<HB", data, place + 4)
        whole += data[place + HEADER : place + HEADER + size]
        place += HEADER + size
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(whole)
            whole = b""


class Run:
    """What the file of a run holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        [path] = folder.glob("run-*.wandb")
        self.id = path.stem.removeprefix("run-")
        self.points: dict[str, dict[int, Any]] = {}
        self.config: dict[str, Any] = {}
        for record in records(path):
            if record.HasField("run"):
                self.facts = (record.run.run_id, record.run.project, record.run.display_name)
                self.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            if record.HasField("history"):
                self._add({tuple(item.nested_key) or (item.key,): item.value_json for item in record.history.item})

    def _add(self, items: dict[tuple[str, ...], str]) -> None:
        """Take up the numbers and media of a step; those of media have names of their own."""
        step = int(json.loads(items["_step",]))
        for (name, *inner), text in items.items():
            points = self.points.setdefault(name, {})
            if inner:
                points.setdefault(step, {})[".".join(inner)] = json.loads(text)
            else:
                points[step] = json.loads(text)


def runs(model: Path) -> list[Run]:
    folders = (model / "wandb").glob("offline-run-*")
    return [Run(folder) for folder in sorted(folders, key=lambda folder: folder.stat().st_ctime_ns)]


def tensorboard(model: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(model / "runs"), size_guidance={"scalars": 0})
    found.Reload()
    return found


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of songs of two seconds: a tone and noise."""
    root, rng, time = tmp_path_factory.mktemp("data"), np.random.default_rng(0), np.arange(2 * RATE) / RATE
    for name in ("train/a", "train/b", "train/c", "valid/song: one?"):
        (root / name).mkdir(parents=True)
        stems = {"vocals": 0.2 * np.sin(2 * np.pi * 300 * time), "drums": 0.1 * rng.standard_normal(time.size)}
        for stem, audio in {**stems, "mixture": sum(stems.values())}.items():
            soundfile.write(root / name / f"{stem}.wav", audio, RATE, subtype="FLOAT")
    return root


@pytest.fixture(scope="module")
def models(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of models.

    One was trained for an epoch and resumed for another, one was begun three times, one was refused its training.
    """
    folder, home = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("home of nobody")
    resumed, begun, refused = folder / "resumed", folder / "begun", folder / "refused"
    options = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
    quick = ("--max_steps", 1, "--save_images", "no", "--save_audio", "no", "--tensorboard", "no", "--quiet")
    configure = [
        ("config", resumed, "SpectrogramNetSimple", *options),
        ("config", begun, "SpectrogramNetSimple", *options, "--wandb.name", ""),
        ("config", refused, "SpectrogramNetSimple", *options),
    ]
    nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "NETRC": str(home / "netrc"), "HOME": str(home)}
    stranger = {
        "words": ["train", str(refused), str(songs), "--quiet"],
        "environment": {"WANDB_MODE": "online", **nowhere},
        "told": str(folder / "told"),
    }
    train = [
        ("train", resumed, songs, "--quiet"),
        ("train", resumed, songs, "--resume", "--max_epochs", 2, "--quiet"),
        ("train", begun, songs, *quick),
        ("train", begun, songs, *quick, "--force"),
        ("train", begun, songs, *quick, "--force", "--wandb.id", "chosen"),
    ]
    python("-c", COMMANDS, json.dumps([configure, stranger, train], default=str))
    return folder


@pytest.fixture
def trained(models: Path) -> Path:
    """Return the model that was trained and resumed."""
    return models / "resumed"


# TensorBoard's own imports warn of what they use.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_curves_are_those_of_tensorboard(trained: Path) -> None:
    theirs = tensorboard(trained)
    found: dict[str, dict[int, float]] = {}
    for run in runs(trained):
        for name, points in run.points.items():
            found.setdefault(name, {}).update(points)
    scalars = set(theirs.Tags()["scalars"])
    assert {"loss/step", "loss/train", "loss/validation", "lr", "lr/step", "seconds/data", "gradient/norm"} <= scalars
    assert {"sequence/seconds", "sequence/batch_size", "scores/SDR/vocals", "scores/SI-SDR/vocals"} <= scalars
    for name in scalars:
        expected = {event.step: event.value for event in theirs.Scalars(name)}
        assert found[name] == pytest.approx(expected, rel=1e-5), name
    assert sorted(found["loss/step"]) == [3, 6, 9, 12]


def test_a_resumed_training_goes_on_with_its_run(trained: Path) -> None:
    first, second = runs(trained)
    assert first.facts == second.facts == (first.id, "offline tests", "first try")
    assert (trained / "wandb" / "run-id").read_text() == f"{first.id}\n"
    assert max(first.points["loss/train"]) == 6 and set(second.points["loss/train"]) == {12}
    assert first.config["training"]["max_epochs"] == 1 and second.config["training"]["max_epochs"] == 2


def test_audio_and_pictures(trained: Path) -> None:
    for run in runs(trained):
        [(step, audio)] = run.points["audio/song: one?/vocals"].items()
        assert step == max(run.points["loss/train"]) and audio["_type"] == "audio-file"
        samples, rate = soundfile.read(run.folder / "files" / audio["path"])
        assert (samples.shape, rate) == ((RATE // 2,), RATE) and np.abs(samples).max() > 0.01
        [picture] = run.points["images/song: one?/vocals"].values()
        image = imread(run.folder / "files" / picture["path"])
        assert image.shape[0] > 300 and image[..., :3].std() > 0.1


def test_starting_over_begins_a_new_run_and_an_id_goes_first(models: Path) -> None:
    first, second, third = runs(models / "begun")
    assert first.id != second.id
    assert third.facts == ("chosen", "offline tests", "begun")
    assert (models / "begun" / "wandb" / "run-id").read_text() == "chosen\n"


def test_who_has_not_logged_in_is_told_before_step_1(models: Path) -> None:
    printed = (models / "told").read_text()
    [line] = [line for line in printed.splitlines() if line.startswith("Error: ")]
    assert "visuals.wandb: " in line and "wandb login" in line and "WANDB_MODE=offline" in line
    assert "Traceback" not in printed and not (models / "refused" / "checkpoint").exists()


def test_it_is_off_unless_it_is_switched_on(songs: Path, tmp_path: Path) -> None:
    from auralflow_core.config import Config, validate
    from auralflow_core.training import build_loggers

    config = {"model": {"type": "SpectrogramNetSimple"}}
    assert "WandbLogger" not in {type(logger).__name__ for logger in build_loggers(validate(Config, config), tmp_path)}
    switched = validate(Config, {**config, "visuals": {"wandb": {"use": True}}})
    assert "WandbLogger" in {type(logger).__name__ for logger in build_loggers(switched, tmp_path)}
    assert not list(tmp_path.iterdir())
