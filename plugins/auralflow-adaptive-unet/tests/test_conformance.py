from __future__ import annotations

from typing import ClassVar

from auralflow_core.testing import ModelConformance


class TestAdaptiveUNet(ModelConformance):
    plugin = "auralflow-adaptive-unet"
    model_type = "AdaptiveUNet"
    params: ClassVar = {"max_layers": 2, "hidden_channels": 4, "bottleneck": [["lstm", 1], ["attention", 2]]}


class TestUNet(ModelConformance):
    plugin = "auralflow-adaptive-unet"
    model_type = "UNet"
    params: ClassVar = {"max_layers": 3, "hidden_channels": 4}
