"""Songs that a model knows: by their audio, under whatever name, and by their name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from auralflow_core.config import DatasetConfig
from auralflow_core.data.folder import FolderDataset
from auralflow_core.data.open import audio_fingerprint, fingerprint
from auralflow_core.data.song import Song
from auralflow_core.evaluate.seen import SeenSong, seen_songs, warnings_of


def songs_of(root: Path, split: Any = "test") -> list[Song]:
    return FolderDataset(root, DatasetConfig()).songs(split)


class TestFingerprint:
    def test_a_song_is_known_again_under_another_name_and_in_another_format(
        self, song_folder: Path, tmp_path: Path
    ) -> None:
        first, second = songs_of(song_folder)
        copy = tmp_path / "renamed" / "another name"
        copy.mkdir(parents=True)
        for file in (song_folder / "test" / first.name).glob("*.wav"):
            audio, rate = soundfile.read(file, dtype="float32")
            soundfile.write(copy / f"{file.stem}.flac", audio, rate, subtype="PCM_16")
        [same] = songs_of(tmp_path / "renamed")
        assert audio_fingerprint(same) == audio_fingerprint(first) != audio_fingerprint(second)

    def test_another_stem_is_noticed_where_stems_are_looked_at(self, songs_copy: Path) -> None:
        before = songs_of(songs_copy)[0]
        prints = audio_fingerprint(before), audio_fingerprint(before, ["vocals"])
        file = songs_copy / "test" / before.name / "vocals.wav"
        audio, rate = soundfile.read(file, dtype="float32")
        soundfile.write(file, 0.9 * audio, rate, subtype="FLOAT")
        after = songs_of(songs_copy)[0]
        assert audio_fingerprint(after) == prints[0]
        assert audio_fingerprint(after, ["vocals"]) != prints[1]

    def test_a_split_is_listed_with_its_songs(self, song_folder: Path) -> None:
        songs = songs_of(song_folder)
        found = fingerprint(songs)
        assert found["songs"] == [song.name for song in songs]
        assert found["audio"] == [audio_fingerprint(song) for song in songs]
        assert fingerprint(songs[:1])["sha256"] != found["sha256"]


class TestSeenSongs:
    def test_by_audio_by_name_and_not_at_all(self, song_folder: Path) -> None:
        first, second = songs_of(song_folder)
        training = {
            "train": {"songs": ["renamed", second.name], "audio": [audio_fingerprint(first), "0"]},
            "valid": {"songs": [first.name], "audio": ["1"]},
        }
        assert seen_songs(training, [first, second]) == [
            SeenSong(first.name, "train", "audio", "renamed"),
            SeenSong(first.name, "valid", "name", first.name),
            SeenSong(second.name, "train", "name", second.name),
        ]
        assert seen_songs({}, [first]) == []
        assert seen_songs({"train": {"songs": ["other"], "audio": ["2"]}}, [first]) == []

    def test_checkpoints_of_before_have_names_alone(self, song_folder: Path) -> None:
        first, _ = songs_of(song_folder)
        assert [song.by for song in seen_songs({"train": {"songs": [first.name]}}, [first])] == ["name"]

    def test_a_warning_names_some_and_counts_all(self) -> None:
        seen = [SeenSong(f"song {number}", "train", "audio", f"song {number}") for number in range(8)]
        seen.append(SeenSong("copy", "valid", "audio", "original"))
        train, valid = warnings_of({"train": {}}, seen, 50)
        assert train.startswith("8 of 50 tested songs were in the training")
        assert train.endswith("song 3, song 4 and 3 more")
        assert "copy (there original)" in valid
        assert warnings_of({"train": {}}, [], 50) == []

    def test_a_training_that_is_not_known_is_told(self) -> None:
        assert "not known" in warnings_of({}, [], 50)[0]


@pytest.mark.parametrize("renamed", [False, True])
def test_the_command_warns_and_goes_on(
    renamed: bool, trained_copy: Path, song_folder: Path, tmp_path: Path, invoke: Callable[..., Any]
) -> None:
    data = tmp_path / "leaky"
    shutil.copytree(song_folder, data)
    name = "known by another name" if renamed else "train song 1"
    shutil.copytree(data / "train" / "train song 1", data / "test" / name)
    result = invoke("test", trained_copy, data, "--quiet")
    shown = f"{name} (there train song 1)" if renamed else name
    text = "1 of 3 tested songs were in the training of this checkpoint, so that their scores say nothing about other "
    assert result.stderr == f"Warning: {text}songs: {shown}\n" and not result.stdout
    found = json.loads((trained_copy / "evaluation.json").read_text())
    assert found["warnings"] == [result.stderr.removeprefix("Warning: ").rstrip("\n")]
    assert found["seen"] == [{"song": name, "split": "train", "by": "audio", "known_as": "train song 1"}]


def test_the_command_warns_of_validation_songs(
    trained_copy: Path, song_folder: Path, invoke: Callable[..., Any]
) -> None:
    result = invoke("test", trained_copy, song_folder, "--split", "valid", "--quiet")
    assert "1 of 1 tested songs chose this checkpoint as validation songs" in result.stderr
    assert (trained_copy / "evaluation-valid.csv").is_file() and not (trained_copy / "evaluation.csv").exists()
    assert np.isfinite(json.loads((trained_copy / "evaluation-valid.json").read_text())["scores"][0]["SDR"])
