from __future__ import annotations

from typing import ClassVar

from auralflow_core.testing import ModelConformance


class TestConformance(ModelConformance):
    plugin = "auralflow-openunmix"
    model_type = "OpenUnmix"
    params: ClassVar = {"hidden_size": 16, "num_layers": 2, "max_bin": 50}
