"""YAML as version 1.2 reads it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auralflow_core.config.yaml import dump_yaml, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1e5", 1e5),
        ("1E5", 1e5),
        ("-1.5e+3", -1500.0),
        ("12", 12),
        ("1.", 1.0),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("yes", "yes"),
        ("off", "off"),
        ("n", "n"),
        ("null", None),
        ("e5", "e5"),
        ("1e", "1e"),
        (".", "."),
        ("1.2.3", "1.2.3"),
    ],
)
def test_scalars_are_read_as_version_1_2_does(text: str, value: Any) -> None:
    found = parse_yaml(f"a: {text}")["a"]
    assert found == value and type(found) is type(value)


@example("1e-4")
@example({"name": "0E0"})
@settings(max_examples=50, deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
))  # fmt: skip
def test_what_is_written_is_read(data: Any) -> None:
    assert parse_yaml(dump_yaml(data)) == data
