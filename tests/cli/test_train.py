"""`auralflow train`, `test` and `separate` on a tiny data set, and their refusals."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from auralflow_core.config import load_config


def names_in(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoint").glob("step-*"))


@contextmanager
def disk_that_ends(at: int) -> Iterator[None]:
    """Let no file grow beyond `at` bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestTrain:
    def test_model_folder_is_as_documented(self, trained_folder: Path) -> None:
        assert names_in(trained_folder) == [
            "audio",
            "checkpoint",
            "config.json",
            "images",
            "journal.jsonl",
            "runs",
        ]
        assert steps(trained_folder) == ["step-00000008"]
        checkpoint = trained_folder / "checkpoint" / "step-00000008"
        meta = json.loads((checkpoint / "meta.json").read_text())
        assert meta["model_type"] == "SpectrogramNetSimple" and meta["plugin"] == "auralflow-simplenet"
        assert meta["params"]["hidden_channels"] == 2 and meta["step"] == 8 and meta["format_version"] == 1
        assert meta["config"] == json.loads((trained_folder / "config.json").read_text())
        assert len(meta["data"]["train"]["songs"]) == 4 and len(meta["data"]["valid"]["songs"]) == 1
        assert sorted(path.name for path in trained_folder.glob("audio/epoch-0001/*")) == [
            f"valid song 0 - {name}.wav" for name in ("mixture", "vocals estimate", "vocals target")
        ]
        assert list(trained_folder.glob("images/epoch-0001/*.png"))
        assert list(trained_folder.glob("runs/events.out.tfevents.*"))

    def test_way_of_a_training(self, model_folder: Path, song_folder: Path, invoke: Any, refused: Any) -> None:
        first = invoke("train", model_folder, song_folder, "--save_audio", "false").stdout
        assert "4 songs to train with, 1 to validate with; 16 chunks of 0.5 s in 8 steps an epoch" in first
        assert "epoch   1  step     8" in first and "best so far" in first and "Done: reached max_epochs" in first
        assert load_config(model_folder).visuals.save_audio is False

        before = {path: path.read_bytes() for path in model_folder.rglob("*") if path.is_file()}
        text = refused("train", model_folder, song_folder, "--lr", "0.5")
        assert "step 8" in text and "--resume" in text and "--force" in text
        # Nobody shall remove checkpoints for a mistyped path.
        assert "no such folder" in refused("train", model_folder, song_folder / "nowhere")
        assert {path: path.read_bytes() for path in model_folder.rglob("*") if path.is_file()} == before

        words = ("--resume", "--max_epochs", "2", "--silent_checkpoint", "--json")
        resumed = json.loads(invoke("train", model_folder, song_folder, *words).stdout)
        assert (resumed["reason"], resumed["epochs"], resumed["steps"]) == ("max_epochs", 2, 16)
        assert "step-00000016" in steps(model_folder)

        idle = invoke("train", model_folder, song_folder, "--resume").stdout
        assert "Nothing is left to train: raise --max_steps or --max_epochs" in idle

        again = json.loads(invoke("train", model_folder, song_folder, "--force", "--max_epochs", "1", "--json").stdout)
        assert (again["steps"], again["best_step"], steps(model_folder)) == (8, 8, ["step-00000008"])

    def test_session_keeps_the_runs_together(
        self, invoke: Any, song_folder: Path, tiny_settings: list[str], tmp_path: Path
    ) -> None:
        invoke("create", "session", "--save", tmp_path)
        invoke("config", "a", "SpectrogramNetSimple", "--save", tmp_path / "session", *tiny_settings)
        words = ("--max_num_samples", "2", "--tensorboard", "true", "--save_audio", "false")
        result = invoke("train", tmp_path / "session" / "a", song_folder, *words, "--quiet")
        assert not result.stdout and not result.stderr
        assert list((tmp_path / "session" / "runs" / "a").glob("events*"))
        assert not (tmp_path / "session" / "a" / "runs").exists()

    def test_resume_of_nothing(self, model_folder: Path, song_folder: Path, refused: Any) -> None:
        assert "no checkpoint" in refused("train", model_folder, song_folder, "--resume")

    @pytest.mark.parametrize("words", [(), ("m",)])
    def test_wrong_usage(self, words: tuple[str, ...], invoke: Any) -> None:
        assert "Usage: auralflow train" in invoke_as_named(invoke, "train", *words)


