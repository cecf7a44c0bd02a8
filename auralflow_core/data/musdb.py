"""MUSDB18 (`.stem.mp4`, through the musdb package) and MUSDB18-HQ (WAV)."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from auralflow_core.config import DatasetConfig
from auralflow_core.data.folder import FolderDataset
from auralflow_core.data.song import Audio, Song
from auralflow_core.data.splits import Split, divide, existing
from auralflow_core.errors import AudioError, DataError


class MusdbDataset:
    """The songs of MUSDB18 or MUSDB18-HQ, with the data set's own 14 validation songs.

    Args:
        root: The folder with `train/` and `test/`.
        config: The settings of the group `dataset`.

    Raises:
        DataError: The folder is missing, or `.stem.mp4` files cannot be decoded because ffmpeg is not installed.
    """

    def __init__(self, root: Path, config: DatasetConfig) -> None:
        self.root = existing(root)
        self._config = config
        self._is_stems = _has_stem_files(root)
        self._folder = None if self._is_stems else FolderDataset(root, config, _validation_names())

    @classmethod
    def detects(cls, root: Path) -> bool:
        """Whether the folder holds `.stem.mp4` files or songs of MUSDB18's validation list."""
        if _has_stem_files(root):
            return True
        train = root / "train"
        return train.is_dir() and any((train / name).is_dir() for name in _validation_names())

    def songs(self, split: Split) -> list[Song]:
        """Return the songs of a split, sorted by name.

        Raises:
            DataError: The split is empty.
        """
        if self._folder is not None:
            return self._folder.songs(split)
        songs = [_stem_song(track) for track in self._tracks("test" if split == "test" else "train")]
        if not songs:
            raise DataError(f"{self.root}: has no .stem.mp4 files for {split}; check the download")
        if split == "test":
            return songs
        training, validation = divide(
            songs, self._config.validation_split, _validation_names(), key=lambda song: song.name
        )
        return training if split == "train" else validation

    def _tracks(self, subset: str) -> list[Any]:
        musdb = _import_musdb()
        for path in sorted((self.root / subset).glob("*.stem.mp4")):
            _check_streams(path)
        return list(musdb.DB(root=str(self.root), subsets=subset).tracks)


NUM_STREAMS = 5  # mixture, drums, bass, other, vocals
_BLOCK_FRAMES = 1 << 15
# Frames by which a stream may end before the container says: a codec frame's delay and its rounding.
_LONGEST_LACK = 4096


@dataclass(frozen=True)
class StemSource:
    """One stream of a `.stem.mp4`, decoded with ffmpeg from its start each time it is read.

    Attributes:
        path: The file.
        stream: Number of the audio stream.
        sample_rate: In Hz.
        channels: Of the stream.
        frames: Length in samples.
    """

    path: Path
    stream: int
    sample_rate: int
    channels: int
    frames: int

    @property
    def decoding(self) -> str:
        """What besides the file decides on the samples (see `data.cache`)."""
        return f"stream {self.stream}, {self.frames} frames, ffmpeg"

    def read(self, start: int, frames: int) -> Audio:
        """Return float32 `(channel, frames)` from sample `start` on.

        Raises:
            AudioError: The stream breaks off.
        """
        return np.concatenate([np.zeros((self.channels, 0), np.float32), *self._decoded(start, frames)], axis=1)

    def blocks(self) -> Iterator[Audio]:
        """Yield the whole stream in blocks, float32 `(channel, frames)`.

        Raises:
            AudioError: The stream breaks off.
        """
        return self._decoded(0, self.frames)

    def _decoded(self, start: int, frames: int) -> Iterator[Audio]:
        # After the file: an `-ss` before it would begin with a packet whose predecessor the codec lacks.
        place = ["-i", str(self.path), "-map", f"0:a:{self.stream}", "-ss", f"{start / self.sample_rate:.9f}"]
        shape = ["-ac", str(self.channels), "-ar", str(self.sample_rate), "-f", "f32le", "-"]
        command = ["ffmpeg", "-nostdin", "-loglevel", "quiet", *place, *shape]
        frame_bytes = 4 * self.channels
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                while frames and (raw := process.stdout.read(min(frames, _BLOCK_FRAMES) * frame_bytes)):
                    block = np.frombuffer(raw[: len(raw) - len(raw) % frame_bytes], "<f4").reshape(-1, self.channels)
                    frames -= len(block)
                    yield block.T
            finally:
                process.kill()
        if frames > _LONGEST_LACK:
            raise AudioError(f"cannot read {self.path}: stream {self.stream} breaks off {frames} frames before its end")
        if frames:
            yield np.zeros((self.channels, frames), np.float32)


def _check_streams(path: Path) -> None:
    """Refuse a file that has not the five streams of MUSDB18: the musdb package would end in a traceback."""
    command = ["ffprobe", "-v", "error", "-select_streams", "a", "-show_entries", "stream=index", "-of", "csv=p=0"]
    result = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    count = len(result.stdout.split())
    if result.returncode or count != NUM_STREAMS:
        reason = result.stderr.strip().splitlines()[-1:] or [f"has {count} audio streams and not {NUM_STREAMS}"]
        raise DataError(f"{path}: is no stem file of MUSDB18 ({reason[0]}); download it again or remove it")


def _stem_song(track: Any) -> Song:
    rate = round(track.rate)
    channels = int(track.info.audio_streams[0]["channels"])
    frames = int(track.samples)

    def source(stream: int) -> StemSource:
        return StemSource(Path(track.path), stream, rate, channels, frames)

    stems = {name: source(item.stem_id) for name, item in track.sources.items()}
    return Song(track.name, stems, source(track.stem_id), rate, channels, frames)


def _has_stem_files(root: Path) -> bool:
    return any(next((root / subset).glob("*.stem.mp4"), None) for subset in ("train", "test"))


@cache
def _validation_names() -> frozenset[str]:
    # Read beside the package: importing musdb raises where ffmpeg is missing, even for WAV.
    spec = importlib.util.find_spec("musdb")
    assert spec is not None and spec.submodule_search_locations
    text = Path(spec.submodule_search_locations[0], "configs", "mus.yaml").read_text(encoding="utf-8")
    return frozenset(yaml.safe_load(text)["validation_tracks"])


def _import_musdb() -> Any:
    for program in ("ffmpeg", "ffprobe"):
        if shutil.which(program) is None:
            raise DataError(
                f"{program} is not on the PATH, and .stem.mp4 files are decoded with it; install ffmpeg "
                "(Debian: apt-get install ffmpeg), or use MUSDB18-HQ, which is WAV"
            )
    import musdb

    return musdb
