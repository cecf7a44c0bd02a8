"""`auralflow separate`: its options, what it prints, and the plan of a dry run."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from auralflow_core.config import SeparationConfig


@pytest.fixture
def song(song_folder: Path) -> Path:
    return song_folder / "test" / "test song 0" / "mixture.wav"


def audio(path: Path) -> Any:
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


class TestOptions:
    def test_every_setting_of_separation_is_one(self, invoke: Any) -> None:
        text = invoke("separate", "-h").stdout
        for name in SeparationConfig.model_fields:
            assert f"--{name.replace('_', '-')}" in text

    @pytest.mark.parametrize(
        ("words", "setting", "value"),
        [
            (("--tta",), "tta", True),
            (("--no-tta",), "tta", False),
            (("--overlap", "0.5"), "overlap", 0.5),
            (("--shift_seed", "3"), "shift_seed", 3),
            (("--dtype", "bfloat16"), "dtype", "bfloat16"),
            (("--wiener-window", "50"), "wiener_window", 50),
        ],
    )
    def test_settings_reach_the_separator(
        self,
        words: tuple[str, ...],
        setting: str,
        value: object,
        trained_folder: Path,
        song: Path,
        invoke: Any,
        tmp_path: Path,
    ) -> None:
        invoke("separate", trained_folder, song, "--save", tmp_path / "out", "--quiet", "--duration", "0.2", *words)
        [recipe] = json.loads((tmp_path / "out" / "report.json").read_text())["recipes"].values()
        assert recipe["settings"]["models"]["1"]["separation"][setting] == value

    @pytest.mark.parametrize(
        "words", [("--wiener", "1"), ("--separation-exponent", "2"), ("--tta",), ("--shifts", "2")]
    )
    def test_settings_change_the_stems(
        self, words: tuple[str, ...], tiny_settings: list[str], song: Path, invoke: Any, tmp_path: Path
    ) -> None:
        from auralflow_core.build import build_model
        from auralflow_core.config import load_config

        targets = ("--targets", "vocals,drums", "--num_channels", "2")
        invoke("config", "two", "SpectrogramNetSimple", "--save", tmp_path, *tiny_settings, *targets)
        folder = tmp_path / "two"
        build_model(load_config(folder), folder=folder).save(0)
        stereo = tmp_path / "stereo.wav"
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (8000, 2))
        soundfile.write(stereo, noise + audio(song)[:8000], 8000)
        for save, more in {"plain": (), "changed": words}.items():
            invoke("separate", folder, stereo, "--save", tmp_path / save, "--bit-depth", "32f", "--quiet", *more)
        plain, changed = (audio(tmp_path / save / "stereo" / "vocals.wav") for save in ("plain", "changed"))
        assert plain.shape == changed.shape and np.abs(plain - changed).max() > 1e-5

    def test_ensemble(self, tiny_settings: list[str], song: Path, invoke: Any, tmp_path: Path) -> None:
        from auralflow_core.build import build_model
        from auralflow_core.config import load_config

        for name, seed in (("a", 1), ("b", 2)):
            targets = ("--targets", "vocals,drums", "--random_seed", seed)
            invoke("config", name, "SpectrogramNetSimple", "--save", tmp_path, *tiny_settings, *targets)
            build_model(load_config(tmp_path / name), folder=tmp_path / name).save(0)
        mean = (tmp_path / "a", "--ensemble", tmp_path / "b", "--ensemble-weights", "1,vocals=3 drums=0")
        for save, words in {"of_a": mean[:1], "of_b": (tmp_path / "b",), "mean": mean}.items():
            model, *more = words
            invoke("separate", model, song, "--save", tmp_path / save, "--bit-depth", "32f", "--quiet", *more)
        for stem, share in {"vocals": 0.25, "drums": 1}.items():
            of_a, of_b, both = (audio(tmp_path / at / "mixture" / f"{stem}.wav") for at in ("of_a", "of_b", "mean"))
            np.testing.assert_allclose(both, share * of_a + (1 - share) * of_b, atol=1e-6)
            assert np.abs(of_a - of_b).max() > 1e-5
        [recipe] = json.loads((tmp_path / "mean" / "report.json").read_text())["recipes"].values()
        assert recipe["settings"]["ensemble"]["weights"] == [1, {"vocals": 3, "drums": 0}]

    @pytest.mark.parametrize("words", [("--dtype", "float8"), ("--jobs", "0"), ("--clip", "no"), ("--start", "-1")])
    def test_values_that_click_refuses(self, words: tuple[str, ...], invoke: Any) -> None:
        assert words[0] in invoke("separate", "m", "x.wav", *words, status=2).stderr

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (("--wiener", "-1"), "separation.wiener"),
            (("--ensemble-weights", "a"), "give numbers"),
            (("--ensemble-weights", "vocals"), "give numbers"),
            (("--ensemble-weights", "vocals=x"), "give numbers"),
            (("--ensemble-weights", "vocal=2"), "did you mean vocals"),
            (("--ensemble-weights", "1,1"), "2 for 1 separators"),
            (("--ensemble", "nowhere"), "nowhere"),
            (("--ensemble", "a,"), "a name is empty"),
            (("--name-template", "{stem}/{wrong}.{ext}"), "{wrong}"),
            (("--karaoke", "drums"), "no target 'drums'"),
            (("--format", "mp3", "--bit-depth", "16"), "no bit depth"),
        ],
    )
    def test_values_that_are_refused(
        self, words: tuple[str, ...], expected: str, trained_folder: Path, song: Path, refused: Any, tmp_path: Path
    ) -> None:
        assert expected in refused("separate", trained_folder, song, "--save", tmp_path / "out", *words)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("option", ["--karaoke", "--two-stems"])
    def test_karaoke(self, option: str, trained_folder: Path, song: Path, invoke: Any, tmp_path: Path) -> None:
        words = ("--bit-depth", "32f", "--save", tmp_path)
        result = invoke("separate", trained_folder, song, option, "vocals", *words)
        assert "mixture/{vocals,no_vocals}.wav" in result.stdout
        vocals, rest = (audio(tmp_path / "mixture" / f"{name}.wav") for name in ("vocals", "no_vocals"))
        assert np.abs(vocals + rest - audio(song)).max() < 1e-6

    def test_formats_tags_and_names(self, trained_folder: Path, song: Path, invoke: Any, tmp_path: Path) -> None:
        from auralflow_core.audio import AudioWriter, Tags, read_tags

        tagged = tmp_path / "x.flac"
        with AudioWriter(tagged, 8000, 1, tags=Tags(title="Slow Song", artist="A/B", track=3)) as writer:
            writer.write(audio(song).T)
        template = "{artist}/{number} {title} - {stem}.{ext}"
        words = ("--save", tmp_path / "out", "--format", "mp3", "--bitrate", "64", "--name-template", template)
        invoke("separate", trained_folder, tagged, *words)
        path = tmp_path / "out" / "A_B" / "03 Slow Song - vocals.mp3"
        assert soundfile.info(path).format == "MP3"
        assert read_tags(path).title == "Slow Song (vocals)"
        invoke("separate", trained_folder, tagged, *words, "--no-tags")
        assert read_tags(path).title is None

    def test_names_that_meet_are_numbered(
        self, trained_folder: Path, song_folder: Path, invoke: Any, tmp_path: Path
    ) -> None:
        words = ("--save", tmp_path / "out", "--name-template", "{track}_{stem}.{ext}", "--duration", "0.1")
        for _ in range(2):
            invoke("separate", trained_folder, song_folder / "test" / "*" / "mixture.wav", *words)
            names = {path.name for path in (tmp_path / "out").iterdir()}
            assert names == {"mixture_vocals.wav", "mixture_vocals (2).wav", "report.json"}


class TestOutput:
    def test_a_table_and_what_was_done_before(
        self, trained_folder: Path, song_folder: Path, invoke: Any, tmp_path: Path
    ) -> None:
        words = ("separate", trained_folder, song_folder / "test", "--save", tmp_path / "out")
        first = invoke(*words, "--duration", "0.1")
        assert re.search(r"mixture\.wav +0:00 +0:0\d +\d+\.\d +test song 1/mixture/vocals\.wav", first.stdout)
        assert "songs separated; report in" in first.stdout and re.search(r"\[1/\d+\] .*: 0:00 in", first.stderr)
        again = invoke(*words, "--duration", "0.1")
        assert "0 of 0 songs separated" in again.stdout and "were done before" in again.stdout
        other = invoke(*words, "--duration", "0.2")
        assert re.search(r"done anew: \d+ songs in .*; stems\.duration: 0\.1 -> 0\.2\n", other.stderr)

    def test_quiet(self, trained_folder: Path, song: Path, invoke: Any, tmp_path: Path) -> None:
        result = invoke("separate", trained_folder, song, "--save", tmp_path / "out", "--quiet")
        assert result.stdout == result.stderr == ""

    def test_json(self, trained_folder: Path, song: Path, invoke: Any, tmp_path: Path) -> None:
        result = invoke("separate", trained_folder, song, "--save", tmp_path / "out", "--json")
        data = json.loads(result.stdout)
        assert result.stderr == "" and data["separated"] == 1
        [output] = data["songs"][0]["outputs"]
        assert (tmp_path / "out" / output["path"]).stat().st_size == output["bytes"]

    def test_stems_are_not_separated(
        self, trained_folder: Path, song: Path, invoke: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "song.wav").write_bytes(song.read_bytes())
        monkeypatch.chdir(tmp_path)
        invoke("separate", trained_folder, ".", "--quiet")
        assert len(json.loads(invoke("separate", trained_folder, ".", "--json").stdout)["songs"]) == 1
        assert len(json.loads(invoke("separate", trained_folder, ".", "--save", "x", "--json").stdout)["songs"]) == 1

    def test_a_folder_of_another_run_is_refused(
        self, trained_folder: Path, song: Path, refused: Any, tmp_path: Path
    ) -> None:
        from auralflow_core.separate import locked

        with locked(tmp_path / "out"):
            assert "another `auralflow separate`" in refused(
                "separate", trained_folder, song, "--save", tmp_path / "out"
            )


class TestStdin:
    def test_a_song_down_a_pipe(
        self,
        trained_folder: Path,
        song: Path,
        invoke: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        runner: Any,
    ) -> None:
        from auralflow_core.cli import main

        words = ["separate", str(trained_folder), "-", "--save", str(tmp_path / "out"), "--quiet"]
        for _ in range(2):
            result = runner.invoke(main, words, input=song.read_bytes())
            assert result.exit_code == 0, result.stderr
        invoke("separate", trained_folder, song, "--save", tmp_path / "file", "--quiet")
        stem = tmp_path / "out" / "standard input" / "vocals.wav"
        assert stem.read_bytes() == (tmp_path / "file" / "mixture" / "vocals.wav").read_bytes()
        [record] = json.loads((tmp_path / "out" / "report.json").read_text())["songs"]
        assert record["path"] == "-"

    def test_nothing_down_a_pipe(self, trained_folder: Path, runner: Any, tmp_path: Path) -> None:
        from auralflow_core.cli import main

        words = ["separate", str(trained_folder), "-", "--save", str(tmp_path / "out")]
        result = runner.invoke(main, words, input=io.BytesIO())
        assert result.exit_code == 1 and "empty" in result.stderr


class TestDryRun:
    def test_says_what_would_be_done_and_writes_nothing(
        self, trained_folder: Path, song: Path, invoke: Any, tmp_path: Path
    ) -> None:
        broken = tmp_path / "broken.mp3"
        broken.write_text("no audio")
        words = ("separate", trained_folder, song, broken, "--save", tmp_path / "out", "--dry-run")
        text = invoke(*words).stdout
        assert "to do" in text and "mixture/vocals.wav" in text
        assert re.search(r"broken\.mp3 +- +will fail", text)
        assert f"will fail: cannot read {broken}: it is not audio that libsndfile knows; if it plays" in text
        assert re.search(r"2 of 2 songs to separate, 0:02 of audio; about 0:0\d at \d+\.\d x real time", text)
        assert re.search(r"About 96\.0 kB needed, .* free in", text)
        assert not (tmp_path / "out").exists()
        invoke("separate", trained_folder, song, "--save", tmp_path / "out", "--quiet")
        before = sorted(tmp_path.rglob("*"))
        data = json.loads(invoke(*words, "--json").stdout)
        assert [row["state"] for row in data["songs"]] == ["done", "will fail"]
        assert data["songs"][0]["outputs"] == [{"stem": "vocals", "path": str(tmp_path / "out/mixture/vocals.wav")}]
        assert "cannot read" in data["songs"][1]["error"]
        assert data["seconds"] == 0 and data["speed"] > 0 and data["bytes_free"] > 0
        assert sorted(tmp_path.rglob("*")) == before

    def test_a_format_that_cannot_hold_a_song(
        self, trained_folder: Path, song: Path, invoke: Any, tmp_path: Path
    ) -> None:
        surround = tmp_path / "surround.wav"
        soundfile.write(surround, np.tile(audio(song), (1, 6)), 8000)
        words = ("separate", trained_folder, song, surround, "--save", tmp_path / "out", "--format", "mp3")
        reason = f"{surround}: MP3 cannot hold 6 channels"
        plan = invoke(*words, "--dry-run").stdout
        assert re.search(r"surround\.wav +- +will fail", plan) and f"will fail: {reason}" in plan
        run = invoke(*words, status=1)
        begin, end = run.stderr.index(f"will fail: {reason}"), run.stderr.index(f"not separated: {reason}")
        assert begin < run.stderr.index("[1/2]") < run.stderr.index("[2/2]") < end