def invoke_as_named(invoke: Any, *words: str) -> str:
    return str(invoke(*words, status=2).stderr).replace("Usage: main ", "Usage: auralflow ")


class TestBadData:
    """Each is refused in one line, and leaves the model folder as it was."""

    @pytest.fixture
    def refusal(self, model_folder: Path, refused: Any) -> Iterator[Any]:
        before = (model_folder / "config.json").read_bytes()
        yield lambda data, *words: refused("train", model_folder, data, *words)
        assert names_in(model_folder) == ["config.json"]
        assert (model_folder / "config.json").read_bytes() == before

    def test_missing_folder(self, refusal: Any, tmp_path: Path) -> None:
        assert "no such folder" in refusal(tmp_path / "nothing")

    def test_file_instead_of_a_folder(self, refusal: Any, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert "file" in refusal(tmp_path / "file")

    @pytest.mark.parametrize("inside", ["", "train", "train/song"])
    def test_empty_folder(self, inside: str, refusal: Any, tmp_path: Path) -> None:
        (tmp_path / "empty" / inside).mkdir(parents=True)
        text = refusal(tmp_path / "empty")
        assert "empty" in text and "songs" in text and "train/" in text

    def test_no_validation_songs(self, refusal: Any, songs_copy: Path) -> None:
        shutil.rmtree(songs_copy / "valid" / "valid song 0")
        assert "valid" in refusal(songs_copy)

    def test_song_without_a_stem(self, refusal: Any, songs_copy: Path) -> None:
        (songs_copy / "train" / "train song 2" / "vocals.wav").unlink()
        text = refusal(songs_copy)
        assert "'train song 2' has no stem 'vocals'" in text and "bass, drums, other" in text

    def test_validation_song_without_a_stem(self, refusal: Any, songs_copy: Path) -> None:
        (songs_copy / "valid" / "valid song 0" / "vocals.wav").unlink()
        assert "'valid song 0' has no stem 'vocals'" in refusal(songs_copy)

    @pytest.mark.parametrize(
        ("frames", "rate", "channels", "odd"),
        [(15_000, 8000, 1, "15000 samples"), (16_000, 16_000, 1, "16000 Hz"), (16_000, 8000, 3, "2 channels")],
    )
    def test_stems_that_do_not_fit(
        self, frames: int, rate: int, channels: int, odd: str, refusal: Any, songs_copy: Path
    ) -> None:
        song = songs_copy / "train" / "train song 1"
        soundfile.write(song / "bass.wav", np.zeros((frames, channels), dtype=np.float32), rate)
        if channels > 1:  # a single channel beside several would stand for all of them
            soundfile.write(song / "drums.wav", np.zeros((frames, 2), dtype=np.float32), rate)
        text = refusal(songs_copy)
        assert "train song 1" in text and "bass.wav" in text and odd in text

    @pytest.mark.parametrize("content", [b"", b"this is no audio", b"RIFF\x24\x00\x00\x00WAVEfmt "])
    def test_file_that_is_no_audio(self, content: bytes, refusal: Any, songs_copy: Path) -> None:
        path = songs_copy / "train" / "train song 0" / "drums.wav"
        path.write_bytes(content)
        assert str(path) in refusal(songs_copy)

    def test_unknown_target(self, model_folder: Path, song_folder: Path, refused: Any) -> None:
        text = refused("train", model_folder, song_folder, "--targets", "vocal")
        assert "no stem 'vocal'; did you mean vocals?" in text
        assert load_config(model_folder).dataset.targets == ["vocals"]

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (("--lr", "-1"), "training.lr: '-1' must be greater than 0"),
            (("--lrr", "1"), "lrr: unknown setting; did you mean lr"),
            (("--criterion", "l3"), "criterion 'l3'"),
            (("--criterion", "kl_div"), "kl_div"),
            (("--device", "warp"), "warp"),
        ],
    )
    def test_unusable_setting(self, words: tuple[str, ...], expected: str, refusal: Any, song_folder: Path) -> None:
        assert expected in refusal(song_folder, *words)

    def test_model_folder_that_is_none(self, song_folder: Path, refused: Any, tmp_path: Path) -> None:
        assert "no such model folder" in refused("train", tmp_path / "none", song_folder)
        assert "not a model folder" in refused("train", song_folder, song_folder)
        assert not (tmp_path / "none").exists()


