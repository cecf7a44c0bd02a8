"""`auralflow test` and `auralflow compare` on the tiny model: files, resuming, several processes, failures, museval."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import museval
import numpy as np
import pytest
import soundfile

from auralflow_core.evaluate.run import default_jobs
from auralflow_core.evaluate.song import BSS_METRICS

SONGS = ["test song 0", "test song 1"]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def score_files(folder: Path, estimate: str = "") -> dict[str, int]:
    """Return the files of single songs with the times they were written at."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "evaluation" / estimate / "test").glob("*")}


@pytest.fixture(scope="module")
def tested(
    trained_folder: Path, song_folder: Path, invoke: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """Return a model folder that was tested with everything, and what was printed; copy it before you change it."""
    folder = tmp_path_factory.mktemp("tested") / "tiny"
    shutil.copytree(trained_folder, folder)
    return folder, invoke("test", folder, song_folder, "--with-oracles").stdout


@pytest.fixture
def tested_copy(tested: tuple[Path, str], tmp_path: Path) -> Path:
    """Return a copy of the tested model folder."""
    return Path(shutil.copytree(tested[0], tmp_path / "tiny"))


class TestFiles:
    def test_csv_json_and_terminal_say_the_same(self, tested: tuple[Path, str]) -> None:
        folder, printed = tested
        with (folder / "evaluation.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["song"], row["target"]) for row in rows] == [(song, "vocals") for song in (*SONGS, "median")]
        assert list(rows[0])[:7] == ["song", "target", *BSS_METRICS, "mixture_SDR"]
        assert {"SI-SDR", "uSDR", "PES", "irm_SDR", "ibm_SAR", "mwf_uSDR"} <= set(rows[0])
        found = read(folder / "evaluation.json")
        for row, score in zip(rows, found["scores"], strict=False):
            assert {name: float(value) for name, value in row.items() if name not in ("song", "target")} == {
                name: pytest.approx(math.nan if value is None else value, abs=1e-5, nan_ok=True)
                for name, value in score.items()
                if name not in ("song", "target")
            }
            assert f"{score['SDR']:.2f}" in printed
        summary = found["summary"]["vocals"]
        assert float(rows[2]["SDR"]) == pytest.approx(summary["SDR"]["median"], abs=1e-5)
        assert summary["SDR"]["songs"] == 2 and f"{summary['SDR']['mean']:.2f}" in printed
        assert summary["irm_SDR"]["median"] > summary["SDR"]["median"] and "mwf" in printed

    def test_the_document_says_what_was_tested_and_how(self, tested: tuple[Path, str], song_folder: Path) -> None:
        import hashlib

        folder, _ = tested
        found = read(folder / "evaluation.json")
        [checkpoint] = (folder / "checkpoint").glob("step-*")
        weights = (checkpoint / "model.safetensors").read_bytes()
        assert found["model"]["sha256"] == hashlib.sha256(weights).hexdigest()
        assert (found["model"]["type"], found["model"]["step"]) == ("SpectrogramNetSimple", 8)
        assert found["data"] == {**found["data"], "path": str(song_folder), "split": "test", "songs": 2}
        assert found["settings"]["backend"] == "auralflow" and found["settings"]["separation"]["segment"] == 1
        assert {"auralflow", "auralflow-simplenet", "torch", "numpy", "python"} <= set(found["versions"])
        assert list(found["songs"]) == SONGS
        assert (found["failed"], found["unscored"], found["warnings"], found["seen"]) == ({}, {}, [], [])

    @pytest.mark.parametrize("estimate", ["", "mixture", "irm", "ibm", "mwf"])
    def test_museval_reads_the_folder_and_aggregates_to_the_same_medians(
        self, estimate: str, tested: tuple[Path, str]
    ) -> None:
        store = museval.EvalStore()
        store.add_eval_dir(tested[0] / "evaluation" / estimate)
        theirs = store.agg_frames_tracks_scores()
        assert sorted(store.df["track"].unique()) == SONGS
        ours = read(tested[0] / "evaluation.json")["summary"]["vocals"]
        for metric in BSS_METRICS:
            column = f"{estimate}_{metric}" if estimate else metric
            if column in ours:
                assert theirs["vocals", metric] == pytest.approx(ours[column]["median"], abs=2e-5)

    def test_the_files_of_songs_keep_to_musevals_schema(self, tested: tuple[Path, str]) -> None:
        for song in SONGS:
            store = museval.TrackStore(song)
            store.scores = read(tested[0] / "evaluation" / "test" / f"{song}.json")
            store.validate()


class TestResuming:
    def test_what_is_there_is_not_scored_again(
        self, tested_copy: Path, song_folder: Path, invoke: Callable[..., Any]
    ) -> None:
        before, document = score_files(tested_copy), read(tested_copy / "evaluation.json")
        (tested_copy / "evaluation.csv").unlink()
        result = invoke("test", tested_copy, song_folder, "--with-oracles")
        assert "2 of 2 songs were scored before" in result.stdout
        assert score_files(tested_copy) == before and (tested_copy / "evaluation.csv").is_file()
        assert {**read(tested_copy / "evaluation.json"), "model": None} == {**document, "model": None}

    def test_only_what_is_missing_or_damaged_is_scored(
        self, tested_copy: Path, song_folder: Path, invoke: Callable[..., Any]
    ) -> None:
        before, document = score_files(tested_copy), read(tested_copy / "evaluation.json")
        file = tested_copy / "evaluation" / "test" / "test song 1.json"
        file.write_text(file.read_text()[:100])
        (tested_copy / "evaluation" / "irm" / "test" / "test song 1.json").unlink()
        assert "1 of 2 songs were scored before" in invoke("test", tested_copy, song_folder, "--with-oracles").stdout
        after = score_files(tested_copy)
        assert after["test song 0.json"] == before["test song 0.json"]
        assert after["test song 1.json"] != before["test song 1.json"]
        assert read(tested_copy / "evaluation.json")["scores"] == document["scores"]

    def test_fresh_scores_anew(self, tested_copy: Path, song_folder: Path, invoke: Callable[..., Any]) -> None:
        before = score_files(tested_copy)
        assert "scored before" not in invoke("test", tested_copy, song_folder, "--fresh").stdout
        assert not set(score_files(tested_copy).values()) & set(before.values())

    def test_other_settings_other_audio_and_other_weights_are_scored_anew(
        self, tested_copy: Path, songs_copy: Path, invoke: Callable[..., Any]
    ) -> None:
        invoke("config", tested_copy.name, "--save", tested_copy.parent, "--overlap", "0.1")
        first = score_files(tested_copy)
        invoke("test", tested_copy, songs_copy, "--quiet")
        second = score_files(tested_copy)
        assert not set(first.values()) & set(second.values())

        file = songs_copy / "test" / "test song 0" / "vocals.wav"
        audio, rate = soundfile.read(file, dtype="float32")
        soundfile.write(file, 0.5 * audio, rate, subtype="FLOAT")
        invoke("test", tested_copy, songs_copy, "--quiet")
        third = score_files(tested_copy)
        assert third["test song 1.json"] == second["test song 1.json"]
        assert third["test song 0.json"] != second["test song 0.json"]

        [checkpoint] = (tested_copy / "checkpoint").glob("step-*")
        spoil_weights(checkpoint / "model.safetensors")
        # Nothing that the old weights scored stays beside what the new ones score.
        invoke("test", tested_copy, songs_copy, "--song", "test song 0", "--quiet")
        assert list(score_files(tested_copy)) == ["test song 0.json"]

    def test_a_run_that_was_stopped_goes_on(
        self, trained_copy: Path, song_folder: Path, invoke: Callable[..., Any]
    ) -> None:
        from auralflow_core.evaluate import run, score_song

        def stop(*args: Any) -> Any:
            if score_files(trained_copy):
                raise KeyboardInterrupt
            return score_song(*args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run, "score_song", stop)
            result = invoke("test", trained_copy, song_folder, status=130)
        assert "the same command goes on" in result.stderr
        assert list(score_files(trained_copy)) == ["test song 0.json"]
        assert not (trained_copy / "evaluation.json").exists()
        assert "1 of 2 songs were scored before" in invoke("test", trained_copy, song_folder).stdout


def spoil_weights(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file({name: 0.9 * tensor for name, tensor in load_file(path).items()}, path)


class TestJobs:
    @pytest.mark.slow
    @pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds child processes in /proc")
    def test_a_killed_run_leaves_no_process_and_what_several_have_scored(
        self, tested: tuple[Path, str], trained_copy: Path, song_folder: Path, invoke: Callable[..., Any]
    ) -> None:
        words = ("test", str(trained_copy), str(song_folder), "--quiet")
        process = subprocess.Popen([sys.executable, "-m", "auralflow", *words, "--jobs", "2"])
        workers = wait_for_workers(process.pid)
        while not list(trained_copy.glob("evaluation/test/*.json")) and process.poll() is None:
            time.sleep(0.02)
        process.kill()
        process.wait()
        kept = score_files(trained_copy)
        while any(map(is_running, workers)):
            time.sleep(0.05)
        invoke(*words)
        assert kept.items() <= score_files(trained_copy).items()
        for song in SONGS:
            expected = (tested[0] / "evaluation" / "test" / f"{song}.json").read_bytes()
            assert (trained_copy / "evaluation" / "test" / f"{song}.json").read_bytes() == expected

    def test_a_killed_process_is_told(
        self, trained_copy: Path, song_folder: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from auralflow_core.evaluate import run

        def die(*args: object) -> None:
            raise BrokenProcessPool

        monkeypatch.setattr(run, "ProcessPoolExecutor", lambda jobs, *others: ThreadPoolExecutor(jobs))
        monkeypatch.setattr(run, "_score_in_worker", die)
        text = refused("test", trained_copy, song_folder, "--jobs", "2", "--quiet")
        assert "want of memory" in text and "fewer than 2 --jobs" in text

    def test_a_process_is_started_for_a_minute_of_audio_at_least(self) -> None:
        from auralflow_core.data.song import Song

        songs = [Song(f"{number}", {}, None, 10, 1, 300) for number in range(8)]
        assert default_jobs(songs[:2]) == 1
        assert 1 <= default_jobs(songs) <= 4


def wait_for_workers(parent: int) -> list[int]:
    while not (workers := children_of(parent)):
        time.sleep(0.05)
    return workers


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(parent: int) -> list[int]:
    """Return the spawned workers of a process; the one that tracks resources is none."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            facts = stat.read_text().rpartition(")")[2].split()
            command = stat.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if int(facts[1]) == parent and b"spawn_main" in command:
            found.append(int(stat.parent.name))
    return sorted(found)


class TestSongs:
    def test_some_songs_alone(self, trained_copy: Path, song_folder: Path, invoke: Callable[..., Any]) -> None:
        invoke("test", trained_copy, song_folder, "--song", "test song 1", "--quiet")
        assert list(read(trained_copy / "evaluation.json")["songs"]) == ["test song 1"]

    def test_a_song_that_is_not_there(self, trained_copy: Path, song_folder: Path, refused: Callable[..., str]) -> None:
        text = refused("test", trained_copy, song_folder, "--song", "test song 2")
        assert "'test song 2'" in text and "did you mean test song" in text

    def test_a_song_with_silence_has_no_score_and_is_told(
        self, trained_copy: Path, songs_copy: Path, invoke: Callable[..., Any]
    ) -> None:
        silence = np.zeros(16000, np.float32)
        soundfile.write(songs_copy / "test" / "test song 0" / "vocals.wav", silence, 8000, subtype="FLOAT")
        text = invoke("test", trained_copy, songs_copy).stdout
        assert "Without BSSEval's scores are 1 of 2 songs:\n  test song 0: vocals is silent" in text
        found = read(trained_copy / "evaluation.json")
        assert found["unscored"] == {"test song 0": "vocals is silent"}
        assert found["summary"]["vocals"]["SDR"]["songs"] == 1 and found["scores"][0]["SDR"] is None
        store = museval.EvalStore()
        store.add_eval_dir(trained_copy / "evaluation")
        assert store.agg_frames_tracks_scores()["vocals", "SDR"] == pytest.approx(found["scores"][1]["SDR"], abs=2e-5)

    def test_songs_that_cannot_be_scored_do_not_stop_the_others(
        self, trained_copy: Path, songs_copy: Path, invoke: Callable[..., Any]
    ) -> None:
        (songs_copy / "test" / "test song 0" / "vocals.wav").unlink()
        result = invoke("test", trained_copy, songs_copy, status=1)
        assert "test song 0: not scored: song 'test song 0' has no stem 'vocals'" in result.stderr
        assert result.stderr.endswith("1 of 2 songs were not scored.\n")
        found = read(trained_copy / "evaluation.json")
        assert list(found["failed"]) == ["test song 0"] and list(found["songs"]) == ["test song 1"]

    def test_nothing_to_score_is_refused(
        self, trained_copy: Path, songs_copy: Path, refused: Callable[..., str]
    ) -> None:
        for song in SONGS:
            (songs_copy / "test" / song / "vocals.wav").unlink()
        assert "has no stem 'vocals'" in refused("test", trained_copy, songs_copy)
        assert not (trained_copy / "evaluation").exists() and not (trained_copy / "evaluation.csv").exists()

    def test_names_that_are_alike_or_no_file_names_keep_apart(self, tmp_path: Path) -> None:
        from auralflow_core.evaluate.store import ScoreStore

        names = ["Song", "song", "AC/DC", "a" * 300, "a" * 300 + "b", "plain"]
        store = ScoreStore(tmp_path, "test", names, {"model": {}})
        files = [store.path("model", name) for name in names]
        assert len({path.name.casefold() for path in files}) == len(names)
        assert {path.parent for path in files} == {tmp_path / "test"}
        assert max(len(path.name) for path in files) < 255 and files[-1].name == "plain.json"


def test_public_weights_are_tested_in_a_folder_of_their_own(
    refused: Callable[..., str], song_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from auralflow_core import build

    monkeypatch.setattr(build, "find_weights", lambda source: source)
    assert "`auralflow download good --to FOLDER`" in refused("test", "good", song_folder)


class TestBackends:
    def test_museval_agrees(
        self, tested: tuple[Path, str], trained_copy: Path, song_folder: Path, invoke: Callable[..., Any]
    ) -> None:
        ours = read(tested[0] / "evaluation.json")["scores"]
        found = json.loads(invoke("test", trained_copy, song_folder, "--backend", "museval", "--json").stdout)
        assert found["settings"]["backend"] == "museval"
        for mine, theirs in zip(ours, found["scores"], strict=True):
            assert [mine[name] for name in BSS_METRICS] == pytest.approx(
                [theirs[name] for name in BSS_METRICS], abs=2e-3
            )


class TestCompare:
    def test_two_models_and_an_oracle(
        self, tested: tuple[Path, str], tested_copy: Path, song_folder: Path, invoke: Callable[..., Any]
    ) -> None:
        [checkpoint] = (tested_copy / "checkpoint").glob("step-*")
        spoil_weights(checkpoint / "model.safetensors")
        invoke("test", tested_copy, song_folder, "--quiet")
        paths = (tested[0], tested_copy, tested[0] / "evaluation" / "irm")
        found = json.loads(invoke("compare", *paths, "--json").stdout)
        assert found["evaluations"] == [str(path) for path in paths]
        assert found["songs"] == SONGS and found["warnings"] == []
        rows = {(row["other"], row["metric"]): row for row in found["differences"]}
        oracle = rows[str(paths[2]), "SDR"]
        summary = read(tested[0] / "evaluation.json")["summary"]["vocals"]
        assert oracle["baseline_median"] == pytest.approx(summary["SDR"]["median"])
        assert oracle["other_median"] == pytest.approx(summary["irm_SDR"]["median"], abs=1e-5)
        assert (oracle["better"], oracle["worse"], oracle["p"]) == (2, 0, 0.5)
        printed = invoke("compare", *paths).stdout
        assert f"{oracle['median']:.2f}" in printed and "2 songs" in printed

    def test_a_model_that_was_not_tested(
        self, tested: tuple[Path, str], trained_folder: Path, refused: Callable[..., str]
    ) -> None:
        assert "auralflow test" in refused("compare", tested[0], trained_folder)
