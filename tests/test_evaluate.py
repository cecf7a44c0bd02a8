"""Scores of whole songs against museval, called here with the arrays laid out by hand."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import museval.metrics
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from auralflow_core.config import Config, validate
from auralflow_core.data.song import Audio, Song
from auralflow_core.errors import AuralflowError, DataError
from auralflow_core.evaluate import MEDIAN, Backend, Score, evaluate, medians, write_csv
from auralflow_core.model import SpectrogramMaskModel
from auralflow_core.separate import Separator

RATE = 8000
STEMS = ("vocals", "drums", "bass", "other")


@dataclass(frozen=True)
class ArraySource:
    audio: Audio

    def read(self, start: int, frames: int) -> Audio:
        return self.audio[:, start : start + frames]


class Bands(nn.Module):
    """A mask of its own over the bins for each target: a poor separation, but one that leaks and colours."""

    def __init__(self, targets: int) -> None:
        super().__init__()
        shapes = torch.rand(targets, 1, 65, 1, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(shapes)

    def forward(self, magnitude: Tensor) -> Tensor:
        return self.weight * torch.ones_like(magnitude).unsqueeze(1)


def separator(*targets: str) -> Separator:
    sizes = {"num_fft": 128, "window_size": 128, "hop_length": 64, "sample_rate": RATE, "num_channels": 2}
    data = {
        "model": {"type": "Toy"},
        "dataset": {"targets": list(targets), **sizes},
        "training": {"device": "cpu"},
        "separation": {"segment": 1},
    }
    return Separator(SpectrogramMaskModel(validate(Config, data), Bands(len(targets))))


def make_song(number: int = 0, seconds: float = 3, stems: tuple[str, ...] = STEMS, channels: int = 1) -> Song:
    """A song of coloured noises and tones with 16 bits, like a file that was read.

    Mono mostly: museval's time grows with the cube of sources times channels.
    """
    rng = np.random.default_rng(number)
    frames = round(seconds * RATE)
    sources = {}
    for index, name in enumerate(stems):
        colour = rng.standard_normal(9) / (index + 1)
        noise = np.stack([np.convolve(row, colour, "same") for row in rng.standard_normal((channels, frames))])
        tone = np.sin(2 * np.pi * 200 * (index + 1) * np.arange(frames) / RATE)
        audio = 0.02 * noise + 0.05 * tone * (0.5 + 0.5 * np.sin(np.arange(frames) / RATE + index))
        sources[name] = ArraySource((np.round(audio * 2**15) / 2**15).astype(np.float32))
    return Song(f"song {number}", sources, None, RATE, channels, frames)


def by_museval(references: NDArray[np.float32], estimates: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the medians over frames of one second, `(metric, target)`."""
    arrays = [np.stack([audio.T for audio in group]).astype(np.float64) for group in (references, estimates)]
    found = museval.metrics.bss_eval(*arrays, window=RATE, hop=RATE, compute_permutation=False)[:4]
    return np.array([[np.nanmedian(frames) for frames in metric] for metric in found])


def expected_scores(song: Song, using: Separator) -> NDArray[np.float64]:
    """Each target's SDR, ISR, SIR, SAR: the stems that are not estimated count as one further source."""
    targets = using.model.targets
    mixture = song.read_mixture()
    references = [song.stems[name].read(0, song.frames) for name in targets]
    estimates = list(using(torch.from_numpy(mixture), RATE).numpy())
    rest = [song.stems[name].read(0, song.frames) for name in song.stems if name not in targets]
    if rest:
        references.append(np.sum(rest, axis=0))
        estimates.append(mixture - np.sum(estimates, axis=0))
    return by_museval(np.array(references), np.array(estimates))


def values(score: Score) -> list[float]:
    return [score.sdr, score.isr, score.sir, score.sar]


