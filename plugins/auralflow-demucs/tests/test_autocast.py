"""Separation in bfloat16: the pieces that the networks go through on a CPU bring their types together themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from auralflow_demucs.demucs import Demucs
from auralflow_demucs.hdemucs import HDemucs
from auralflow_demucs.htdemucs import HTDemucs


@pytest.mark.parametrize(
    ("make", "params"),
    [
        (Demucs, {"channels": 8, "depth": 3, "dconv_mode": 3}),
        (HDemucs, {"channels": 8, "nfft": 512, "depth": 3, "dconv_mode": 3}),
        (HTDemucs, {"channels": 8, "t_layers": 2, "dconv_mode": 3, "segment": 0.5}),
    ],
)
def test_bfloat16_separates_nearly_as_float32(make: Any, params: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = make(**params).eval()
    audio = 0.1 * torch.randn(1, 2, 22_050)
    with torch.inference_mode():
        exact = network(audio)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(audio)
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()
