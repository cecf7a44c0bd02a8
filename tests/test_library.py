"""A folder of songs through `separate_files`: the report, songs that fail, several at once, resuming, being killed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from auralflow_core.errors import AuralflowError
from auralflow_core.library import Recipe, SeparationCallback, Summary, fingerprint, separate_files
from auralflow_core.separate import Options, Report, StemFormat
from auralflow_core.separate.report import sha256_of

RATE = 8000

# Two targets by fixed gains; `SLOW` seconds a segment; songs of certain constants end badly.
PLUGIN = """
import os, signal, time
import torch
from auralflow_core import ModelParams, hookimpl

class Params(ModelParams):
    gain: float = 0.5

class Fixed(torch.nn.Module):
    def __init__(self, gain, num_targets, **sizes):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))
        self.num_targets = num_targets

    def forward(self, audio):
        time.sleep(float(os.environ.get("SLOW", 0)))
        level = float(audio.abs().mean())
        if abs(level - 0.9) < 0.01:
            os.kill(os.getpid(), signal.SIGKILL)
        if abs(level - 0.8) < 0.01:
            raise LookupError("the network fell over")
        return torch.stack([audio * self.gain / (number + 1) for number in range(self.num_targets)], dim=1)

@hookimpl
def register_models(register):
    register("Fixed", network=Fixed, params=Params, domain="waveform", summary="Fixed gains")
"""


@pytest.fixture
def make_model(install_plugin: Any, tmp_path: Path) -> Callable[..., Path]:
    """Make a model folder: `make_model(name="fixed", gain=0.5)`."""
    install_plugin("auralflow-fixed", PLUGIN)

    def make(name: str = "fixed", *, gain: float = 0.5, **separation: Any) -> Path:
        from auralflow_core.build import build_model
        from auralflow_core.config import Config, save_config, validate

        dataset = {"targets": ["vocals", "rest"], "num_channels": 2, "sample_rate": RATE, "num_fft": 64}
        data = {
            "model": {"type": "Fixed", "name": "fixed", "params": {"gain": gain}},
            "dataset": {**dataset, "window_size": 64, "hop_length": 32},
            "training": {"device": "cpu"},
            "separation": {"segment": 0.5, **separation},
        }
        folder = tmp_path / name
        model = build_model(validate(Config, data), folder=folder)
        save_config(model.config, folder / "config.json")
        model.save(0)
        return folder

    return make


@pytest.fixture
def model(make_model: Callable[..., Path]) -> Path:
    return make_model()


def write_song(
    path: Path, *, seconds: float = 1.0, rate: int = RATE, channels: int = 2, level: float | None = None
) -> Path:
    """Write noise, or a constant."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (round(seconds * rate), channels)
    noise = np.random.default_rng(len(path.name)).uniform(-0.4, 0.4, shape)
    soundfile.write(path, noise if level is None else np.full(shape, level), rate)
    return path


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """A folder of three songs and a broken one."""
    folder = tmp_path / "songs"
    write_song(folder / "a.wav")
    write_song(folder / "album" / "b.flac", rate=11025, channels=1)
    write_song(folder / "c.ogg", rate=16000)
    (folder / "broken.mp3").write_text("not an mp3")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, without the report."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "report.json"
    }


def states(summary: Summary) -> dict[str, str]:
    return {Path(song.path).name: song.state for song in summary.songs}


