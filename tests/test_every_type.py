"""Every installed architecture through the commands: configure, train, resume, test, separate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile

from auralflow_core.known_types import PACKAGES
from auralflow_core.registry import Registry

DEMUCS = ("--channels", "4", "--depth", "2", "--growth", "1", "--dconv_comp", "2")
SMALL: dict[str, tuple[str, ...]] = {
    "AdaptiveUNet": ("--max_layers", "2", "--hidden_channels", "2"),
    "Conformer": ("--feat_in", "16", "--n_layers", "2", "--d_model", "16", "--n_heads", "2", "--head_dim", "8"),
    "Demucs": DEMUCS,
    "DemucsBag": ("--members", json.dumps([{"type": "Demucs", "params": {"channels": 4, "depth": 2}}] * 2)),
    "HDemucs": (*DEMUCS, "--nfft", "64"),
    "HTDemucs": (*DEMUCS, "--nfft", "256", "--bottom_channels", "8", "--t_layers", "2", "--t_heads", "2"),
    "OpenUnmix": ("--hidden_size", "8", "--num_layers", "1"),
    "SpectrogramNetLSTM": ("--hidden_channels", "2", "--hidden_size", "4", "--recurrent_depth", "1"),
    "SpectrogramNetSimple": ("--hidden_channels", "2"),
    "SpectrogramNetVAE": ("--hidden_channels", "2", "--hidden_size", "4", "--recurrent_depth", "1"),
    "UNet": ("--max_layers", "2", "--init_features", "2"),
    "UNetAudio": ("--hidden_channels", "2", "--depth", "2"),
    "UNetRecurrentAudio": ("--hidden_channels", "2", "--depth", "2", "--hidden_size", "4"),
    "UNetVAEAudio": ("--hidden_channels", "2", "--depth", "2", "--latent_channels", "4"),
    "blstm.blstm": ("--T", "64", "--lstm_units", "4"),
    "unet.softmax_unet": ("--T", "64", "--conv_n_filters", "[2,2,2,2,2,2]"),
    "unet.unet": ("--T", "64", "--conv_n_filters", "[2,2,2,2,2,2]"),
}
# The options of the tiny_settings fixture that are no architecture's own.
DATA = "--num_fft 128 --window_size 128 --hop_length 64 --sample_rate 8000 --sample_length 0.5 --batch_size 2"
QUICK = "--batch_size 2 --max_num_samples 6 --save_images false --tensorboard false --snippet_length 0.5"


def test_every_type_of_the_project_is_here() -> None:
    own = {entry.name for entry in Registry.discover().models if entry.plugin in PACKAGES.values()}
    assert own == set(SMALL)


@pytest.mark.parametrize("type_", SMALL)
def test_train_resume_test_and_separate(type_: str, invoke: Any, song_folder: Path, tmp_path: Path) -> None:
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    for folder in (stopped, whole):
        words = (*SMALL[type_], *DATA.split(), *QUICK.split())
        invoke("config", folder.name, type_, "--save", tmp_path, *words, "--targets", "vocals,drums")
    invoke("train", stopped, song_folder, "--max_epochs", "1", "--quiet")
    invoke("train", stopped, song_folder, "--resume", "--max_epochs", "2", "--quiet")
    invoke("train", whole, song_folder, "--max_epochs", "2", "--quiet")
    first, second = (
        (folder / "checkpoint/step-00000006/model.safetensors").read_bytes() for folder in (stopped, whole)
    )
    assert first == second
    scores = json.loads(invoke("test", stopped, song_folder, "--json").stdout)["scores"]
    assert {score["target"] for score in scores} == {"vocals", "drums"}
    song = next((song_folder / "test").glob("*/mixture.wav"))
    invoke("separate", stopped, song, "--save", tmp_path / "stems", "--residual")
    for stem in ("vocals", "drums", "residual"):
        assert soundfile.info(tmp_path / f"stems/mixture/{stem}.wav").frames == soundfile.info(song).frames
