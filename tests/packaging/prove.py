"""Prove that the distributions work as such: `nox -s packaging` runs this in a fresh environment with torch alone.

    python tests/packaging/prove.py REPOSITORY

Builds a wheel of the core and of every plugin, installs them one after the other, and looks at what is listed each
time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

TYPES = {
    "auralflow-simplenet": {"SpectrogramNetSimple"},
    "auralflow-lstm": {"SpectrogramNetLSTM"},
    "auralflow-vae": {"SpectrogramNetVAE"},
    "auralflow-adaptive-unet": {"AdaptiveUNet", "UNet"},
    "auralflow-audio-unet": {"UNetAudio", "UNetRecurrentAudio", "UNetVAEAudio"},
    "auralflow-openunmix": {"OpenUnmix"},
    "auralflow-demucs": {"Demucs", "DemucsBag", "HDemucs", "HTDemucs"},
    "auralflow-spleeter": {"unet.unet", "unet.softmax_unet", "blstm.blstm"},
    "auralflow-conformer": {"Conformer"},
    "auralflow-wandb": set(),
}


def run(*words: str | Path, status: int = 0, cwd: Path | None = None) -> str:
    """Run a command of this environment; return what it printed."""
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True, cwd=cwd, check=False)
    assert result.returncode == status, f"{words}: {result.stdout}{result.stderr}"
    return result.stdout + result.stderr


def pip(*words: str | Path) -> None:
    """Run pip."""
    run(sys.executable, "-m", "pip", "-q", *words)


def auralflow(*words: str | Path, status: int = 0, cwd: Path | None = None) -> str:
    """Run the installed command."""
    return run(Path(sys.executable).with_name("auralflow"), *words, status=status, cwd=cwd)


def listed() -> dict[str, list[dict[str, str]]]:
    """Return what `list-models` tells."""
    found: dict[str, list[dict[str, str]]] = json.loads(auralflow("list-models", "--json"))
    return found


def types() -> set[str]:
    """Return the listed model types."""
    return {model["type"] for model in listed()["models"]}


def build(source: Path, wheels: Path) -> Path:
    """Build a wheel."""
    before = set(wheels.glob("*.whl"))
    pip("wheel", "--no-deps", "-w", wheels, source)
    [wheel] = set(wheels.glob("*.whl")) - before
    return wheel


def prove_growth(repository: Path, wheels: Path) -> None:
    """Install the core and then plugin after plugin: the list grows by the right types each time."""
    pip("install", build(repository, wheels))
    assert types() == set(), types()
    expected: set[str] = set()
    for name, new in TYPES.items():
        pip("install", "--no-index", "--no-deps", build(repository / "plugins" / name, wheels))
        expected |= new
        assert types() == expected, (name, types())
        print(f"{name}: {', '.join(sorted(new))}")
    assert not listed()["failed"]
    assert {path.name for path in (repository / "plugins").glob("auralflow-*")} == set(TYPES)


def prove_removal(scratch: Path, wheels: Path) -> None:
    """Uninstall one plugin: the others work, and a model of the missing one says what to install."""
    auralflow("config", "mine", "UNetAudio", "--save", scratch)
    pip("uninstall", "-y", "auralflow-audio-unet")
    assert types() == set().union(*TYPES.values()) - TYPES["auralflow-audio-unet"]
    auralflow("config", "other", "UNet", "--save", scratch)
    text = auralflow("config", "mine", "--lr", "0.1", "--save", scratch, status=1)
    assert "model type 'UNetAudio' is not installed" in text and "pip install auralflow-audio-unet" in text, text
    code = "from auralflow.models import UNetAudio"
    assert "pip install auralflow-audio-unet" in run(sys.executable, "-c", code, status=1)
    pip("install", "--no-index", "--no-deps", *wheels.glob("auralflow_audio_unet-*.whl"))
    print("a removed plugin: the others work, and its models say what to install")


def prove_range(scratch: Path, wheels: Path) -> None:
    """Install a plugin that was made for another core: it is reported, not loaded."""
    auralflow("new-plugin", "future", "--save", scratch)
    project = scratch / "auralflow-future" / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    project.write_text(text.replace("auralflow>=0.1,<0.2", "auralflow>=9"), encoding="utf-8")
    pip("install", "--no-index", "--no-deps", build(project.parent, wheels))
    [failure] = listed()["failed"]
    assert failure["name"] == "auralflow-future" and "needs auralflow>=9" in failure["reason"], failure
    assert "Future" not in types()
    pip("uninstall", "-y", "auralflow-future")
    print("a plugin for another core: reported, not loaded")


def main() -> None:
    """Run all proofs."""
    repository = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        scratch, wheels = Path(folder), Path(folder) / "wheels"
        wheels.mkdir()
        prove_growth(repository, wheels)
        prove_removal(scratch, wheels)
        prove_range(scratch, wheels)
    print("packaging: proven")


if __name__ == "__main__":
    main()
