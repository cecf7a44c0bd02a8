"""`auralflow replay` writes what the network was fed, whatever happened in between."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from auralflow_core.cli.config import change
from auralflow_core.config import Setting, read_mapping, save_config
from auralflow_core.trainer import Callback, Step, Trainer
from auralflow_core.training import prepare_training

Invoke = Callable[..., Any]
QUIET = {"tensorboard": "false", "save_audio": "false", "save_images": "false", "max_epochs": "2", "device": "cpu"}
PLAINLY = ("--quiet", "--tensorboard", "no", "--save_audio", "no", "--save_images", "no")
SCHEDULES: dict[str, dict[str, str]] = {
    "augmented": {
        "augmentations": "{stems: {gain: {p: 1}, polarity: {}, noise: {}}, mixture: {eq: {p: 1}}}",
        "num_workers": "1",
    },
    "augmented on the device": {"augmentations": "{device: model, stems: {gain: {p: 1}, noise: {}}}"},
    "growing": {
        "sequence_scheduler": "{increase_every: 3, max_sequence_length: 1}",
        "backprop_every": "2",
        "batch_size": "4",
        "max_epochs": "3",
        "spec_augment": "{}",
        "targets": "[vocals, drums]",
    },
}


class Fed(Callback):
    """Keeps the last batch of every step, and stops at one of them as a killed process would."""

    def __init__(self, stop: int = 0) -> None:
        self.batches: dict[int, tuple[Tensor, Tensor]] = {}
        self.stop = stop

    def on_step(self, trainer: Trainer, step: Step) -> None:
        prediction = trainer.model.prediction
        assert prediction is not None
        self.batches[step.step] = prediction.mixture_audio, prediction.target_audio
        if step.step == self.stop:
            raise KeyboardInterrupt


def train(folder: Path, songs: Path, fed: Fed, *, resume: bool = False, **settings: str) -> None:
    data = read_mapping(folder / "config.json")
    config = change(data, [Setting(*item) for item in {**QUIET, **settings}.items()])
    save_config(config, folder / "config.json")
    trainer = prepare_training(config, folder, songs, callbacks=[fed])
    if resume:
        trainer.resume()
    try:
        trainer.fit()
    except KeyboardInterrupt:
        assert fed.stop


def read(folder: Path, name: str) -> Tensor:
    audio, _ = soundfile.read(folder / f"{name}.wav", dtype="float32", always_2d=True)
    return torch.from_numpy(np.ascontiguousarray(audio.T))


@pytest.fixture
def replayed(invoke: Invoke, model_folder: Path) -> Callable[..., list[dict[str, Any]]]:
    """Return a function that replays a step and returns its chunks, audio included."""

    def replay(step: int, *words: object) -> list[dict[str, Any]]:
        found = json.loads(invoke("replay", model_folder, "--step", step, "--json", *words).stdout)
        folder = Path(found["folder"])
        assert json.loads((folder / "chunks.json").read_text()) == found["chunks"]
        assert {path.name for path in folder.iterdir() if path.is_dir()} == {row["folder"] for row in found["chunks"]}
        for row in found["chunks"]:
            names = sorted(path.stem for path in (folder / row["folder"]).iterdir())
            row["audio"] = {name: read(folder / row["folder"], name) for name in names}
        return list(found["chunks"])

    return replay


def same(rows: list[dict[str, Any]], batch: tuple[Tensor, Tensor], targets: list[str]) -> bool:
    """Return whether the last rows are the chunks of a batch."""
    last = [row["audio"] for row in rows][-len(batch[0]) :]
    mixtures = torch.stack([audio["mixture"] for audio in last])
    stems = torch.stack([torch.stack([audio[name] for name in targets]) for audio in last])
    return torch.equal(mixtures, batch[0]) and torch.equal(stems, batch[1])


class TestWhatTheNetworkWasFed:
    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_each_step(self, schedule: str, model_folder: Path, song_folder: Path, replayed: Any) -> None:
        fed, settings = Fed(), SCHEDULES[schedule]
        train(model_folder, song_folder, fed, **settings)
        assert len(fed.batches) >= 6
        targets = ["vocals", "drums"] if "targets" in settings else ["vocals"]
        for step in (1, 4, len(fed.batches)):
            rows = replayed(step)
            assert same(rows, fed.batches[step], targets), step
            assert all(row["left_out"] is None and row["loss"] > 0 for row in rows)

    def test_after_a_kill_and_other_settings(self, model_folder: Path, song_folder: Path, replayed: Any) -> None:
        # A checkpoint after each epoch of 8 steps; step 11 is done twice, and larger batches follow.
        first, second, third = Fed(stop=11), Fed(stop=13), Fed()
        train(model_folder, song_folder, first)
        train(model_folder, song_folder, second, resume=True)
        train(model_folder, song_folder, third, resume=True, batch_size="4", max_epochs="3")
        assert list(second.batches) == [9, 10, 11, 12, 13] and list(third.batches) == list(range(9, 17))
        found = first.batches | second.batches | third.batches
        for step in (8, 9, 11, 16):
            assert same(replayed(step), found[step], ["vocals"]), step

    def test_batches_that_were_left_out(self, model_folder: Path, songs_copy: Path, replayed: Any) -> None:
        song = sorted((songs_copy / "train").iterdir())[0]
        audio, rate = soundfile.read(song / "mixture.wav", dtype="float32")
        audio[rate] = np.inf
        soundfile.write(song / "mixture.wav", audio, rate, subtype="FLOAT")
        fed = Fed()
        train(model_folder, songs_copy, fed, on_nan="skip")
        lines = [json.loads(line) for line in (model_folder / "journal.jsonl").read_text().splitlines()]
        skipped = {line["left_out"]["step"]: line["left_out"] for line in lines if line["event"] == "skipped"}
        assert len(skipped) == 2 and "nan" in next(iter(skipped.values()))["why"]
        for step in {1, len(fed.batches), *skipped}:
            rows = replayed(step)
            assert step not in fed.batches or same(rows, fed.batches[step], ["vocals"]), step
            bad = [row for row in rows if row["left_out"]]
            assert len(bad) == (2 if step in skipped else 0)
            if bad:
                assert not all(row["audio"]["mixture"].isfinite().all() for row in bad)
                assert any(row["loss"] is None for row in bad)

    def test_the_step_at_which_training_stopped(
        self, model_folder: Path, songs_copy: Path, invoke: Invoke, refused: Callable[..., str], replayed: Any
    ) -> None:
        song = sorted((songs_copy / "train").iterdir())[0]
        audio, rate = soundfile.read(song / "mixture.wav", dtype="float32")
        audio[:] = np.nan
        soundfile.write(song / "mixture.wav", audio, rate, subtype="FLOAT")
        message = refused("train", model_folder, songs_copy, "--quiet")
        step = int(message.split(" at step ")[1].split()[0])
        rows = replayed(step)
        assert len(rows) == 2 and all("nan" in row["left_out"] for row in rows)
        assert f"steps 1 to {step}" in refused("replay", model_folder, "--step", step + 1)


class TestCommand:
    def test_the_table(self, trained_copy: Path, invoke: Invoke, tmp_path: Path) -> None:
        out = tmp_path / "out"
        (out / "mine").mkdir(parents=True)
        printed = invoke("replay", trained_copy, "--step", 3, "--out", out).stdout
        assert "Wrote 2 chunks" in printed and "train song" in printed
        assert {path.name for path in out.iterdir()} == {"mine", "step-00000003"}

    def test_without_a_checkpoint_that_can_be_loaded(self, trained_copy: Path, invoke: Invoke) -> None:
        next(trained_copy.glob("checkpoint/*/model.safetensors")).write_bytes(b"damaged")
        result = invoke("replay", trained_copy, "--step", 3)
        assert "Wrote 2 chunks" in result.stdout and "Without losses, since" in result.stderr

    def test_bad_steps(self, trained_copy: Path, refused: Callable[..., str], invoke: Invoke) -> None:
        assert "has no step 9; it knows the batches of steps 1 to 8" in refused("replay", trained_copy, "--step", 9)
        assert "0" in invoke("replay", trained_copy, "--step", 0, status=2).stderr

    def test_a_model_that_was_not_trained(self, model_folder: Path, refused: Callable[..., str]) -> None:
        assert "train the model first" in refused("replay", model_folder, "--step", 1)

    def test_songs_elsewhere(
        self, trained_copy: Path, songs_copy: Path, invoke: Invoke, refused: Callable[..., str]
    ) -> None:
        invoke("replay", trained_copy, "--step", 1, "--data", songs_copy)
        shutil.rmtree(sorted((songs_copy / "train").iterdir())[0])
        assert "are not those" in refused("replay", trained_copy, "--step", 1, "--data", songs_copy)

    def test_songs_of_several_folders(
        self, model_folder: Path, song_folder: Path, songs_copy: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(song_folder.parent)
        invoke("train", model_folder, song_folder.name, songs_copy, "--max_steps", 2, *PLAINLY)
        monkeypatch.chdir(model_folder)
        assert "Wrote 2 chunks" in invoke("replay", model_folder, "--step", 2).stdout
        moved = songs_copy.parent / "elsewhere" / songs_copy.name
        moved.parent.mkdir()
        shutil.move(songs_copy, moved)
        words = ("--data", song_folder, "--data", moved)
        assert "Wrote 2 chunks" in invoke("replay", model_folder, "--step", 2, *words).stdout

    def test_a_torn_line_is_passed_over(self, trained_copy: Path, song_folder: Path, invoke: Invoke) -> None:
        journal = trained_copy / "journal.jsonl"
        with journal.open("a") as file:
            file.write('{"event": "fr')
        invoke("train", trained_copy, song_folder, "--resume", "--max_epochs", 2, *PLAINLY)
        assert invoke("replay", trained_copy, "--step", 12).stdout.count("/step-00000012") == 1

    def test_force_begins_a_new_journal(self, trained_copy: Path, song_folder: Path, invoke: Invoke) -> None:
        invoke("train", trained_copy, song_folder, "--force", "--max_steps", 2, *PLAINLY)
        lines = [json.loads(line) for line in (trained_copy / "journal.jsonl").read_text().splitlines()]
        assert [line["event"] for line in lines] == ["began", "from", "ended"]
