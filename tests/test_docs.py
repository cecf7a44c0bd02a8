"""The documents do as they say."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from auralflow_core import hookspecs
from auralflow_core.entries import KINDS

DOCS = Path(__file__).parent.parent / "docs"
TUTORIAL = (DOCS / "plugins.md").read_text(encoding="utf-8")
SMALL = "--num_fft 128 --window_size 128 --hop_length 64 --sample_rate 8000 --sample_length 0.5 --batch_size 2"


def run(*words: str | Path, cwd: Path, site: Path, status: int = 0) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == status, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def gain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The tutorial's package, written from the page alone, and the folder it is installed in."""
    package, site = tmp_path_factory.mktemp("gain"), tmp_path_factory.mktemp("site")
    files: dict[str, str] = {}
    for fence in re.finditer(r"```\w+\n(.*?)```", TUTORIAL, re.S):
        named = re.findall(r"^`([\w/.]+)`", TUTORIAL[: fence.start()], re.M)
        files.setdefault(named[-1], fence[1])
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*install, str(package)], check=True, capture_output=True)
    return package, site


@pytest.mark.slow
def test_the_tutorials_plugin_trains_and_separates(gain: tuple[Path, Path], song_folder: Path, tmp_path: Path) -> None:
    _, site = gain
    auralflow = (sys.executable, "-m", "auralflow")
    assert "one learned gain a frequency" in run(*auralflow, "list-models", cwd=tmp_path, site=site)
    assert "initial" in run(*auralflow, "show-model", "Gain", cwd=tmp_path, site=site)
    run(*auralflow, "config", "my_gain", "Gain", "--initial", "0.5", *SMALL.split(), cwd=tmp_path, site=site)
    run(*auralflow, "train", "my_gain", song_folder, "--max_epochs", "2", cwd=tmp_path, site=site)
    run(*auralflow, "test", "my_gain", song_folder, cwd=tmp_path, site=site)
    song = next((song_folder / "test").glob("*/mixture.wav"))
    run(*auralflow, "separate", "my_gain", song, "--save", "stems", cwd=tmp_path, site=site)
    assert (tmp_path / "stems" / "mixture" / "vocals.wav").is_file()


@pytest.mark.slow
def test_the_tutorials_plugin_passes_the_kit(gain: tuple[Path, Path]) -> None:
    package, site = gain
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert "passed" in run(*command, cwd=package, site=site)


@pytest.mark.parametrize("kind", KINDS)
def test_every_hook_stands_in_the_tutorial_with_its_signature(kind: str) -> None:
    hook = getattr(hookspecs, f"register_{kind}")
    assert f"`register_{kind}({', '.join(inspect.signature(hook).parameters)})`" in TUTORIAL
    assert (hook.__doc__ or "").strip().count("\n") == 0


def test_generated_pages_are_up_to_date() -> None:
    result = subprocess.run([sys.executable, DOCS / "generate.py"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_readme_names_the_two_commands_and_no_missing_page() -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^pip install nox && nox -s (\w+)$", readme, re.M) == ["demo", "tests"]
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (DOCS.parent / link).is_file(), link
