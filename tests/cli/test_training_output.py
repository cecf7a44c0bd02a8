"""What `auralflow train` prints before its first step and after its last, and the scores of whole songs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auralflow_core.audio import read_audio
from auralflow_core.build import load_model
from auralflow_core.metrics import song_metrics
from auralflow_core.separate import Separator

QUIETER = ("--save_images", "false", "--save_audio", "false", "--metric_songs", "0", "--max_num_samples", "4")


def test_before_and_after(model_folder: Path, song_folder: Path, invoke: Callable[..., Any]) -> None:
    output = invoke("train", model_folder, song_folder, *QUIETER, "--channels_last", "--tf32").stdout
    before, _, after = output.partition("epoch   1")
    for fact in (
        r"Training SpectrogramNetSimple \([\d,]+ parameters\) to separate vocals",
        r"on \w+ in float32 with adam, criterion l1, batches of 2, channels last, TF32",
        r"A step takes about \d+\.\d\d GiB of memory: (\d+\.\d\d for the program, )?\d+\.\d\d for weights, gradients",
        r"4 songs to train with, 1 to validate with; 4 chunks of 0.5 s in 2 steps an epoch; at most 1 epoch",
        r"Checkpoints after each validation in .*checkpoint; the best and the latest 1 are kept",
    ):
        assert re.search(fact, before), fact
    for fact in (
        r"Done: reached max_epochs after 2 steps in 0:\d\d; best validation loss \d",
        r"Steps waited 0:\d\d for data and computed 0:\d\d",
        r"Best checkpoint: .*step-00000002\n",
    ):
        assert re.search(fact, after), fact
    commands = dict(re.findall(r"^(\w[\w ]+): +auralflow (.*)$", after, re.M))
    assert commands["Score it"] == f"test {shlex.quote(str(model_folder))} {shlex.quote(str(song_folder))}"
    # The command that is named does what is said.
    assert "median" in invoke(*shlex.split(commands["Score it"])).stdout


def test_whole_songs_are_scored_with_the_best_weights(
    model_folder: Path, song_folder: Path, invoke: Callable[..., Any]
) -> None:
    # A rate that spoils the model: the best checkpoint is not the last one.
    words = ("--max_epochs", "3", "--lr", "0.5", "--validation.full_songs", "3", "--optimizer", "sgd")
    summary = json.loads(invoke("train", model_folder, song_folder, *QUIETER, *words, "--json").stdout)
    assert sorted(summary["song_scores"]) == ["SDR/vocals", "SI-SDR/vocals", "uSDR/vocals"]
    song = song_folder / "valid" / "valid song 0"
    mixture, rate = read_audio(song / "mixture.wav")
    reference, _ = read_audio(song / "vocals.wav")
    estimate = Separator(load_model(model_folder))(mixture, rate)
    expected = song_metrics(reference[None], estimate, sample_rate=rate)
    assert summary["song_scores"]["uSDR/vocals"] == pytest.approx(float(expected["uSDR"][0]), abs=1e-3)
    assert summary["song_scores"]["SI-SDR/vocals"] == pytest.approx(float(expected["SI-SDR"][0]), abs=1e-3)


def test_whole_songs_are_printed_and_logged(model_folder: Path, song_folder: Path, invoke: Callable[..., Any]) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ("--validation.full_songs", "1", "--tensorboard", "true")
    output = invoke("train", model_folder, song_folder, *QUIETER, *words).stdout
    assert re.search(r"Whole validation songs, medians: SDR/vocals -?[\d.]+ dB, SI-SDR/vocals", output)
    events = EventAccumulator(str(model_folder / "runs"))
    events.Reload()
    assert "scores/songs/uSDR/vocals" in events.Tags()["scalars"]
