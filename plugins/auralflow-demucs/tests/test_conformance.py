from __future__ import annotations

from typing import Any, ClassVar

from auralflow_core.testing import ModelConformance

# Branches merge at the second level; the first level with everything that a residual branch can have is the third.
HYBRID: dict[str, Any] = {"channels": 8, "nfft": 64, "dconv_comp": 2, "dconv_init": 0.1, "norm_starts": 1}
RESIDUAL: dict[str, Any] = {"dconv_mode": 3, "dconv_depth": 1, "dconv_attn": 2, "dconv_lstm": 2}
WAVEFORM: dict[str, Any] = {"channels": 8, "depth": 3, "growth": 1, "dconv_comp": 2, "dconv_init": 0.1, **RESIDUAL}


class TestDemucs(ModelConformance):
    plugin = "auralflow-demucs"
    model_type = "Demucs"
    params: ClassVar = WAVEFORM


class TestHDemucs(ModelConformance):
    plugin = "auralflow-demucs"
    model_type = "HDemucs"
    params: ClassVar = {**HYBRID, **RESIDUAL, "depth": 3, "growth": 1}


class TestHTDemucs(ModelConformance):
    plugin = "auralflow-demucs"
    model_type = "HTDemucs"
    params: ClassVar = {
        **HYBRID,
        "nfft": 256,
        "depth": 2,
        "bottom_channels": 8,
        "t_layers": 2,
        "t_heads": 2,
        "segment": 2048 / 8000,
    }


class TestDemucsBag(ModelConformance):
    plugin = "auralflow-demucs"
    model_type = "DemucsBag"
    params: ClassVar = {
        "members": [
            {"type": "Demucs", "params": {"channels": 4, "depth": 2, "dconv_comp": 2, "resample": False}},
            {"type": "HDemucs", "params": {**HYBRID, "channels": 4, "depth": 2, "dconv_mode": 0}},
        ]
    }