def report_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the songs of a report by their names, without what the clock says."""
    data = json.loads((folder / "report.json").read_text())
    songs = {Path(song["path"]).name: song for song in data["songs"]}
    return {
        name: {key: value for key, value in song.items() if key not in ("seconds", "speed")}
        for name, song in songs.items()
    }


class TestReport:
    def test_says_what_became_of_each_song(self, model: Path, songs: Path, tmp_path: Path) -> None:
        summary = separate_files(model, [songs], tmp_path / "out", Options(residual=True))
        assert states(summary) == {"a.wav": "done", "b.flac": "done", "c.ogg": "done", "broken.mp3": "failed"}
        assert not summary.complete and len(summary.failed) == 1 and summary.separated == 3
        report = report_of(tmp_path / "out")
        assert report["b.flac"]["duration"] == 1 and report["b.flac"]["sample_rate"] == 11025
        assert [output["path"] for output in report["b.flac"]["outputs"]] == [
            "album/b/vocals.wav", "album/b/rest.wav", "album/b/residual.wav",
        ]  # fmt: skip
        assert "broken.mp3" in report["broken.mp3"]["error"] and "outputs" not in report["broken.mp3"]
        for song in report.values():
            for output in song.get("outputs", ()):
                path = tmp_path / "out" / output["path"]
                assert output["bytes"] == path.stat().st_size and output["sha256"] == sha256_of(path)
        for record in summary.songs:
            assert record.error or (record.seconds and record.speed == pytest.approx(1 / record.seconds, rel=0.1))

    def test_the_callback_is_told_everything(self, model: Path, songs: Path, tmp_path: Path) -> None:
        told: list[tuple[str, ...]] = []

        class Listener(SeparationCallback):
            def on_start(self, plan: Any) -> None:
                told.append(("start", str(len(plan.todo))))

            def on_progress(self, job: Any, seconds: float) -> None:
                told.append(("progress", job.source.name, str(seconds)))

            def on_song(self, job: Any, record: Any) -> None:
                assert Report.read(tmp_path / "out").songs[record.path] == record
                told.append(("song", job.source.name, record.state))

        separate_files(model, [songs], tmp_path / "out", callback=Listener())
        assert told[0] == ("start", "4")
        assert [words for words in told if words[0] == "song"] == [
            ("song", "a.wav", "done"), ("song", "b.flac", "done"), ("song", "broken.mp3", "failed"),
            ("song", "c.ogg", "done"),
        ]  # fmt: skip
        assert ("progress", "a.wav", "1.0") in told

    def test_a_missing_song_is_named_with_what_to_check(self, model: Path, songs: Path, tmp_path: Path) -> None:
        import auralflow

        (songs / "list.m3u").write_text("a.wav\nb.waf\nc.off\n")
        summary = auralflow.separate_files(model, [songs / "list.m3u"], tmp_path / "out")
        assert [song.state for song in summary.songs] == ["done", "failed", "failed"]
        assert "c.off: there is no such file or folder; did you mean c.ogg?" in str(summary.failed[1].error)

    def test_the_folder_of_the_stems_is_a_file(self, model: Path, songs: Path) -> None:
        with pytest.raises(AuralflowError, match=r"a\.wav: is a file, not a folder; choose another"):
            separate_files(model, [songs], songs / "a.wav")

    def test_a_fault_of_the_network_is_that_of_one_song(self, model: Path, songs: Path, tmp_path: Path) -> None:
        write_song(songs / "aa.wav", level=0.8)
        summary = separate_files(model, [songs], tmp_path / "out")
        assert states(summary)["aa.wav"] == "failed" and states(summary)["c.ogg"] == "done"
        [song] = [song for song in summary.failed if song.path.endswith("aa.wav")]
        assert song.error and "LookupError: the network fell over" in song.error and "\n" not in song.error
        assert song.traceback and "Traceback" in song.traceback
        assert not (tmp_path / "out" / "aa").exists()

    def test_a_format_that_cannot_hold_a_song(self, model: Path, tmp_path: Path) -> None:
        folder = tmp_path / "songs"
        write_song(folder / "a.wav", channels=6)
        write_song(folder / "b.wav")
        summary = separate_files(model, [folder], tmp_path / "out", Options(format=StemFormat("mp3")))
        assert states(summary) == {"a.wav": "failed", "b.wav": "done"}
        assert "6 channels" in str(summary.failed[0].error)


@pytest.mark.slow
class TestSeveralAtOnce:
    def test_the_stems_do_not_depend_on_it_and_a_process_that_dies_takes_one_song_with_it(
        self, model: Path, songs: Path, tmp_path: Path
    ) -> None:
        one = separate_files(model, [songs], tmp_path / "one")
        write_song(songs / "aa.wav", level=0.9)
        two = separate_files(model, [songs], tmp_path / "two", jobs=2)
        assert contents(tmp_path / "one") == contents(tmp_path / "two")
        report = report_of(tmp_path / "two")
        dead = report.pop("aa.wav")
        assert report == report_of(tmp_path / "one")
        assert dead["state"] == "failed" and "ended by SIGKILL" in dead["error"]
        assert states(two) == {**states(one), "aa.wav": "failed"}
        assert [song.path for song in two.songs if not song.path.endswith("aa.wav")] == [
            song.path for song in one.songs
        ]


class TestAgain:
    def test_only_what_is_missing_is_done(self, model: Path, songs: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        separate_files(model, [songs], out)
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*.wav")}
        write_song(songs / "broken.mp3".replace("mp3", "wav"))
        (out / "a" / "rest.wav").unlink()
        summary = separate_files(model, [songs], out)
        assert summary.separated == 2
        assert states(summary) == {
            "a.wav": "done", "b.flac": "done", "broken.mp3": "failed", "broken.wav": "done", "c.ogg": "done",
        }  # fmt: skip
        now = {path: path.stat().st_mtime_ns for path in out.rglob("*.wav") if path.is_file()}
        changed = {path.parent.name for path in now if now[path] != before.get(path)}
        assert changed == {"a", "broken.wav"}
        assert separate_files(model, [songs], out, overwrite=True).separated == 4

    def test_other_weights_are_other_stems(self, make_model: Callable[..., Path], songs: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        separate_files(make_model("one"), [songs], out)
        assert separate_files(make_model("the same elsewhere"), [songs], out).separated == 0
        assert separate_files(make_model("other", gain=0.25), [songs], out).separated == 3
        assert separate_files(make_model("longer", gain=0.25, segment=0.6), [songs], out).separated == 3

    @pytest.mark.parametrize("changes", [{"overlap": 0.5}, {"shifts": 1}])
    def test_other_settings_are_other_stems(
        self, model: Path, songs: Path, tmp_path: Path, changes: dict[str, Any]
    ) -> None:
        separate_files(model, [songs], tmp_path / "out")
        recipe = Recipe((str(model),), changes)
        assert separate_files(recipe, [songs], tmp_path / "out").separated == 3
        assert separate_files(recipe, [songs], tmp_path / "out").separated == 0

    def test_what_does_not_matter_to_the_stems_is_free(self, model: Path, songs: Path, tmp_path: Path) -> None:
        separate_files(model, [songs], tmp_path / "out")
        recipe = Recipe((str(model),), device="cpu", threads=2, batch_size=2)
        assert separate_files(recipe, [songs], tmp_path / "out").separated == 0

    def test_fingerprints(self, make_model: Callable[..., Path]) -> None:
        from auralflow_core.build import load_model

        one, same, other = (load_model(make_model(name, gain=gain)) for name, gain in [("a", 1), ("b", 1), ("c", 2)])
        assert fingerprint(one) == fingerprint(same) != fingerprint(other)
        with __import__("torch").no_grad():
            next(one.network.parameters()).add_(1e-6)
        assert fingerprint(one) != fingerprint(same)


class TestEnsemble:
    def test_is_the_weighted_mean(self, make_model: Callable[..., Path], tmp_path: Path) -> None:
        song = write_song(tmp_path / "songs" / "a.wav")
        folders = [str(make_model(f"gain {gain}", gain=gain)) for gain in (0.2, 0.8)]
        recipe = Recipe(tuple(folders), weights=(3.0, 1.0))
        separate_files(recipe, [song], tmp_path / "out", Options(format=StemFormat(bit_depth="32f")))
        found, _ = soundfile.read(tmp_path / "out" / "a" / "vocals.wav")
        assert np.abs(found - 0.35 * soundfile.read(song)[0]).max() < 1e-6

    def test_a_step_is_of_one_model(self, model: Path, songs: Path, tmp_path: Path) -> None:
        with pytest.raises(AuralflowError, match="leave it out with --ensemble"):
            separate_files(Recipe((str(model), str(model)), step=0), [songs], tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestFullDisk:
    def test_the_run_ends_and_leaves_nothing_half_done(
        self, model: Path, songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from auralflow_core.audio.wav import WavEncoder

        write, left = WavEncoder.write, [RATE * 3]

        def full(self: WavEncoder, block: Any) -> None:
            left[0] -= len(block)
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(self, block)

        monkeypatch.setattr(WavEncoder, "write", full)
        out = tmp_path / "out"
        summary = separate_files(model, [songs], out)
        assert summary.stopped and "the disk is full" in summary.stopped
        assert states(summary) == {"a.wav": "done", "b.flac": "failed", "c.ogg": "waiting", "broken.mp3": "waiting"}
        assert "the disk is full" in str(summary.failed[0].error)
        assert {path.name for path in out.rglob("*") if path.is_file()} == {"report.json", "vocals.wav", "rest.wav"}
        monkeypatch.setattr(WavEncoder, "write", write)
        assert separate_files(model, [songs], out).separated == 2

    def test_what_cannot_fit_is_not_begun(
        self, model: Path, songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from auralflow_core.separate import Plan

        monkeypatch.setattr(Plan, "bytes_free", 10)
        with pytest.raises(AuralflowError, match="only 10 bytes are free"):
            separate_files(model, [songs], tmp_path / "out")
        assert not (tmp_path / "out").exists()


def start(tmp_path: Path, *words: object, slow: float = 0.0) -> subprocess.Popen[str]:
    """Start `auralflow separate` in a process of its own."""
    paths = os.pathsep.join(str(path) for path in (tmp_path / "site-packages").iterdir())
    environment = {**os.environ, "PYTHONPATH": paths, "SLOW": str(slow)}
    command = [sys.executable, "-m", "auralflow", "separate", *map(str, words)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for a condition while a process runs."""
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def done(folder: Path) -> int:
    """Return how many songs a report says are done."""
    return sum(song.state == "done" for song in Report.read(folder).songs.values())


