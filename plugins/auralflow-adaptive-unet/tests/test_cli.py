"""Configure, train and separate as a user does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner

from auralflow_core.cli import main

RATE = 8000
STEMS = ("vocals", "drums", "bass", "other")

# The block of the original project's readme, its indentation restored.
OLDER = """\
base-model: unet
max-layers: 6
init-features: 16
bottleneck:
  type: conv
  layers: 1
encoder:
  block-layers: 1
  kernel-size: 5
  down: conv
  leak: 0.2
decoder:
  block-layers: 1
  kernel-size: 5
  up: transposed
  dropout: 0.5
  num-dropouts: 3
  skip-connections: True
mask-activation: sigmoid
input-norm: False
output-norm: False
"""
SMALL = {
    "UNet": {"max-layers": 3, "init-features": 2, "bottleneck": {"type": "lstm", "layers": 1}},
    "AdaptiveUNet": {
        "max_layers": 2,
        "hidden_channels": 4,
        "encoder": [["conv", 3], ["group_norm", 2], ["gelu"], ["avg_pool", [2, 1]]],
        "decoder": [["upsample", [2, 1]], ["conv", {"kernel_size": 3}], ["relu"]],
        "bottleneck": [["attention", 2]],
    },
}


def run(*arguments: object, fails: bool = False) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == int(fails), result.output
    return result.output


def params(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())["model"]["params"]
    return found


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("songs")
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        folder = root / "train" / name
        folder.mkdir(parents=True)
        stems = generator.uniform(-0.2, 0.2, (4, RATE, 2))
        for stem, audio in zip((*STEMS, "mixture"), (*stems, stems.sum(0)), strict=True):
            soundfile.write(folder / f"{stem}.wav", audio, RATE)
    return root


@pytest.mark.parametrize("suffix", ("yaml", "json"))
@pytest.mark.parametrize("model_type", SMALL)
def test_configure_train_and_separate(model_type: str, suffix: str, songs: Path, tmp_path: Path) -> None:
    source, folder = tmp_path / f"file.{suffix}", tmp_path / "my_model"
    data = {
        "model": {"params": SMALL[model_type]},
        "dataset": {"sample_rate": RATE, "sample_length": 0.25, "num_fft": 128, "window_size": 128, "hop_length": 64},
        "training": {"max_epochs": 1, "device": "cpu"},
        "visuals": {"tensorboard": False, "save_images": False, "save_audio": False},
    }
    source.write_text(yaml.safe_dump(data) if suffix == "yaml" else json.dumps(data))
    run("config", "my_model", model_type, "--from", source, "--save", tmp_path, "--format", suffix)
    run("config", "my_model", "--save", tmp_path, "--targets", "vocals,drums")
    run("train", folder, songs, "--quiet")
    run("separate", folder, songs / "train" / "a" / "mixture.wav", "--save", tmp_path / "out", "--quiet")
    stems = {path.stem: soundfile.read(path)[0].shape for path in (tmp_path / "out").rglob("*.wav")}
    assert stems == {"vocals": (RATE, 2), "drums": (RATE, 2)}


def test_the_original_readmes_block(tmp_path: Path) -> None:
    (tmp_path / "flat.yaml").write_text(OLDER)
    run("config", "flat", "--from", tmp_path / "flat.yaml", "--save", tmp_path)
    found = params(tmp_path / "flat")
    assert found["bottleneck"] == {"type": "conv", "layers": 1}
    assert (found["hidden_channels"], found["use_skip"], found["normalize_input"]) == (16, True, False)
    nested = "model:\n" + "".join(f"  {line}\n" for line in OLDER.splitlines())
    (tmp_path / "nested.yaml").write_text(nested)
    run("config", "nested", "--from", tmp_path / "nested.yaml", "--save", tmp_path)
    assert params(tmp_path / "nested") == found


def test_settings_on_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    create = ("config", "m", "UNet", "--save", tmp_path, "--init_features", 8, "--bottleneck", "lstm")
    run(*create, "--encoder", "{kernel-size: 3}")
    assert params(folder)["encoder"]["kernel_size"] == 3
    assert params(folder)["bottleneck"] == {"type": "lstm", "layers": None}
    run("config", "m", "--save", tmp_path, "--decoder", "[[upsample, 2], [conv, 3], relu]")
    assert params(folder)["decoder"] == [["upsample", 2], ["conv", 3], ["relu"]]
    run("config", "m", "--save", tmp_path, "--encoder.leak", 0.1, "--downsample", "maxpool", "--bottleneck-size", 2)
    assert params(folder)["encoder"] == {"block_layers": 1, "kernel_size": 3, "down": "maxpool", "leak": 0.1}
    assert params(folder)["bottleneck"] == {"type": "lstm", "layers": 2}


def test_a_wrong_entry_is_shown_with_its_place(tmp_path: Path) -> None:
    bad = '[[conv, 3], ["btach_norm"]]'
    output = run("config", "m", "AdaptiveUNet", "--save", tmp_path, "--encoder", bad, fails=True)
    assert output.startswith('Error: model.params.encoder[1]: unknown layer "btach_norm"; did you mean batch_norm')
    assert not (tmp_path / "m").exists()


def test_a_design_that_cannot_work_is_shown_with_its_sizes(tmp_path: Path) -> None:
    design = "[[conv, 3], [max_pool, 4]]"
    output = run("config", "m", "AdaptiveUNet", "--save", tmp_path, "--encoder", design, fails=True)
    assert output.startswith("Error: model.params.decoder: each level enlarges by 2 x 2 (bins x frames), but")
    assert "decoder 1: 32 x 32 becomes 64 x 64, needed 513 x 256" in output


def test_show_model_prints_the_sizes(tmp_path: Path) -> None:
    run("config", "m", "UNet", "--save", tmp_path, "--max_layers", 2)
    rows = dict(json.loads(run("show-model", "--config", tmp_path / "m", "--json"))["sizes"])
    assert rows["encoder 2"].startswith("32 x 129 x ")
    assert rows["masks"].startswith("1 x 1 x 513 x ")
