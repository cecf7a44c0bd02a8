"""Models: a network with what drives it through training and separation."""

from auralflow_core.model.base import SeparationModel
from auralflow_core.model.complex import ComplexSpectrogramModel
from auralflow_core.model.magnitude import SpectrogramMaskModel
from auralflow_core.model.prediction import Prediction
from auralflow_core.model.waveform import WaveformModel

__all__ = ["ComplexSpectrogramModel", "Prediction", "SeparationModel", "SpectrogramMaskModel", "WaveformModel"]
