"""The cache of decoded songs: same chunks, noticed changes, two processes, killed ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from auralflow_core.audio import AudioWriter
from auralflow_core.cli.cache import cache as cache_command
from auralflow_core.cli.main import Group
from auralflow_core.config import DatasetConfig, save_config, validate
from auralflow_core.config.schema import Config
from auralflow_core.data import cache as cache_module
from auralflow_core.data.cache import SongCache, cached
from auralflow_core.data.chunks import ChunkDataset, ChunkKey
from auralflow_core.data.folder import FolderDataset
from auralflow_core.data.pcm import PcmSource
from auralflow_core.data.song import Audio, Song, song_from_files
from auralflow_core.errors import AuralflowError
from auralflow_core.training import prepare_training

RATE = 16000
FRAMES = 3 * RATE + 77
FORMATS = ("flac", "mp3", "ogg", "m4a")
SIZES = {"num_fft": 64, "window_size": 64, "hop_length": 32, "sample_length": 0.5, "num_channels": 2}


def write(path: Path, seed: int = 0, frames: int = FRAMES, bit_depth: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(np.arange(frames) * (0.05 + 0.02 * seed)) * np.linspace(0.1, 1, frames)
    audio = np.stack([tone, 0.5 * tone]).astype(np.float32)
    with AudioWriter(path, RATE, 2, bit_depth=bit_depth) as writer:
        writer.write(audio)
    return path


def make_song(folder: Path, suffix: str = "flac", name: str = "song") -> Song:
    files = [write(folder / name / f"{stem}.{suffix}", seed) for seed, stem in enumerate(("vocals", "drums", "mix"))]
    return song_from_files(name, {"vocals": files[0], "drums": files[1]}, files[2])


def config(**settings: Any) -> DatasetConfig:
    settings = {"sample_rate": RATE, "targets": ["vocals", "drums"], **SIZES, **settings}
    return DatasetConfig.model_validate(settings)


def chunks(songs: list[Song], **settings: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    data = ChunkDataset(songs, config(**settings), seed=3)
    return [data[ChunkKey(1, number)] for number in range(len(data))]


@dataclass
class Told:
    """Remembers what was told of decoding."""

    calls: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, done: int, total: int) -> None:
        self.calls.append((done, total))


def decoded(folder: Path, *songs: Song) -> int:
    """Fill a cache and return how many files had to be decoded."""
    told = Told()
    SongCache(folder).songs(songs, told)
    assert [done for done, _ in told.calls] == list(range(len(told.calls)))
    return told.calls[-1][0] if told.calls else 0


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("rate", [RATE, 11025])
def test_chunks_are_the_same_as_without(suffix: str, rate: int, tmp_path: Path) -> None:
    song = make_song(tmp_path, suffix)
    (kept,) = SongCache(tmp_path / "cache").songs([song])
    assert all(isinstance(source, PcmSource) for source in (*kept.stems.values(), kept.mixture))
    for ours, theirs in zip(chunks([kept], sample_rate=rate), chunks([song], sample_rate=rate), strict=True):
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])
    assert np.array_equal(kept.read_stems(["drums"]), song.read_stems(["drums"]))


@pytest.mark.parametrize(("suffix", "bit_depth", "subtype"), [("flac", "16", "PCM_16"), ("flac", "24", "FLOAT")])
def test_sixteen_bits_where_they_suffice(suffix: str, bit_depth: str, subtype: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"vocals.{suffix}", bit_depth=bit_depth)
    (kept,) = SongCache(tmp_path / "cache").songs([song_from_files("song", {"vocals": path}, None)])
    source = kept.stems["vocals"]
    assert isinstance(source, PcmSource) and source.subtype == subtype
    assert np.array_equal(source.read(0, FRAMES), soundfile.read(path, dtype="float32")[0].T)


def test_a_lossy_file_that_begins_with_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Silence fits into 16 bits, what follows does not.
    monkeypatch.setattr(cache_module, "_WIDENED_BYTES", 1000)
    path = tmp_path / "vocals.mp3"
    tone = 0.3 * np.sin(0.1 * np.arange(5 * RATE))
    tone[: 4 * RATE] = 0
    with AudioWriter(path, RATE, 2) as writer:
        writer.write(np.stack([tone, -tone]).astype(np.float32))
    song = song_from_files("song", {"vocals": path}, None)
    (kept,) = SongCache(tmp_path / "cache").songs([song])
    source = kept.stems["vocals"]
    assert isinstance(source, PcmSource) and source.subtype == "FLOAT"
    assert np.array_equal(source.read(0, song.frames), song.read_stems(["vocals"])[0])


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=5),
    turn=st.integers(0, 5),
    channels=st.integers(1, 3),
)
def test_blocks_of_any_size_are_kept_exactly(sizes: list[int], turn: int, channels: int, tmp_path_factory: Any) -> None:
    rng = np.random.default_rng(len(sizes))
    blocks: list[Audio] = [
        (rng.integers(-(2**15), 2**15, (channels, size)) / 2**15).astype(np.float32) for size in sizes
    ]
    if turn < len(blocks):
        blocks[turn][0, -1] += 2.0**-20
    file = tmp_path_factory.mktemp("source") / "a.flac"
    file.touch()

    @dataclass(frozen=True)
    class Blocks:
        path: Path = file
        decoding: str = "blocks"

        def read(self, start: int, frames: int) -> Audio:
            raise AssertionError("the cache reads whole files")

        def blocks(self) -> Iterator[Audio]:
            yield from blocks

    frames = sum(sizes)
    (kept,) = SongCache(file.parent / "cache").songs([Song("song", {"a": Blocks()}, None, RATE, channels, frames)])
    source = kept.stems["a"]
    assert isinstance(source, PcmSource) and (source.subtype == "PCM_16") == (turn >= len(blocks))
    assert np.array_equal(source.read(0, frames), np.concatenate(blocks, axis=1))


def test_wav_is_not_kept(tmp_path: Path) -> None:
    assert decoded(tmp_path / "cache", make_song(tmp_path, "wav")) == 0
    assert not (tmp_path / "cache").exists()


class TestChanges:
    def test_nothing_is_decoded_twice(self, tmp_path: Path) -> None:
        song = make_song(tmp_path)
        assert decoded(tmp_path / "cache", song) == 3
        assert decoded(tmp_path / "cache", song) == 0
        assert decoded(tmp_path / "elsewhere", song) == 3

    def test_a_changed_file_is_decoded_anew_and_its_old_entry_goes(self, tmp_path: Path) -> None:
        song = make_song(tmp_path)
        decoded(tmp_path / "cache", song)
        path = write(tmp_path / "song" / "vocals.flac", seed=9)
        (stale,) = [entry for entry in SongCache(tmp_path / "cache").entries() if not entry.is_current]
        assert stale.source == str(path.resolve())
        assert decoded(tmp_path / "cache", song) == 1
        (kept,) = SongCache(tmp_path / "cache").songs([song])
        assert np.array_equal(kept.stems["vocals"].read(0, FRAMES), soundfile.read(path, dtype="float32")[0].T)
        entries = SongCache(tmp_path / "cache").entries()
        assert len(entries) == 3 and all(entry.is_current for entry in entries)

    def test_only_its_time_changed(self, tmp_path: Path) -> None:
        song = make_song(tmp_path)
        decoded(tmp_path / "cache", song)
        os.utime(tmp_path / "song" / "drums.flac", ns=(1, 1))
        assert decoded(tmp_path / "cache", song) == 1

    def test_another_decoding_is_another_entry(self, tmp_path: Path) -> None:
        file = write(tmp_path / "a.flac")

        @dataclass(frozen=True)
        class Stream:
            decoding: str
            path: Path = file

            def read(self, start: int, frames: int) -> Audio:
                raise AssertionError("the cache reads whole files")

            def blocks(self) -> Iterator[Audio]:
                yield np.full((1, 10), len(self.decoding), np.float32)

        song = Song("song", {"vocals": Stream("one"), "drums": Stream("seven")}, None, RATE, 1, 10)
        (kept,) = SongCache(tmp_path / "cache").songs([song])
        assert [kept.stems[name].read(0, 1).item() for name in ("vocals", "drums")] == [3, 5]
        assert len(SongCache(tmp_path / "cache").entries()) == 2

    @pytest.mark.parametrize("damage", [b"", b"{}", b"not json", b'{"format": 0}'])
    def test_a_damaged_entry_is_made_again(self, damage: bytes, tmp_path: Path) -> None:
        song = make_song(tmp_path)
        decoded(tmp_path / "cache", song)
        first, second, _ = SongCache(tmp_path / "cache").entries()
        (first.folder / "entry.json").write_bytes(damage)
        (second.folder / "audio.pcm").write_bytes(damage)
        assert decoded(tmp_path / "cache", song) == 2
        (kept,) = SongCache(tmp_path / "cache").songs([song])
        assert np.array_equal(kept.read_mixture(), song.read_mixture())


class TestSettings:
    def test_each_split_has_its_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AURALFLOW_CACHE", str(tmp_path / "default"))
        song = make_song(tmp_path)
        settings = config(training_cache=str(tmp_path / "training"))
        cached([song], settings, "train")
        cached([song], settings, "valid")
        assert len(SongCache(tmp_path / "training").entries()) == 3
        assert len(SongCache(tmp_path / "default" / "songs").entries()) == 3
        cached([song], config(validation_cache=str(tmp_path / "validation")), "valid")
        assert len(SongCache(tmp_path / "validation").entries()) == 3

    def test_it_can_be_switched_off(self, tmp_path: Path) -> None:
        songs = [make_song(tmp_path)]
        assert cached(songs, config(cache=False, training_cache=str(tmp_path / "cache")), "train") is songs
        assert not (tmp_path / "cache").exists()

    @pytest.mark.parametrize("suffix", ["mp3", "ogg", "m4a"])
    def test_a_folder_of_songs_in_a_lossy_format(self, suffix: str, tmp_path: Path) -> None:
        for split in ("train", "valid"):
            make_song(tmp_path / "data" / split, suffix)
        songs = FolderDataset(tmp_path / "data", config()).songs("train")
        kept = cached(songs, config(training_cache=str(tmp_path / "cache")), "train")
        assert {Path(entry.source).suffix for entry in SongCache(tmp_path / "cache").entries()} == {f".{suffix}"}
        for ours, theirs in zip(chunks(kept), chunks(songs), strict=True):
            assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])

    def test_training_reads_from_it(self, tmp_path: Path) -> None:
        for split in ("train", "valid"):
            make_song(tmp_path / "data" / split)
        losses = []
        for on in (True, False):
            settings = {"cache": on, "training_cache": str(tmp_path / "t"), "validation_cache": str(tmp_path / "v")}
            whole = {"dataset": config(**settings).model_dump(), "model": {"type": "SpectrogramNetSimple"}}
            whole["training"] = {"device": "cpu", "max_epochs": 1, "batch_size": 2}
            whole["visuals"] = {"tensorboard": False, "save_images": False, "save_audio": False}
            told = Told()
            trainer = prepare_training(
                validate(Config, whole), tmp_path / f"model {on}", tmp_path / "data", decoding=told
            )
            losses.append((trainer.model.data_facts["train"], trainer.fit().best_loss))
            assert told.calls == ([(0, 3), (1, 3), (2, 3), (3, 3)] * 2 if on else [])
        assert losses[0] == losses[1]


class TestFaults:
    def test_a_file_that_breaks_off_leaves_nothing(self, tmp_path: Path) -> None:
        song = make_song(tmp_path, "ogg")
        path = tmp_path / "song" / "drums.ogg"
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(AuralflowError, match=r"drums\.ogg"):
            SongCache(tmp_path / "cache").songs([song])
        assert not list((tmp_path / "cache").glob("*.part")) and not list((tmp_path / "cache").glob(".*.part"))
        assert "drums.ogg" not in {Path(entry.source).name for entry in SongCache(tmp_path / "cache").entries()}

    def test_a_file_that_is_gone(self, tmp_path: Path) -> None:
        song = make_song(tmp_path)
        (tmp_path / "song" / "mix.flac").unlink()
        with pytest.raises(AuralflowError, match=r"mix\.flac"):
            SongCache(tmp_path / "cache").songs([song])

    def test_an_entry_that_goes_while_it_is_used(self, tmp_path: Path) -> None:
        (kept,) = SongCache(tmp_path / "cache").songs([make_song(tmp_path)])
        shutil.rmtree(tmp_path / "cache")
        with pytest.raises(AuralflowError, match="start again"):
            kept.read_mixture(0, 10)

    def test_a_full_disk_is_told_before(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = shutil.disk_usage(tmp_path)._replace(free=2 * 2 * 3 * FRAMES - 1)
        monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(AuralflowError, match="GB are free; set AURALFLOW_CACHE"):
            SongCache(tmp_path / "cache").songs([make_song(tmp_path)])
        assert not (tmp_path / "cache").exists()


SLOW = """
import sys, time
from pathlib import Path
from auralflow_core.data import cache, song
folder, data = map(Path, sys.argv[1:])
read = song.FileSource.blocks
def blocks(source):
    (data / "decodings").open("a").write(source.path.name + chr(10))
    yield from read(source)
    time.sleep(float((data / "sleep").read_text()))
