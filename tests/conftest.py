"""What all tests share: a tiny data set, tiny models made through the command line, plugins made on the spot."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

# Before numpy and torch load: the suite runs in several processes, each of which shall keep to one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

RATE = 8000
SECONDS = 2
SONGS = {"train": 4, "valid": 1, "test": 2}
TINY_SETTINGS = {
    "hidden_channels": 2,
    "num_fft": 128,
    "window_size": 128,
    "hop_length": 64,
    "sample_rate": RATE,
    "sample_length": 0.5,
    "batch_size": 2,
    "max_epochs": 1,
    "snippet_length": 0.5,
    "segment": 1,
    # Drawing takes three times as long as all the rest of a training so small; `trained_folder` has pictures.
    "save_images": "false",
    "tensorboard": "false",
}


class Invoke(Protocol):
    """Runs `auralflow` with the given words, checks its exit status and returns what it printed."""

    def __call__(self, *words: object, status: int = 0) -> Result: ...


class InstallPlugin(Protocol):
    """Makes a distribution that offers a plugin: a module and the metadata that pip would write."""

    def __call__(
        self, name: str, code: str, *, version: str = "1.0", requires: Sequence[str] = (), entry_point: str = ""
    ) -> str: ...


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """Let Ctrl-C reach the tests and what they start; a job in a shell's background is started without."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def unflushed() -> Iterator[None]:
    """Wait for no disk; the tests of what is flushed, and of disks that are full, put their own in this place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: None)
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the developer's own settings and caches out of the tests."""
    for name in ("AURALFLOW_PLUGINS", "AURALFLOW_WEIGHTS_MIRROR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AURALFLOW_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def song_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of songs of two seconds; its files are shared, copy it before you change one."""
    root = tmp_path_factory.mktemp("data") / "songs"
    for seed, (split, count) in enumerate(SONGS.items()):
        for number in range(count):
            _write_song(root / split / f"{split} song {number}", np.random.default_rng([seed, number]))
    return root


@pytest.fixture
def songs_copy(song_folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the data set, to be spoilt."""
    return Path(shutil.copytree(song_folder, tmp_path / "spoilt songs"))


@pytest.fixture(scope="session")
def runner() -> CliRunner:
    """Return a runner that keeps standard output and standard error apart."""
    # click below 8.2 mixes them unless told; from 8.2 on the argument is gone.
    has_switch = "mix_stderr" in inspect.signature(CliRunner).parameters
    options: dict[str, Any] = {"mix_stderr": False} if has_switch else {}
    return CliRunner(**options)


@pytest.fixture(scope="session")
def invoke(runner: CliRunner) -> Invoke:
    """Return the command line as a function."""
    from auralflow_core.cli import main

    def run(*words: object, status: int = 0) -> Result:
        result = runner.invoke(main, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.stdout + result.stderr
        return result

    return run


@pytest.fixture(scope="session")
def refused(invoke: Invoke) -> Callable[..., str]:
    """Return a function that runs a command which a user has to mend, and returns its one line."""

    def run(*words: object) -> str:
        result = invoke(*words, status=1)
        assert re.fullmatch(r"Error: [^\n]+\n", result.stderr), result.stderr
        return str(result.stderr)

    return run


@pytest.fixture(scope="session")
def tiny_settings() -> list[str]:
    """Return the options that make a model small enough to train in a second."""
    return [word for name, value in TINY_SETTINGS.items() for word in (f"--{name}", str(value))]


@pytest.fixture
def model_folder(invoke: Invoke, tiny_settings: list[str], tmp_path: Path) -> Path:
    """Return the folder of a tiny model that is not trained."""
    invoke("config", "tiny", "SpectrogramNetSimple", "--save", tmp_path, *tiny_settings)
    return tmp_path / "tiny"


@pytest.fixture(scope="session")
def trained_folder(
    invoke: Invoke, tiny_settings: list[str], song_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the folder of a tiny model after one epoch; it is shared, copy it before you change it."""
    parent = tmp_path_factory.mktemp("models")
    shown = ("--save_images", "true", "--tensorboard", "true")
    invoke("config", "trained", "SpectrogramNetSimple", "--save", parent, *tiny_settings, *shown)
    invoke("train", parent / "trained", song_folder, "--quiet")
    return parent / "trained"


@pytest.fixture
def trained_copy(trained_folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the trained model, to be changed."""
    return Path(shutil.copytree(trained_folder, tmp_path / "trained"))


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InstallPlugin]:
    """Return a function that puts a distribution on the path; the default registry is discovered anew."""
    from auralflow_core.registry import default_registry

    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    default_registry.cache_clear()

    def install(
        name: str, code: str, *, version: str = "1.0", requires: Sequence[str] = (), entry_point: str = ""
    ) -> str:
        module = re.sub(r"\W", "_", name).lower()
        # One folder each: metadata lookups are cached by the folder's time.
        site = tmp_path / "site-packages" / module
        info = site / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(code, encoding="utf-8")
        requirements = "".join(f"Requires-Dist: {text}\n" for text in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirements}")
        (info / "entry_points.txt").write_text(f"[auralflow]\n{entry_point or module} = {module}\n")
        sys.path.insert(0, str(site))
        importlib.invalidate_caches()
        return module

    yield install
    default_registry.cache_clear()
    for module in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]


def _write_song(folder: Path, rng: np.random.Generator) -> None:
    """Write a song: a gliding voice, clicks of noise, a low tone and a chord, and their sum."""
    folder.mkdir(parents=True)
    time = np.arange(RATE * SECONDS) / RATE
    pitch = rng.uniform(200, 400)
    stems = {
        "vocals": 0.2 * np.sin(2 * np.pi * pitch * (time + 0.02 * np.sin(2 * np.pi * 3 * time))),
        "drums": 0.2 * rng.standard_normal(time.size) * np.exp(-20 * (time % 0.5)),
        "bass": 0.2 * np.sin(2 * np.pi * rng.uniform(50, 90) * time),
        "other": 0.05 * sum(np.sin(2 * np.pi * pitch * ratio * time) for ratio in (3, 3.75, 4.5)),
    }
    for name, audio in {**stems, "mixture": sum(stems.values())}.items():
        soundfile.write(folder / f"{name}.wav", np.asarray(audio, dtype=np.float32), RATE, subtype="FLOAT")
