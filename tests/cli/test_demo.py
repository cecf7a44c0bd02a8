"""`auralflow demo`, shortened."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let songs be short, and spectrograms small: what is done to them is the same."""
    from auralflow_core.data import synth

    whole, demo = synth.write_songs, importlib.import_module("auralflow_core.cli.demo")
    small = {"sample_rate": "8000", "num_fft": "256", "window_size": "256", "hop_length": "128"}
    monkeypatch.setattr(synth, "write_songs", lambda *words, **facts: whole(*words, **{**facts, "seconds": 6.0}))
    monkeypatch.setattr(demo, "SETTINGS", {**demo.SETTINGS, **small})


@pytest.mark.slow
def test_demo_goes_the_whole_way_and_says_where_everything_lies(shortened: None, invoke: Any, tmp_path: Path) -> None:
    words = ("demo", "--save", tmp_path, "--songs", "4", "--minutes", "0.001")
    output = invoke(*words).stdout
    for command in ("config", "train", "test", "separate"):
        assert f"$ auralflow {command} " in output
    places = dict(re.findall(r"^  (\S.*?)  +(\S.*?)(?:  \(.*)?$", output.partition("Where everything lies:")[2], re.M))
    assert set(places) == {
        "songs",
        "configuration",
        "checkpoints",
        "separated stems",
        "snippets (WAV)",
        "images",
        "TensorBoard runs",
        "evaluation",
    }
    for place in places.values():
        assert Path(place).exists(), place
    # A second demo keeps the songs and the first model.
    assert "model-2" in invoke(*words).stdout and (tmp_path / "model-1" / "evaluation.csv").is_file()
