"""Configure, train, resume and separate as a user does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from safetensors.numpy import load_file

from auralflow_core.cli import main

RATE = 8000
STEMS = ("vocals", "drums", "bass", "other")
SMALL = {
    "UNetAudio": {},
    "UNetRecurrentAudio": {"recurrent_depth": 1, "hidden_size": 8},
    "UNetVAEAudio": {"latent_channels": 4, "kl_warmup_steps": 3},
}


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("songs")
    generator = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        folder = root / "train" / name
        folder.mkdir(parents=True)
        stems = generator.uniform(-0.2, 0.2, (4, RATE, 2))
        for stem, audio in zip((*STEMS, "mixture"), (*stems, stems.sum(0)), strict=True):
            soundfile.write(folder / f"{stem}.wav", audio, RATE)
    return root


def configure(folder: Path, model_type: str) -> None:
    sizes = {"hidden_channels": 4, "depth": 3, **SMALL[model_type]}
    data = {"sample_rate": RATE, "sample_length": 0.25, "num_channels": 2, "targets": "vocals,drums"}
    others = {"max_epochs": 1, "device": "cpu", "save_images": "false", "save_audio": "false", "tensorboard": "false"}
    settings = [word for name, value in {**sizes, **data, **others}.items() for word in (f"--{name}", value)]
    run("config", folder.name, model_type, "--save", folder.parent, *settings)


@pytest.mark.parametrize("model_type", SMALL)
def test_train_resume_and_separate(model_type: str, songs: Path, tmp_path: Path) -> None:
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    for folder in (stopped, whole):
        configure(folder, model_type)
    run("train", stopped, songs, "--quiet")
    run("train", stopped, songs, "--resume", "--max_epochs", 2, "--quiet")
    run("train", whole, songs, "--max_epochs", 2, "--quiet")
    weights = [load_file(latest(folder) / "model.safetensors") for folder in (stopped, whole)]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])

    run("separate", whole, songs / "train" / "a" / "mixture.wav", "--save", tmp_path / "out", "--quiet")
    stems = {path.stem: soundfile.read(path) for path in (tmp_path / "out").rglob("*.wav")}
    assert stems.keys() == {"vocals", "drums"}
    for audio, rate in stems.values():
        assert (audio.shape, rate) == ((RATE, 2), RATE)
        assert np.abs(audio).max() > 0


def latest(folder: Path) -> Path:
    """Return the folder of the last checkpoint."""
    return max((folder / "checkpoint").glob("*/model.safetensors"), key=lambda path: path.stat().st_mtime).parent


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--kernel_size", "7"], "kernel_size 7 minus stride 4 is 3.*set kernel_size to 8"),
        (["--stride", "16", "--depth", "3"], "kernel_size 8 minus stride 16 is -8.*set kernel_size to 16"),
        (["--depth", "9"], "stride 4 to the power of depth 9 is 262144 samples, above 65536"),
        (["--hidden_channels", "512", "--growth", "4"], "131072 channels, above 4096"),
        (["--hiden_channels", "8"], "did you mean hidden_channels"),
        (["--leak_factor", "1"], "leak_factor"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["config", "m", "UNetAudio", "--save", str(tmp_path), *settings])
    assert result.exit_code == 1
    assert not (tmp_path / "m" / "config.json").exists()
    assert_matches(message, result.output)


def test_criterion_that_needs_a_mask_is_refused(songs: Path, tmp_path: Path) -> None:
    configure(tmp_path / "m", "UNetAudio")
    result = CliRunner().invoke(main, ["train", str(tmp_path / "m"), str(songs), "--criterion", "mask"])
    assert result.exit_code == 1
    assert_matches("'mask' needs a model that masks, and UNetAudio works in the waveform domain", result.output)


def test_kl_criterion_needs_the_vae(songs: Path, tmp_path: Path) -> None:
    for model_type, status in {"UNetAudio": 1, "UNetVAEAudio": 0}.items():
        folder = tmp_path / model_type
        configure(folder, model_type)
        command = ["train", str(folder), str(songs), "--criterion", "kl_div", "--quiet"]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == status, result.output


def assert_matches(pattern: str, output: str) -> None:
    import re

    assert re.search(pattern, " ".join(output.split())), output