class TestFullDisk:
    def test_checkpoint_is_whole_or_absent(
        self, model_folder: Path, song_folder: Path, refused: Any, invoke: Any
    ) -> None:
        with disk_that_ends(200_000):
            text = refused("train", model_folder, song_folder, "--quiet")
        assert "cannot write" in text and "checkpoint" in text and "disk" in text
        assert list((model_folder / "checkpoint").iterdir()) == []
        invoke("train", model_folder, song_folder, "--quiet")

    def test_earlier_checkpoint_stays(self, trained_copy: Path, song_folder: Path, refused: Any, invoke: Any) -> None:
        before = {path: path.read_bytes() for path in (trained_copy / "checkpoint").rglob("*") if path.is_file()}
        with disk_that_ends(200_000):
            refused("train", trained_copy, song_folder, "--resume", "--max_epochs", "2", "--quiet")
        after = {path: path.read_bytes() for path in (trained_copy / "checkpoint").rglob("*") if path.is_file()}
        assert after == before

    def test_stems(self, trained_folder: Path, song_folder: Path, invoke: Any, tmp_path: Path) -> None:
        song = song_folder / "test" / "test song 0" / "mixture.wav"
        with disk_that_ends(20_000):
            result = invoke("separate", trained_folder, song, "--save", tmp_path / "out", "--quiet", status=1)
        assert "cannot write" in result.stderr and "Traceback" not in result.stderr
        assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["report.json"]


class TestCheckpointOfAnotherModel:
    @pytest.fixture
    def song(self, song_folder: Path) -> Path:
        return song_folder / "test" / "test song 0" / "mixture.wav"

    def test_other_parameters(self, trained_copy: Path, song: Path, invoke: Any, refused: Any, tmp_path: Path) -> None:
        invoke("config", trained_copy, "--hidden_channels", "3")
        out = tmp_path / "out"
        separate = ("separate", trained_copy, song, "--save", out)
        for words in (separate, ("train", trained_copy, song.parents[2], "--resume")):
            assert "step-00000008" in refused(*words)
        assert "hidden_channels" in refused(*separate)
        assert not out.exists()

    def test_other_architecture(self, trained_copy: Path, song: Path, refused: Any, tmp_path: Path) -> None:
        meta = next(trained_copy.glob("checkpoint/*/meta.json"))
        meta.write_text(meta.read_text().replace("SpectrogramNetSimple", "Other"))
        text = refused("separate", trained_copy, song, "--save", tmp_path / "out")
        assert "was trained as Other" in text and "SpectrogramNetSimple" in text
        assert not (tmp_path / "out").exists()

    def test_plugin_that_is_not_installed(self, trained_copy: Path, song: Path, refused: Any) -> None:
        path = trained_copy / "config.json"
        path.write_text(path.read_text().replace("SpectrogramNetSimple", "Gone"))
        text = refused("separate", trained_copy, song)
        assert "'Gone' is not installed" in text and "pip install auralflow-simplenet" in text

    @pytest.mark.parametrize("name", ["model.safetensors", "meta.json"])
    def test_damaged_file(self, name: str, trained_copy: Path, song: Path, refused: Any) -> None:
        next(trained_copy.glob(f"checkpoint/*/{name}")).write_bytes(b"junk")
        assert name in refused("separate", trained_copy, song)

    def test_model_that_was_never_trained(self, model_folder: Path, song: Path, refused: Any) -> None:
        assert "auralflow train" in refused("separate", model_folder, song)

    def test_step_that_is_not_there(self, trained_folder: Path, song: Path, refused: Any) -> None:
        text = refused("separate", trained_folder, song, "--step", "3")
        assert "step-00000003" in text and ": 8" in text


