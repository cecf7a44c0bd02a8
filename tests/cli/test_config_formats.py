"""Other projects' configuration files: `auralflow config --from` and the hook that teaches it a format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auralflow_core.config import load_config

PLUGIN = """
from auralflow_core import hookimpl
from auralflow_core.config import Conversion
from auralflow_core.errors import ConfigError

def convert(data):
    if data["speed"] < 0:
        raise ConfigError(f"speed: {{data['speed']}} is below 0")
    settings = {{"model": {{"type": "SpectrogramNetSimple"}}, "training": {{"lr": data["speed"]}}}}
    return Conversion(settings, {{"speed": "training.lr"}}, {{"colour": "there are no colours"}})

@hookimpl
def register_config_formats(register):
    register("{name}", detects=lambda data: "speed" in data, convert=convert, summary="a test")
"""
FILE = {"speed": 0.5, "colour": "red"}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def write(**changes: Any) -> None:
    Path("theirs.json").write_text(json.dumps({**FILE, **changes}))


def test_a_file_of_a_registered_format(install_plugin: Any, invoke: Any) -> None:
    install_plugin("auralflow-theirs", PLUGIN.format(name="theirs"))
    write()
    printed = invoke("config", "m", "--from", "theirs.json", "--batch_size", "3").stdout
    config = load_config("m")
    assert (config.training.lr, config.training.batch_size, config.model.name) == (0.5, 3, "m")
    rows = [line.split(None, 1) for line in printed.splitlines() if line.strip()]
    assert ["speed", "training.lr"] in [[cell.strip() for cell in row] for row in rows]
    assert ["colour", "there are no colours"] in [[cell.strip() for cell in row] for row in rows]
    assert "theirs" in json.dumps(json.loads(invoke("list-plugins", "--json").stdout))


def test_what_cannot_be_converted_is_refused_with_the_files_name(
    install_plugin: Any, refused: Callable[..., str]
) -> None:
    install_plugin("auralflow-theirs", PLUGIN.format(name="theirs"))
    write(speed=-1)
    assert "theirs.json: speed: -1 is below 0" in refused("config", "m", "--from", "theirs.json")
    write(speed=20)
    assert "theirs.json: training.lr: 20" in refused("config", "m", "--from", "theirs.json")
    assert not Path("m").exists()


def test_two_formats_that_claim_a_file(install_plugin: Any, refused: Callable[..., str]) -> None:
    for name in ("one", "two"):
        install_plugin(f"auralflow-{name}", PLUGIN.format(name=name))
    write()
    message = refused("config", "m", "--from", "theirs.json")
    assert "one (plugin auralflow-one) and two (plugin auralflow-two)" in message


def test_without_the_plugin_the_file_is_read_as_ours(refused: Callable[..., str]) -> None:
    write()
    assert "names no model type" in refused("config", "m", "--from", "theirs.json")