song.FileSource.blocks = blocks
found = song.song_from_files("song", {"vocals": data / "song" / "vocals.flac"}, None)
cache.SongCache(folder).songs([found])
"""


class TestProcesses:
    @staticmethod
    def start(data: Path, sleep: float) -> subprocess.Popen[bytes]:
        (data / "sleep").write_text(str(sleep))
        return subprocess.Popen([sys.executable, "-c", SLOW, str(data / "cache"), str(data)])

    def test_two_at_once_decode_once(self, tmp_path: Path) -> None:
        make_song(tmp_path)
        both = [self.start(tmp_path, 1) for _ in range(2)]
        assert [process.wait() for process in both] == [0, 0]
        assert (tmp_path / "decodings").read_text().split() == ["vocals.flac"]

    def test_a_killed_one_is_made_up_for(self, tmp_path: Path) -> None:
        song = make_song(tmp_path)
        process = self.start(tmp_path, 60)
        while not list((tmp_path / "cache").glob(".*.part/audio.pcm")):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert SongCache(tmp_path / "cache").entries() == []
        assert decoded(tmp_path / "cache", song) == 3
        assert not list((tmp_path / "cache").glob(".*.part"))


class TestCommand:
    @pytest.fixture
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
        monkeypatch.setenv("AURALFLOW_CACHE", str(tmp_path / "default"))

        def run(*words: object, status: int = 0) -> Result:
            group = Group(commands={"cache": cache_command})
            result = CliRunner().invoke(group, ["cache", *map(str, words)])
            assert result.exit_code == status, result.output
            return result

        return run

    def test_build_list_clear(self, run: Callable[..., Result], tmp_path: Path) -> None:
        for split in ("train", "valid"):
            make_song(tmp_path / "data" / split)
        whole = {"dataset": config().model_dump(), "model": {"type": "SpectrogramNetSimple"}}
        save_config(validate(Config, whole), tmp_path / "model" / "config.json")
        assert "0 entries" in run("list").output
        assert "1 songs for training and 1 for validation" in run("build", tmp_path / "data", tmp_path / "model").output
        shown = run("list").output
        assert shown.count(".flac") == 6 and "6 entries" in shown and str(tmp_path / "default" / "songs") in shown
        assert "Removed 6 entries" in run("clear").output
        assert "0 entries" in run("list").output

    def test_clear_removes_nothing_else(self, run: Callable[..., Result], tmp_path: Path) -> None:
        decoded(tmp_path / "mine", make_song(tmp_path))
        (tmp_path / "mine" / "my-diary").mkdir()
        (tmp_path / "mine" / "my-diary" / "text").write_text("dear")
        (tmp_path / "mine" / "note.txt").write_text("n")
        assert "3 entries" in run("clear", "--folder", tmp_path / "mine").output
        assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["my-diary", "note.txt"]

    def test_json(self, run: Callable[..., Result], tmp_path: Path) -> None:
        decoded(tmp_path / "mine", make_song(tmp_path))
        facts = json.loads(run("list", "--folder", tmp_path / "mine", "--json").output)
        assert len(facts["entries"]) == 3 and facts["num_bytes"] == sum(row["num_bytes"] for row in facts["entries"])

    def test_a_folder_that_is_no_data_set(self, run: Callable[..., Result], tmp_path: Path) -> None:
        assert "Traceback" not in run("build", tmp_path / "nowhere", tmp_path / "no model", status=1).output
