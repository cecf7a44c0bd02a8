from __future__ import annotations

from typing import ClassVar

from auralflow_core.testing import ModelConformance


class TestConformance(ModelConformance):
    plugin = "auralflow-simplenet"
    model_type = "SpectrogramNetSimple"
    params: ClassVar = {"hidden_channels": 2}
