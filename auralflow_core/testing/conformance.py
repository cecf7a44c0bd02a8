"""The kit as a plugin's author uses it: one class, of which every `test_` method is a check."""

from __future__ import annotations

from auralflow_core.testing.registration import RegistrationChecks
from auralflow_core.testing.separation import SeparationChecks
from auralflow_core.testing.shapes import ShapeChecks
from auralflow_core.testing.state import StateChecks
from auralflow_core.testing.training import TrainingChecks


class ModelConformance(RegistrationChecks, ShapeChecks, SeparationChecks, TrainingChecks, StateChecks):
    """What every architecture must do, as checks that pytest collects from a subclass.

        class TestGain(ModelConformance):
            plugin = "auralflow_gain"
            model_type = "Gain"
            params = {"initial": 0.5}

    The model is built through the registry and driven through the wrapper of its domain, as training and separation
    do, with random weights and small spectrograms (65 bins, 33 frames). Each check fails with a `ConformanceError`
    that says what is wrong and what to do.

    Attributes:
        plugin: The installed distribution, or the module that implements the hooks.
        model_type: The registered type.
        params: `model.params` for the checks; choose small sizes, so that they are quick.
        config: Settings in the groups of `config.json` that the checks must keep, where an architecture cannot do
            without them: `{"dataset": {"num_fft": 512, "window_size": 512}}`.
        tolerance: Largest error, relative to the largest sample, between results that must agree.
    """
