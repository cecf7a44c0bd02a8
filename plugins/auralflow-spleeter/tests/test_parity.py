"""Beside norbert, where it is installed (`nox -s parity`): multichannel Wiener filtering as Spleeter has it done."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from auralflow_core.build import build_model
from auralflow_core.config import Config, validate
from auralflow_core.model import SpectrogramMaskModel
from auralflow_spleeter.base_config import convert

norbert: Any = pytest.importorskip("norbert", reason="it is not installed; `nox -s parity` installs it")

INSTRUMENTS = ["vocals", "drums", "other"]
THEIRS: dict[str, Any] = {
    "instrument_list": INSTRUMENTS,
    "sample_rate": 8000,
    "frame_length": 256,
    "frame_step": 64,
    "T": 64,
    "F": 100,
    "MWF": True,
    "mask_extension": "average",
    "model": {"type": "unet.unet", "params": {"conv_n_filters": [2, 3, 2, 4, 3, 2]}},
}


def model_of(channels: int) -> SpectrogramMaskModel:
    groups = {**convert({**THEIRS, "n_channels": channels}).data, "training": {"device": "cpu"}}
    model = build_model(validate(Config, groups))
    assert isinstance(model, SpectrogramMaskModel)
    torch.manual_seed(0)
    for parameter in model.network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.eval()
    return model


def song(channels: int, length: int) -> Tensor:
    time = torch.arange(length) / 8000
    tones = torch.stack([torch.sin(3000 * time + channel) * torch.sin(9 * time) for channel in range(channels)])
    return 0.5 * tones + 0.2 * torch.randn(channels, length, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_song(channels: int, dtype: type[np.complexfloating[Any, Any]]) -> None:
    """`norbert.wiener(v, x)`: one iteration from ratio masks of magnitudes, nothing above `F`, the whole song."""
    model = model_of(channels)
    mixture = song(channels, 12_000)  # 188 frames: less than a window
    spectrogram = model.stft(mixture[None])
    with torch.no_grad():
        masks = model.network(spectrogram.abs())[0]  # (target, channel, bin, frame)
    magnitudes = torch.zeros(len(INSTRUMENTS), *spectrogram.shape[1:])
    magnitudes[:, :, : masks.shape[2]] = masks * spectrogram[0].abs()[:, : masks.shape[2]]
    x = spectrogram[0].permute(2, 1, 0).numpy().astype(dtype)
    v = magnitudes.permute(3, 2, 1, 0).numpy().astype(x.real.dtype)
    refined = norbert.wiener(v, x, eps=np.finfo(np.float32).eps)
    expected = model.istft(torch.from_numpy(refined.astype(np.complex64)).permute(3, 2, 1, 0), mixture.shape[-1])
    found = model.separate(mixture)
    assert expected.std() > 0.01
    assert float((found - expected).abs().max()) < 1e-4
