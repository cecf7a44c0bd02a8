"""list-weights, download, and weights by name, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from auralflow_core.config import load_config
from auralflow_core.errors import ConfigError
from auralflow_core.registry import Registry

FILE = "tone.safetensors"


def rows(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


class TestListWeights:
    def test_table(self, tone: str, invoke: Any, tmp_path: Path) -> None:
        [row] = [row for row in rows(invoke("list-weights").stdout) if row.startswith("tone-v1")]
        assert row == "tone-v1 Tone auralflow-tone 1 no gains that were found. Licence: CC BY 4.0"
        invoke("download", "tone-v1", "--quiet")
        shown = invoke("list-weights").stdout
        assert any("tone-v1 Tone auralflow-tone 1 0.0 MB gains" in row for row in rows(shown))
        assert str(tmp_path / "cache" / "weights") in shown

    def test_json(self, tone: str, invoke: Any, server: Any) -> None:
        def found() -> dict[str, Any]:
            data = json.loads(invoke("list-weights", "--json").stdout)
            return {entry["name"]: entry for entry in data["weights"]}["tone-v1"]

        before = found()
        assert before | {"sha256": ""} == {
            "name": "tone-v1", "type": "Tone", "plugin": "auralflow-tone", "version": "1.0", "licence": "CC BY 4.0",
            "summary": "gains that were found", "files": {FILE: f"{server.url}/{FILE}"}, "sha256": "",
            "downloaded": False, "bytes": None,
        }  # fmt: skip
        assert len(before["sha256"][FILE]) == 8
        invoke("download", "tone-v1")
        after = found()
        assert after["downloaded"] and after["bytes"] == len(server.files[FILE]) and len(after["sha256"][FILE]) == 64

    def test_none_installed(self, invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("auralflow_core.registry.default_registry", Registry)
        assert "pip install auralflow-openunmix" in invoke("list-weights").stdout
        assert json.loads(invoke("list-weights", "--json").stdout)["weights"] == []

    def test_name_of_two_plugins_is_shown_as_it_must_be_written(
        self, tone: str, install_plugin: Any, invoke: Any, refused: Any
    ) -> None:
        code = Path(sys.path[0]) / "auralflow_tone.py"
        install_plugin("other-tone", code.read_text(encoding="utf-8"))
        names = {entry["name"] for entry in json.loads(invoke("list-weights", "--json").stdout)["weights"]}
        assert {"tone-v1@auralflow-tone", "tone-v1@other-tone"} <= names
        assert "tone-v1@auralflow-tone or tone-v1@other-tone" in refused("download", "tone-v1")
        invoke("download", "tone-v1@other-tone")


class TestDownload:
    def test_says_the_licence_first(self, tone: str, invoke: Any) -> None:
        result = invoke("download", "tone-v1")
        assert result.stderr.splitlines()[0] == (
            "tone-v1: gains that were found; 1 file to download. Licence: CC BY 4.0"
        )
        assert "tone-v1: 1 file, whole and checked" in result.stdout
        again = invoke("download", "tone-v1")
        assert again.stderr == "" and "whole and checked" in again.stdout

    def test_force(self, tone: str, invoke: Any, server: Any) -> None:
        invoke("download", "tone-v1")
        invoke("download", "tone-v1", "--force")
        assert len(server.requests) == 2

    def test_quiet_says_the_licence_and_nothing_else(self, tone: str, invoke: Any) -> None:
        result = invoke("download", "tone-v1", "--quiet")
        assert "Licence: CC BY 4.0" in result.stderr and result.stderr.count("\n") == 1 and result.stdout == ""

    @pytest.mark.parametrize("words", [["--from", "{usb}"], []])
    def test_mirror(
        self, words: list[str], tone: str, invoke: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "usb").mkdir()
        (tmp_path / "usb" / FILE).write_bytes(server.files[FILE])
        if not words:
            monkeypatch.setenv("AURALFLOW_WEIGHTS_MIRROR", str(tmp_path / "usb"))
        invoke("download", "tone-v1", *[word.format(usb=tmp_path / "usb") for word in words])
        assert server.requests == []

    def test_model_folder(
        self, tone: str, invoke: Any, refused: Any, song_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert "Made the model folder mine" in invoke("download", "tone-v1", "--to", "mine").stdout
        assert "gain 0.25" in " ".join(rows(invoke("config", "mine", "--display").stdout)).replace("model.params.", "")
        song = next(song_folder.glob("test/*/mixture.wav"))
        invoke("separate", "mine", song, "--save", "stems")
        assert len(list(Path("stems").rglob("*.wav"))) == 2
        assert "mine: exists already" in refused("download", "tone-v1", "--to", "mine")

    def test_wrong_words(self, tone: str, invoke: Any, refused: Any, tmp_path: Path) -> None:
        assert "did you mean tone-v1" in refused("download", "tone-v2")
        assert "Error: " in (text := invoke("download", "tone-v1", "--from", tmp_path, status=1).stderr)
        assert "holds no tone.safetensors" in text
        assert "one NAME" in invoke("download", "tone-v1", "tone-mono", "--to", "x", status=2).stderr
        assert "Missing argument" in invoke("download", status=2).stderr

    def test_wrong_file(self, tone: str, invoke: Any, server: Any) -> None:
        server.files[FILE] = b"<html>"
        line = invoke("download", "tone-v1", status=1).stderr.splitlines()[-1]
        assert line.startswith("Error: ") and "is not the registered file" in line and "web page" in line

    def test_an_unknown_name_stops_before_anything_is_downloaded(self, tone: str, invoke: Any, server: Any) -> None:
        invoke("download", "tone-v1", "nothing", status=1)
        assert server.requests == []


class TestConfig:
    def test_settings_that_the_files_say(self, tone: str, invoke: Any, tmp_path: Path) -> None:
        result = invoke("config", "mine", "--from", "tone-v1", "--save", tmp_path, "--lr", "0.5")
        assert "Licence: CC BY 4.0" in result.stderr
        config = load_config(tmp_path / "mine")
        assert (config.model.type, config.model.name, config.model.params) == ("Tone", "mine", {"gain": 0.25})
        assert (config.dataset.targets, config.training.lr) == (["vocals", "rest"], 0.5)
        assert not list((tmp_path / "mine").glob("checkpoint/*"))

    def test_settings_that_the_plugin_says(self, tone: str, invoke: Any, server: Any, tmp_path: Path) -> None:
        invoke("config", "mine", "--from", f"tone-mono@{tone}", "--save", tmp_path)
        assert load_config(tmp_path / "mine").model.type == "Tone" and server.requests == []

    def test_a_model_folder_goes_first(
        self, tone: str, invoke: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        invoke("config", "tone-v1", "Tone", "--gain", "0.75")
        invoke("config", "mine", "--from", "tone-v1")
        assert load_config(tmp_path / "mine").model.params == {"gain": 0.75} and server.requests == []

    @pytest.mark.parametrize(
        ("source", "words"), [("tone-v9", "did you mean tone-v1"), ("tone.json", "tone.json: no such file; check the")]
    )
    def test_unknown_sources(self, source: str, words: str, tone: str, refused: Any, tmp_path: Path) -> None:
        assert words in refused("config", "mine", "--from", source, "--save", tmp_path)
        assert not (tmp_path / "mine").exists()


class TestByName:
    def test_separate(self, tone: str, invoke: Any, song_folder: Path, tmp_path: Path) -> None:
        song = next(song_folder.glob("test/*/mixture.wav"))
        result = invoke("separate", "tone-v1", song, "--save", tmp_path / "stems")
        assert {path.name for path in (tmp_path / "stems").rglob("*.wav")} == {"vocals.wav", "rest.wav"}
        assert "Traceback" not in result.stderr

    def test_separate_with_an_unknown_name(self, refused: Any, song_folder: Path) -> None:
        song = next(song_folder.glob("test/*/mixture.wav"))
        text = refused("separate", "tone-v9", song)
        assert "tone-v9: no such model folder" in text and "weights 'tone-v9' is not installed" in text


def test_weights_are_fetched_before_a_command_needs_them(
    tone: str, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from auralflow_core.build import load_model, save_as_folder
    from auralflow_core.cli.weights import fetch_weights

    monkeypatch.chdir(tmp_path)
    fetch_weights("tone-v1", f"tone-v1@{tone}")
    assert capsys.readouterr().err.splitlines() == [
        "tone-v1: gains that were found; 1 file to download. Licence: CC BY 4.0",
        f"  {FILE} (0.0 MB)",
    ]
    save_as_folder(load_model("tone-v1"), Path("tone-v1"))
    fetch_weights(f"tone-v1@{tone}")
    fetch_weights(Path("tone-v1"), quiet=True)
    assert capsys.readouterr().err == ""
    fetch_weights(Path("tone-v1"))
    assert capsys.readouterr().err == (
        "tone-v1: taking the model folder; the public weights are tone-v1@auralflow-tone\n"
    )
    assert len(server.requests) == 1
    with pytest.raises(ConfigError, match="did you mean tone-v1"):
        fetch_weights("tone-v0")


def test_listing_and_downloading_import_no_torch(tone: str, server: Any, tmp_path: Path) -> None:
    code = """
import sys
from auralflow_core.cli import main
for words in (["list-weights"], ["download", "tone-v1"], ["list-weights", "--json"]):
    try:
        main(words, prog_name="auralflow", standalone_mode=False)
    except SystemExit:
        pass
heavy = {"torch", "torchaudio", "numpy", "scipy", "matplotlib", "soundfile", "tensorboard"} & set(sys.modules)
assert not heavy, heavy
"""
    site = next(path for path in sys.path if path.endswith("auralflow_tone"))
    environment = {**os.environ, "PYTHONPATH": site, "AURALFLOW_CACHE": str(tmp_path / "c")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)
    assert len(server.requests) == 1