class TestSeparate:
    def test_documented_command(self, trained_folder: Path, song_folder: Path, invoke: Any, tmp_path: Path) -> None:
        song = song_folder / "test" / "test song 0" / "mixture.wav"
        result = invoke("separate", trained_folder, song, "--residual", "--save", tmp_path / "out")
        assert "mixture/{vocals,residual}.wav" in result.stdout
        info = soundfile.info(tmp_path / "out" / "mixture" / "vocals.wav")
        assert (info.frames, info.samplerate, info.channels, info.subtype) == (16_000, 8000, 1, "PCM_16")
        vocals, rest = (soundfile.read(tmp_path / "out" / "mixture" / f"{n}.wav")[0] for n in ("vocals", "residual"))
        assert np.abs(vocals + rest - soundfile.read(song)[0]).max() < 2 / 2**15 + 1e-4

    def test_bad_file_among_good_ones(
        self, trained_folder: Path, song_folder: Path, invoke: Any, tmp_path: Path
    ) -> None:
        song = song_folder / "test" / "test song 0" / "mixture.wav"
        bad = tmp_path / "bad.wav"
        bad.write_bytes(b"no audio")
        result = invoke("separate", trained_folder, bad, song, "--save", tmp_path / "out", "--json", status=1)
        data = json.loads(result.stdout)
        assert [(found["path"], found["state"]) for found in data["songs"]] == [
            (str(bad), "failed"), (str(song), "done"),
        ]  # fmt: skip
        assert "1 of 2 songs not separated" in result.stderr
        assert [path.name for path in (tmp_path / "out").rglob("*.wav")] == ["vocals.wav"]

    def test_nothing_to_separate(self, trained_folder: Path, refused: Any, tmp_path: Path) -> None:
        assert "no audio files" in refused("separate", trained_folder, tmp_path)
        assert "check the path" in refused("separate", trained_folder, tmp_path / "none.wav")

    def test_unknown_stem(self, trained_folder: Path, song_folder: Path, refused: Any, tmp_path: Path) -> None:
        text = refused("separate", trained_folder, song_folder / "test", "--stems", "bass", "--save", tmp_path / "o")
        assert "no target 'bass'" in text and not (tmp_path / "o").exists()

    @pytest.mark.parametrize(
        ("words", "expected"),
        [(("--segment", "-1"), "-1"), (("--overlap", "3"), "0.5"), (("--device", "warp"), "'warp'")],
    )
    def test_options_out_of_range(
        self, words: tuple[str, ...], expected: str, trained_folder: Path, song_folder: Path, refused: Any
    ) -> None:
        assert expected in refused("separate", trained_folder, song_folder / "test", *words)


class TestTest:
    def test_documented_command(self, trained_copy: Path, song_folder: Path, invoke: Any) -> None:
        text = invoke("test", trained_copy, song_folder).stdout
        assert all(word in text for word in ("SDR", "ISR", "SIR", "SAR", "mixture", "median", "evaluation.csv"))
        rows = list(csv.DictReader((trained_copy / "evaluation.csv").read_text().splitlines()))
        assert [(row["song"], row["target"]) for row in rows] == [
            ("test song 0", "vocals"), ("test song 1", "vocals"), ("median", "vocals"),
        ]  # fmt: skip
        values = [float(row["SDR"]) for row in rows]
        assert values[2] == pytest.approx(np.median(values[:2]), abs=1e-4)
        data = json.loads(invoke("test", trained_copy, song_folder, "--json").stdout)
        assert [score["song"] for score in data["scores"]] == [row["song"] for row in rows[:2]]

    def test_no_test_songs(self, trained_copy: Path, songs_copy: Path, refused: Any) -> None:
        shutil.rmtree(songs_copy / "test")
        assert "test/" in refused("test", trained_copy, songs_copy)
