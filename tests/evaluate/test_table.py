"""Medians, means and intervals over songs, and the CSV."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from auralflow_core.errors import AuralflowError
from auralflow_core.evaluate import MEDIAN, Score, medians, write_csv
from auralflow_core.evaluate.table import summarize


def score(song: str, target: str, first: float, **other: float) -> Score:
    return Score(song, target, {"SDR": first, "SIR": math.inf, "mixture_SDR": -1.0, **other})


class TestMedians:
    def test_over_songs_for_each_target(self) -> None:
        scores = [score("a", "vocals", 1), score("a", "bass", 9), score("b", "vocals", 5), score("c", "vocals", 2)]
        rows = medians(scores)
        assert [(row.song, row.target, row["SDR"]) for row in rows] == [(MEDIAN, "vocals", 2), (MEDIAN, "bass", 9)]

    def test_an_even_count_takes_the_mean_of_the_middle(self) -> None:
        scores = [score(name, "vocals", value) for name, value in zip("abcd", (1, 2, 4, 9), strict=True)]
        assert medians(scores)[0]["SDR"] == 3

    def test_what_is_no_finite_number_does_not_count(self) -> None:
        found = medians([score("a", "vocals", math.nan), score("b", "vocals", 5), score("c", "vocals", 7)])
        assert found[0]["SDR"] == 6 and math.isnan(found[0]["SIR"])
        assert math.isnan(medians([score("a", "vocals", math.nan)])[0]["SDR"])

    def test_nothing(self) -> None:
        assert medians([]) == []


class TestSummary:
    def test_each_number_says_how_many_songs_it_is_of(self) -> None:
        songs = [score("a", "vocals", 1), score("b", "vocals", math.nan), score("c", "vocals", 4)]
        found = summarize(songs)["vocals"]
        assert (found["SDR"]["median"], found["SDR"]["mean"], found["SDR"]["songs"]) == (2.5, 2.5, 2)
        assert found["SDR"]["interval"] == [1, 4]
        assert found["SIR"]["songs"] == 0 and math.isnan(found["SIR"]["median"])

    def test_gains_are_taken_song_by_song(self) -> None:
        songs = [score("a", "vocals", 1, mixture_SDR=0.0), score("b", "vocals", 5, mixture_SDR=3.0)]
        found = summarize([*songs, score("c", "vocals", 2, mixture_SDR=-9.0)])["vocals"]
        assert found["gain_SDR"]["median"] == 2

    def test_one_song_has_no_interval(self) -> None:
        assert all(map(math.isnan, summarize([score("a", "vocals", 1)])["vocals"]["SDR"]["interval"]))


class TestCsv:
    def test_layout(self, tmp_path: Path) -> None:
        path = tmp_path / "evaluation.csv"
        scores = [score('A, "B" - ü', "vocals", 1.25), score("c", "vocals", math.nan, PES=-60.0)]
        write_csv(path, scores)
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        assert rows == [
            ["song", "target", "SDR", "SIR", "mixture_SDR", "PES"],
            ['A, "B" - ü', "vocals", "1.25000", "inf", "-1.00000", "nan"],
            ["c", "vocals", "nan", "inf", "-1.00000", "-60.00000"],
            ["median", "vocals", "1.25000", "nan", "-1.00000", "-60.00000"],
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
