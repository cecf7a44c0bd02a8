"""The documented examples, as a user types them (only sizes of batches are smaller)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import auralflow


def test_load_config_and_separate_with_an_untrained_mask_model(model_folder: Path) -> None:
    from auralflow.models import SpectrogramMaskModel
    from auralflow.utils import load_config

    config_data = load_config(model_folder / "config.json")
    mix_audio = torch.rand((1, 8820))
    mask_model = SpectrogramMaskModel(config_data)
    vocals_estimate = mask_model.separate(mix_audio)
    assert vocals_estimate.shape == (1, 1, 8820)
    assert isinstance(mask_model, auralflow.models.SeparationModel)
    assert mask_model.folder == model_folder


def test_a_mask_model_can_be_made_of_plain_data(model_folder: Path) -> None:
    import json

    data = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
    model = auralflow.models.SpectrogramMaskModel(data)
    assert model.separate(torch.rand(1, 4000)).shape == (1, 1, 4000)


def test_a_mask_model_refuses_an_architecture_of_another_domain() -> None:
    from auralflow_core.errors import ConfigError

    with pytest.raises(ConfigError, match=r"UNetAudio works in the waveform domain.*build_model"):
        auralflow.models.SpectrogramMaskModel({"model": {"type": "UNetAudio"}})


def test_spectrogram_net_simple() -> None:
    from auralflow.models import SpectrogramNetSimple

    spec_net = SpectrogramNetSimple(
        num_fft_bins=1024,
        num_frames=173,
        num_channels=1,
        hidden_channels=16,
        normalize_input=True,
        normalize_output=True,
    )
    mix_spec = torch.rand((1, 1, 1024, 173))
    source_mask = spec_net(mix_spec)
    source_estimate = source_mask * mix_spec
    assert source_estimate.shape == mix_spec.shape
    assert source_mask.min() >= 0 and source_mask.max() <= 1


def test_load_and_separate_with_a_trained_model(trained_folder: Path) -> None:
    model = auralflow.models.load(trained_folder)
    audio = torch.rand(2, 5000) - 0.5
    estimates = model.separate(audio)
    assert estimates.shape == (1, 2, 5000)
    separated = auralflow.Separator(model)(audio, 11025)
    assert separated.shape == (1, 2, 5000)


def test_list_models_names_installed_types() -> None:
    assert "SpectrogramNetSimple" in auralflow.list_models()


def test_a_missing_architecture_says_what_to_install() -> None:
    code = "from auralflow.models import SpectrogramNetSimple"
    environment = {"AURALFLOW_PLUGINS": "", "PATH": ""}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "ImportError" in result.stderr
    assert "pip install auralflow-simplenet" in result.stderr


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ImportError, match="did you mean SpectrogramNetSimple"):
        _ = auralflow.models.SpectrogramNetSimpel


def test_importing_the_face_does_not_import_torch() -> None:
    code = "import sys, auralflow; auralflow.list_models(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
