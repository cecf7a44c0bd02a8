"""Scores of whole songs against museval, called here with the arrays laid out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import museval.metrics
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from auralflow_core.data.song import Song
from auralflow_core.errors import DataError
from auralflow_core.evaluate import Score, evaluate, score_song
from auralflow_core.evaluate.song import BSS_METRICS, Backend
from auralflow_core.separate import Separator

MakeSong = Callable[..., Song]
MakeSeparator = Callable[..., Separator]
STEMS = ("vocals", "drums", "bass", "other")


def by_museval(references: NDArray[np.float32], estimates: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Return the medians over frames of one second, `(metric, target)`."""
    arrays = [np.stack([audio.T for audio in group]).astype(np.float64) for group in (references, estimates)]
    found = museval.metrics.bss_eval(*arrays, window=rate, hop=rate, compute_permutation=False)[:4]
    return np.array([[np.nanmedian(frames) for frames in metric] for metric in found])


def expected_scores(song: Song, using: Separator) -> NDArray[np.float64]:
    """Each target's SDR, ISR, SIR, SAR: the stems that are not estimated count as one further source."""
    mixture = song.read_mixture()
    references = [song.stems[name].read(0, song.frames) for name in using.targets]
    estimates = list(using(torch.from_numpy(mixture), song.sample_rate).numpy())
    rest = [song.stems[name].read(0, song.frames) for name in song.stems if name not in using.targets]
    if rest:
        references.append(np.sum(rest, axis=0))
        estimates.append(mixture - np.sum(estimates, axis=0))
    return by_museval(np.array(references), np.array(estimates), song.sample_rate)


def values(score: Score) -> list[float]:
    return [score[name] for name in BSS_METRICS]


# museval's time grows with the cube of sources times channels.
@pytest.mark.parametrize(
    ("targets", "channels", "seconds", "backend"),
    [
        (("vocals",), 1, 2, "museval"),
        (("vocals",), 1, 2, "auralflow"),
        (("vocals",), 2, 1, "auralflow"),
        (("drums", "vocals"), 1, 2, "auralflow"),
        (STEMS, 1, 1, "auralflow"),
    ],
)
def test_scores_equal_musevals(
    targets: tuple[str, ...],
    channels: int,
    seconds: int,
    backend: Backend,
    separator: MakeSeparator,
    make_song: MakeSong,
) -> None:
    using, song = separator(*targets), make_song(seconds=seconds, channels=channels)
    expected = expected_scores(song, using)
    scores = evaluate(using, [song], backend=backend)
    assert [(score.song, score.target) for score in scores] == [("song 0", target) for target in targets]
    for number, score in enumerate(scores):
        assert values(score) == pytest.approx(expected[:, number].tolist(), abs=1e-4)


def test_a_model_of_all_stems_is_scored_against_these_alone(separator: MakeSeparator, make_song: MakeSong) -> None:
    using, song = separator("vocals"), make_song(stems=("vocals",))
    score = evaluate(using, [song])[0]
    estimate = using(torch.from_numpy(song.read_mixture()), song.sample_rate).numpy()
    expected = by_museval(song.read_stems(["vocals"]), estimate, song.sample_rate)
    assert score["SDR"] == pytest.approx(expected[0, 0], abs=1e-4)
    # museval writes an infinite SIR as NaN, which is no score.
    assert expected[2, 0] == math.inf and math.isnan(score["SIR"])


def test_the_mixtures_own_scores_are_ratios_of_energies(separator: MakeSeparator, make_song: MakeSong) -> None:
    song = make_song()
    score = evaluate(separator("vocals"), [song])[0]
    target, mixture = song.read_stems(["vocals"])[0].astype(np.float64), song.read_mixture().astype(np.float64)
    rate = song.sample_rate
    frames = [slice(start, start + rate) for start in range(0, song.frames, rate)]
    ratios = [10 * np.log10(np.sum(target[:, part] ** 2) / np.sum((mixture - target)[:, part] ** 2)) for part in frames]
    assert score["mixture_SDR"] == pytest.approx(float(np.median(ratios)), abs=1e-4)
    whole = 10 * np.log10(np.sum(target**2) / np.sum((mixture - target) ** 2))
    assert score["mixture_uSDR"] == pytest.approx(whole, abs=1e-4)
    assert "mixture_SIR" not in score.values


def test_a_song_shorter_than_a_frame(separator: MakeSeparator, make_song: MakeSong) -> None:
    using, song = separator("vocals"), make_song(seconds=0.7)
    assert values(evaluate(using, [song])[0]) == pytest.approx(expected_scores(song, using)[:, 0].tolist(), abs=1e-4)


def test_seconds_in_which_a_stem_is_silent_do_not_count(separator: MakeSeparator, make_song: MakeSong) -> None:
    using, song = separator("vocals"), make_song(seconds=4)
    song.stems["vocals"].read(0, song.frames)[:, 8000:16000] = 0
    score = evaluate(using, [song])[0]
    assert values(score) == pytest.approx(expected_scores(song, using)[:, 0].tolist(), abs=1e-4)
    # What is left there is what the metric of silence hears.
    left = using(torch.from_numpy(song.read_mixture()), 8000).numpy()[0, :, 8000:16000].astype(np.float64)
    assert score["PES"] == pytest.approx(10 * np.log10(np.mean(left**2)), abs=1e-3)


@pytest.mark.parametrize("backend", ["auralflow", "museval"])
def test_a_song_with_a_silent_stem_has_no_bsseval_and_says_why(
    backend: Backend, separator: MakeSeparator, make_song: MakeSong
) -> None:
    song = make_song(seconds=2, silent=("vocals",))
    scores = score_song(separator("vocals", "drums"), song, backend=backend)["model"]
    assert scores.reason == "vocals is silent"
    assert np.isnan([scores.values[name] for name in BSS_METRICS]).all()
    assert scores.frames.sdr.shape == (2, 2)
    # The other metrics look at each target by itself.
    assert np.isnan(scores.values["SI-SDR"]).tolist() == [True, False]
    assert np.isfinite(scores.values["PES"]).tolist() == [True, False]


def test_references_that_musevals_solver_cannot_take(separator: MakeSeparator, make_song: MakeSong) -> None:
    song = make_song(seconds=2, stems=("vocals", "drums"))
    same = Song("twins", {"vocals": song.stems["vocals"], "drums": song.stems["vocals"]}, None, 8000, 1, song.frames)
    scores = score_song(separator("vocals", "drums"), same, backend="museval")["model"]
    ours = score_song(separator("vocals", "drums"), same)["model"]
    # numpy before 2.4 lets museval fall back to least squares.
    assert "singular" in scores.reason or np.isfinite(scores.values["SDR"]).all()
    assert np.isfinite(ours.values["SDR"]).all() and not ours.reason


def test_songs_are_told_one_by_one(separator: MakeSeparator, make_song: MakeSong) -> None:
    told: list[tuple[str, int]] = []
    songs = [make_song(number, seconds=1) for number in range(2)]
    evaluate(separator("vocals", "bass"), songs, progress=lambda song, found: told.append((song.name, len(found))))
    assert told == [("song 0", 2), ("song 1", 2)]


def test_a_missing_target_is_told_before_anything_is_separated(separator: MakeSeparator, make_song: MakeSong) -> None:
    songs = [make_song(0, seconds=1), make_song(1, seconds=1, stems=("drums",))]
    told: list[str] = []

    def note(song: Song, found: Any) -> None:
        told.append(song.name)

    with pytest.raises(DataError, match="song 'song 1' has no stem 'vocals'"):
        evaluate(separator("vocals"), songs, progress=note)
    assert told == []
