from __future__ import annotations

from typing import Any, ClassVar

from auralflow_core.testing import ModelConformance

SMALL: dict[str, Any] = {"hidden_channels": 4, "depth": 3}


class TestUNetAudio(ModelConformance):
    plugin = "auralflow-audio-unet"
    model_type = "UNetAudio"
    params: ClassVar = SMALL


class TestUNetRecurrentAudio(ModelConformance):
    plugin = "auralflow-audio-unet"
    model_type = "UNetRecurrentAudio"
    params: ClassVar = {**SMALL, "recurrent_depth": 1, "hidden_size": 8}


class TestUNetVAEAudio(ModelConformance):
    plugin = "auralflow-audio-unet"
    model_type = "UNetVAEAudio"
    params: ClassVar = {**SMALL, "latent_channels": 4}