class TestScores:
    @pytest.mark.parametrize(
        ("targets", "channels"), [(("vocals",), 1), (("vocals",), 2), (("drums", "vocals"), 1), (STEMS, 1)]
    )
    def test_equal_musevals(self, targets: tuple[str, ...], channels: int) -> None:
        using, song = separator(*targets), make_song(channels=channels)
        expected = expected_scores(song, using)
        backends: tuple[Backend, ...] = ("auralflow", "museval")
        for backend in backends:
            scores = evaluate(using, [song], backend=backend)
            assert [(score.song, score.target) for score in scores] == [("song 0", target) for target in targets]
            for number, score in enumerate(scores):
                assert values(score) == pytest.approx(expected[:, number].tolist(), abs=1e-4)

    def test_a_model_of_all_stems_is_scored_against_these_alone(self) -> None:
        using, song = separator("vocals"), make_song(stems=("vocals",))
        score = evaluate(using, [song])[0]
        reference = song.read_stems(["vocals"])
        estimate = using(torch.from_numpy(song.read_mixture()), RATE).numpy()
        assert score.sdr == pytest.approx(by_museval(reference, estimate)[0, 0], abs=1e-4)

    def test_the_mixtures_own_score_is_the_energy_ratio(self) -> None:
        song = make_song()
        score = evaluate(separator("vocals"), [song])[0]
        target, mixture = song.read_stems(["vocals"])[0].astype(np.float64), song.read_mixture().astype(np.float64)
        frames = [slice(start, start + RATE) for start in range(0, song.frames, RATE)]
        ratios = [
            10 * np.log10(np.sum(target[:, part] ** 2) / np.sum((mixture - target)[:, part] ** 2)) for part in frames
        ]
        assert score.mixture_sdr == pytest.approx(float(np.median(ratios)), abs=1e-4)

    def test_a_song_shorter_than_a_frame(self) -> None:
        using, song = separator("vocals"), make_song(seconds=0.7)
        assert values(evaluate(using, [song])[0]) == pytest.approx(
            expected_scores(song, using)[:, 0].tolist(), abs=1e-4
        )

    def test_seconds_in_which_a_stem_is_silent_do_not_count(self) -> None:
        using, song = separator("vocals"), make_song(seconds=4)
        vocals = song.stems["vocals"]
        assert isinstance(vocals, ArraySource)
        vocals.audio[:, RATE : 2 * RATE] = 0
        score = evaluate(using, [song])[0]
        assert values(score) == pytest.approx(expected_scores(song, using)[:, 0].tolist(), abs=1e-4)
        assert all(map(math.isfinite, score.values))

    @pytest.mark.parametrize("backend", ["auralflow", "museval"])
    def test_a_song_whose_target_is_silent_has_no_score(self, backend: Backend) -> None:
        song = make_song(seconds=2)
        stems = {**song.stems, "vocals": ArraySource(np.zeros((1, song.frames), np.float32))}
        silent = replace(song, name="silent", stems=stems)
        scores = evaluate(separator("vocals"), [silent, song], backend=backend)
        assert all(map(math.isnan, values(scores[0])))
        assert all(map(math.isfinite, scores[1].values))

    def test_songs_are_told_one_by_one(self) -> None:
        told: list[tuple[str, int]] = []
        songs = [make_song(number, seconds=1) for number in range(2)]
        evaluate(separator("vocals", "bass"), songs, progress=lambda song, found: told.append((song.name, len(found))))
        assert told == [("song 0", 2), ("song 1", 2)]

    def test_a_missing_target_is_told_before_anything_is_separated(self) -> None:
        songs = [make_song(0, seconds=1), make_song(1, seconds=1, stems=("drums",))]
        told: list[str] = []
        with pytest.raises(DataError, match="song 'song 1' has no stem 'vocals'"):
            evaluate(separator("vocals"), songs, progress=lambda song, found: told.append(song.name))
        assert told == []


def score(song: str, target: str, first: float, **other: float) -> Score:
    return Score(song, target, **{"sdr": first, "isr": 2.0, "sir": math.inf, "sar": 4.0, "mixture_sdr": -1.0, **other})


class TestMedians:
    def test_over_songs_for_each_target(self) -> None:
        scores = [score("a", "vocals", 1), score("a", "bass", 9), score("b", "vocals", 5), score("c", "vocals", 2)]
        rows = medians(scores)
        assert [(row.song, row.target, row.sdr) for row in rows] == [(MEDIAN, "vocals", 2), (MEDIAN, "bass", 9)]
        assert rows[0].sir == math.inf

    def test_an_even_count_takes_the_mean_of_the_middle(self) -> None:
        assert (
            medians([score(name, "vocals", value) for name, value in zip("abcd", (1, 2, 4, 9), strict=True)])[0].sdr
            == 3
        )

    def test_songs_without_a_score_do_not_count(self) -> None:
        found = medians([score("a", "vocals", math.nan), score("b", "vocals", 5), score("c", "vocals", 7)])
        assert found[0].sdr == 6
        assert math.isnan(medians([score("a", "vocals", math.nan)])[0].sdr)

    def test_nothing(self) -> None:
        assert medians([]) == []


class TestCsv:
    def test_layout(self, tmp_path: Path) -> None:
        path = tmp_path / "evaluation.csv"
        scores = [score('A, "B" - ü', "vocals", 1.25), score("c", "vocals", math.nan)]
        write_csv(path, scores)
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        assert rows == [
            ["song", "target", "SDR", "ISR", "SIR", "SAR", "mixture_SDR"],
            ['A, "B" - ü', "vocals", "1.25000", "2.00000", "inf", "4.00000", "-1.00000"],
            ["c", "vocals", "nan", "2.00000", "inf", "4.00000", "-1.00000"],
            ["median", "vocals", "1.25000", "2.00000", "inf", "4.00000", "-1.00000"],
        ]

    def test_a_full_disk_leaves_the_old_table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "evaluation.csv"
        write_csv(path, [score("a", "vocals", 1)])
        before = path.read_bytes()

        def full(*args: object, **kwargs: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(AuralflowError, match="disk is full"):
            write_csv(path, [score("b", "vocals", 2)])
        assert path.read_bytes() == before
        assert [child.name for child in tmp_path.iterdir()] == ["evaluation.csv"]


def test_the_command_writes_table_and_csv(
    trained_copy: Path, song_folder: Path, invoke: Callable[..., Any], tmp_path: Path
) -> None:
    printed = invoke("test", trained_copy, song_folder).output
    text = {}
    for backend in ("auralflow", "museval"):
        invoke("test", trained_copy, song_folder, "--backend", backend, "--quiet")
        text[backend] = (trained_copy / "evaluation.csv").read_text(encoding="utf-8")
    rows = {backend: list(csv.reader(lines.splitlines())) for backend, lines in text.items()}
    assert [row[:2] for row in rows["auralflow"]] == [
        ["song", "target"],
        ["test song 0", "vocals"],
        ["test song 1", "vocals"],
        ["median", "vocals"],
    ]
    for ours, theirs in zip(rows["auralflow"][1:], rows["museval"][1:], strict=True):
        assert ours[:2] == theirs[:2]
        assert [float(value) for value in ours[2:]] == pytest.approx([float(value) for value in theirs[2:]], abs=2e-3)
    for row in rows["auralflow"][1:]:
        assert f"{float(row[2]):.2f}" in printed
    assert "evaluation.csv" in printed
