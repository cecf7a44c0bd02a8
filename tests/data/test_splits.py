from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auralflow_core.data.splits import divide
from auralflow_core.errors import DataError

NAMES = st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=30, unique=True)


@given(songs=NAMES, share=st.floats(0.001, 0.999))
def test_every_song_is_on_one_side_and_neither_is_empty(songs: list[str], share: float) -> None:
    training, validation = divide(songs, share, key=str)
    assert sorted(training + validation) == sorted(songs)
    assert training and validation
    assert len(validation) == min(max(1, round(share * len(songs))), len(songs) - 1)
    assert [song for song in songs if song in training] == training


@given(songs=NAMES, share=st.floats(0.001, 0.999), data=st.data())
def test_the_choice_depends_on_the_names_alone(songs: list[str], share: float, data: st.DataObject) -> None:
    other_order = data.draw(st.permutations(songs))
    assert set(divide(songs, share, key=str)[1]) == set(divide(list(other_order), share, key=str)[1])


def test_named_songs_are_kept_for_validation() -> None:
    training, validation = divide(list("abcdef"), 0.5, {"b", "e", "not here"}, key=str)
    assert (training, validation) == (list("acdf"), ["b", "e"])


@pytest.mark.parametrize("chosen", [{"x"}, set("abcd")])
def test_a_choice_that_leaves_one_side_empty_is_not_taken(chosen: set[str]) -> None:
    training, validation = divide(list("abcd"), 0.25, chosen, key=str)
    assert (len(training), len(validation)) == (3, 1)


@pytest.mark.parametrize("songs", [[], ["alone"]])
def test_too_few_songs(songs: list[str]) -> None:
    with pytest.raises(DataError, match=rf"^{len(songs)} song.*valid/"):
        divide(songs, 0.2, key=str)