@pytest.mark.slow
class TestKilled:
    @pytest.fixture
    def many(self, tmp_path: Path) -> Iterator[Path]:
        for number in range(6):
            write_song(tmp_path / "many" / f"{number}.flac", seconds=1 + number / 4, channels=1 + number % 3)
        yield tmp_path / "many"

    def test_comes_out_as_if_nothing_had_been(self, model: Path, many: Path, tmp_path: Path) -> None:
        words = (model, many, "--save", tmp_path / "out", "--residual", "--jobs", 2)
        with start(tmp_path, *words, slow=0.1) as process:
            until(lambda: done(tmp_path / "out") >= 2, process)
            process.kill()
        for song in Report.read(tmp_path / "out").songs.values():
            for output in song.outputs if song.state == "done" else ():
                assert sha256_of(tmp_path / "out" / output.path) == output.sha256
        for path in (tmp_path / "out").rglob("*.wav"):
            source = many / f"{path.parent.name}.flac"
            assert soundfile.info(path).frames == soundfile.info(source).frames
        assert done(tmp_path / "out") < 6
        summary = separate_files(model, [many], tmp_path / "out", Options(residual=True))
        assert summary.complete and summary.separated < 6
        separate_files(model, [many], tmp_path / "undisturbed", Options(residual=True))
        assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")
        assert report_of(tmp_path / "out") == report_of(tmp_path / "undisturbed")

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_ctrl_c_ends_it_cleanly(self, model: Path, many: Path, tmp_path: Path, jobs: int) -> None:
        with start(tmp_path, model, many, "--save", tmp_path / "out", "--jobs", jobs, slow=0.1) as process:
            until(lambda: done(tmp_path / "out") >= 2, process)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
        assert process.returncode == 130
        assert "Traceback" not in errors and "Run the same command again to go on" in errors
        assert not list((tmp_path / "out").rglob(".*"))
        assert separate_files(model, [many], tmp_path / "out").complete


PEAK = """
import sys
from auralflow_core.library import separate_files
for song in sys.argv[3:]:
    separate_files(sys.argv[1], [song], sys.argv[2])
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak memory in /proc")
def test_memory_does_not_grow_with_the_song(model: Path, tmp_path: Path) -> None:
    paths = os.pathsep.join(str(path) for path in (tmp_path / "site-packages").iterdir())
    # All estimates of the longer song would be 92 MB, twice as much as floats of 8 bytes.
    songs = [write_song(tmp_path / f"{m}.flac", seconds=60 * m, rate=16000, level=0.1) for m in (1, 6)]
    command = [sys.executable, "-c", PEAK, *map(str, (model, tmp_path / "out", *songs))]
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    first, second = (int(line) / 1000 for line in done.stdout.split())
    assert soundfile.info(tmp_path / "out" / "6" / "vocals.wav").frames == 360 * 16000
    assert second - first < 30


@pytest.mark.slow
def test_a_library_of_all_kinds(song_folder: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "library.py"
    words = ["--count", "23", "--seconds", "0.5", "--kills", "1", "--work", str(tmp_path)]
    done = subprocess.run([sys.executable, script, song_folder, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "23 songs, 3 broken: all as it should be" in done.stdout
