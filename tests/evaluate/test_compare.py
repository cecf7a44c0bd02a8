"""Comparisons: paired differences, the sign test against scipy's, and what is not comparable."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import museval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from auralflow_core.errors import DataError
from auralflow_core.evaluate.compare import Evaluation, compare, doubts, read_evaluation, sign_test
from auralflow_core.evaluate.report import KIND


def evaluation(name: str, sdr: Mapping[str, float], pes: Mapping[str, float] | None = None) -> Evaluation:
    values = {("vocals", "SDR"): dict(sdr)}
    if pes is not None:
        values["vocals", "PES"] = dict(pes)
    return Evaluation(name, values, dict.fromkeys(sdr))


@given(better=st.integers(0, 200), worse=st.integers(0, 200))
@settings(max_examples=50, deadline=None)
def test_the_sign_test_is_the_exact_one(better: int, worse: int) -> None:
    expected = binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert sign_test(better, worse) == pytest.approx(expected, rel=1e-9)


class TestDifferences:
    def test_are_taken_song_by_song(self) -> None:
        first = evaluation("A", {"a": 1.0, "b": 5.0, "c": 3.0, "d": 2.0})
        other = evaluation("B", {"d": 2.0, "c": 4.0, "b": 5.5, "a": 0.0})
        [found] = compare([first, other])
        assert (found.baseline, found.other, found.target, found.metric) == ("A", "B", "vocals", "SDR")
        assert (found.baseline_median, found.other_median) == (2.5, 3.0)
        assert (found.median, found.mean) == (0.25, 0.125)
        assert (found.better, found.worse, found.songs) == (2, 1, 4)
        assert found.interval[0] <= found.median <= found.interval[1]
        assert found.p == sign_test(2, 1) == 1.0

    def test_less_is_better_where_silence_is_measured(self) -> None:
        songs = {"a": 0.0, "b": 0.0}
        both = [evaluation("A", songs, {"a": -20, "b": -20}), evaluation("B", songs, {"a": -30, "b": -40})]
        silence = compare(both)[1]
        assert (silence.metric, silence.median, silence.better, silence.worse) == ("PES", -15, 2, 0)

    def test_only_songs_that_both_have_a_score_of_count(self) -> None:
        first = evaluation("A", {"a": 1.0, "b": math.nan, "c": 3.0, "only here": 0.0})
        other = evaluation("B", {"a": 2.0, "b": 1.0, "c": math.inf, "only there": 9.0})
        [found] = compare([first, other])
        assert (found.songs, found.median) == (1, 1.0)
        lines = doubts([first, other])
        assert len(lines) == 2 and "only here" in lines[0] and "only there" in lines[1]

    def test_what_rounding_makes_has_no_winner(self) -> None:
        first = evaluation("A", {"a": 1.0, "b": 5.0, "c": 2.0})
        [found] = compare([first, evaluation("B", {"a": 1.0 + 1e-13, "b": 4.9995, "c": 2.002})])
        assert (found.better, found.worse, found.p) == (1, 0, 1.0)

    def test_several_are_compared_with_the_first(self) -> None:
        found = compare([evaluation(name, {"a": value}) for name, value in (("A", 1.0), ("B", 2.0), ("C", 4.0))])
        assert [(row.baseline, row.other, row.median) for row in found] == [("A", "B", 1.0), ("A", "C", 3.0)]

    def test_what_cannot_be_compared(self) -> None:
        one = evaluation("A", {"a": 1.0})
        with pytest.raises(DataError, match="two or more"):
            compare([one])
        with pytest.raises(DataError, match="no song in common"):
            compare([one, evaluation("B", {"b": 1.0})])
        with pytest.raises(DataError, match=r"no target in common \(vocals; drums\)"):
            compare([one, Evaluation("B", {("drums", "SDR"): {"a": 1.0}}, {"a": None})])

    def test_other_audio_and_other_yardsticks_are_doubted(self) -> None:
        first = Evaluation("A", {("vocals", "SDR"): {"a": 1.0}}, {"a": "0"}, {"backend": "museval", "split": "test"})
        other = Evaluation("B", first.values, {"a": "1"}, {"backend": "auralflow", "split": "test"})
        audio, yardstick = doubts([first, other])
        assert audio == "songs whose audio is another in A and B (1): a" and "backend" in yardstick
        assert not doubts([first, first])


def document(songs: Mapping[str, float | None]) -> dict[str, Any]:
    rows = [{"song": song, "target": "vocals", "SDR": value, "irm_SDR": 9.0} for song, value in songs.items()]
    settings_ = {"backend": "auralflow"}
    data = {"split": "test"}
    return {"kind": KIND, "settings": settings_, "data": data, "songs": dict.fromkeys(songs, "0"), "scores": rows}


class TestReading:
    def test_a_document_and_the_folder_it_lies_in(self, tmp_path: Path) -> None:
        (tmp_path / "evaluation.json").write_text(json.dumps(document({"a": 1.5, "b": None})))
        for path in (tmp_path, tmp_path / "evaluation.json"):
            found = read_evaluation(path)
            assert list(found.values) == [("vocals", "SDR")]
            assert found.values["vocals", "SDR"]["a"] == 1.5 and math.isnan(found.values["vocals", "SDR"]["b"])

    def test_a_folder_that_museval_wrote(self, tmp_path: Path) -> None:
        store = museval.TrackStore("x")
        frames = np.array([[1.0, np.nan, 4.0, np.inf], [2, 2, 2, 2], [3, 3, 3, 3], [4, 4, 4, 4]])
        store.add_target("vocals", dict(zip(("SDR", "ISR", "SIR", "SAR"), frames.tolist(), strict=True)))
        (tmp_path / "test").mkdir()
        store.save(tmp_path / "test" / "a song.json")
        found = read_evaluation(tmp_path)
        assert found.songs == {"a song": None}
        assert {metric: values["a song"] for (_, metric), values in found.values.items()} == {
            "SDR": 2.5,
            "ISR": 2,
            "SIR": 3,
            "SAR": 4,
        }

    def test_nothing_of_the_kind(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="auralflow test"):
            read_evaluation(tmp_path)
        with pytest.raises(DataError, match="no such file"):
            read_evaluation(tmp_path / "none.json")
        for text, reason in (("{", "cannot be read"), ("[]", "no evaluation"), ("{}", "is no evaluation.json")):
            (tmp_path / "bad.json").write_text(text)
            with pytest.raises(DataError, match=reason):
                read_evaluation(tmp_path / "bad.json")
        (tmp_path / "bad.json").write_text(json.dumps({"kind": KIND, "scores": [{}]}))
        with pytest.raises(DataError, match="damaged"):
            read_evaluation(tmp_path / "bad.json")
        (tmp_path / "test").mkdir()
        (tmp_path / "test" / "song.json").write_text('{"targets": [{}]}')
        with pytest.raises(DataError, match="museval's layout"):
            read_evaluation(tmp_path)
