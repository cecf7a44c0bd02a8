"""What a training leaves to look at and to listen to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import soundfile

from auralflow_core.layout import SESSION_FILE, ModelFolder

# TensorBoard's own imports warn of what they use.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "audio": 0})
    found.Reload()
    return found


class TestTensorBoard:
    def test_losses_and_learning_rate(self, trained_folder: Path) -> None:
        found = events(trained_folder / "runs")
        assert {"loss/step", "loss/train", "loss/validation", "lr"} <= set(found.Tags()["scalars"])
        assert [event.step for event in found.Scalars("loss/step")] == [5]  # of eight steps every fifth
        assert [event.step for event in found.Scalars("lr")] == [8]
        assert found.Scalars("lr")[0].value == pytest.approx(1e-3)
        best = json.loads((trained_folder / "checkpoint" / "best.json").read_text())
        assert found.Scalars("loss/validation")[0].value == pytest.approx(best["loss"], rel=1e-5)
        assert 0 < found.Scalars("loss/train")[0].value < 10

    def test_audio_and_figures(self, trained_folder: Path) -> None:
        found = events(trained_folder / "runs")
        assert found.Tags()["audio"] == found.Tags()["images"] == ["valid song 0/vocals"]
        assert found.Audio("valid song 0/vocals")[0].sample_rate == 8000
        image = found.Images("valid song 0/vocals")[0]
        assert image.width > 500 and image.height > 300
        assert image.encoded_image_string.startswith(b"\x89PNG")

    def test_models_of_a_session_share_its_runs(self, tmp_path: Path) -> None:
        assert ModelFolder(tmp_path / "model").runs == tmp_path / "model" / "runs"
        (tmp_path / SESSION_FILE).write_text("{}")
        assert ModelFolder(tmp_path / "model").runs == tmp_path / "runs" / "model"

    def test_a_resume_goes_on_with_the_curves(
        self, trained_copy: Path, song_folder: Path, invoke: Callable[..., Any]
    ) -> None:
        invoke("train", trained_copy, song_folder, "--resume", "--max_epochs", "2", "--save_images", "no", "--quiet")
        found = events(trained_copy / "runs")
        assert [event.step for event in found.Scalars("loss/step")] == [5, 10, 15]
        assert [event.step for event in found.Scalars("loss/train")] == [8, 16]

    def test_starting_over_leaves_no_curve_of_before(
        self, trained_copy: Path, song_folder: Path, invoke: Callable[..., Any]
    ) -> None:
        invoke("train", trained_copy, song_folder, "--force", "--save_images", "no", "--quiet")
        found = events(trained_copy / "runs")
        assert [event.step for event in found.Scalars("loss/step")] == [5]
        assert [event.step for event in found.Scalars("loss/train")] == [8]


class TestSnippets:
    def test_audio_is_there_and_readable(self, trained_folder: Path) -> None:
        folder = trained_folder / "audio" / "epoch-0001"
        parts = ["mixture", "vocals target", "vocals estimate"]
        assert {path.name for path in folder.iterdir()} == {f"valid song 0 - {part}.wav" for part in parts}
        for path in folder.iterdir():
            audio, rate = soundfile.read(path)
            assert (rate, audio.shape) == (8000, (4000,))
            assert np.abs(audio).max() > 0.01

    def test_audio_is_the_middle_of_the_song_and_its_estimate(self, trained_folder: Path, song_folder: Path) -> None:
        import torch

        from auralflow.models import load

        song, _ = soundfile.read(song_folder / "valid" / "valid song 0" / "mixture.wav", dtype="float32")
        folder = trained_folder / "audio" / "epoch-0001"
        mixture, _ = soundfile.read(folder / "valid song 0 - mixture.wav", dtype="float32")
        assert np.abs(mixture - song[6000:10000]).max() < 1e-4
        estimate, _ = soundfile.read(folder / "valid song 0 - vocals estimate.wav", dtype="float32")
        expected = load(trained_folder).separate(torch.from_numpy(song[6000:10000])[None])[0, 0]
        assert np.abs(estimate - expected.numpy()).max() < 1e-4

    def test_images_are_there_and_not_blank(self, trained_folder: Path) -> None:
        folder = trained_folder / "images" / "epoch-0001"
        assert [path.name for path in folder.iterdir()] == ["valid song 0 - vocals.png"]
        image = matplotlib.image.imread(folder / "valid song 0 - vocals.png")
        assert image.shape[0] > 300 and image.shape[1] > 500
        assert image[..., :3].std() > 0.1

    def test_nothing_is_written_where_it_is_switched_off(
        self, model_folder: Path, song_folder: Path, invoke: Callable[..., Any]
    ) -> None:
        on, off = (
            [word for name in ("save_images", "save_audio", "tensorboard") for word in (f"--{name}", switch)]
            for switch in ("true", "false")
        )
        invoke("config", model_folder, *on)
        invoke("train", model_folder, song_folder, "--quiet", "--max_num_samples", "2", *off)
        assert {path.name for path in model_folder.iterdir()} == {"config.json", "checkpoint", "journal.jsonl"}
