"""`auralflow demo`, shortened."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
def test_demo_goes_the_whole_way_and_says_where_everything_lies(invoke: Any, tmp_path: Path) -> None:
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
