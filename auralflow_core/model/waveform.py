"""Audio in, audio out; and what all models need that choose the phase of their estimates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from auralflow_core.config import Config
from auralflow_core.losses import Criterion
from auralflow_core.losses import Prediction as PredictionLike
from auralflow_core.model.base import SeparationModel
from auralflow_core.model.prediction import Prediction
from auralflow_core.model.shapes import with_target_axis
from auralflow_core.transforms import STFT


class PhaseAwareModel(SeparationModel):
    """Base of the models whose estimates do not keep the mixture's phase: `AudioDistance` is part of their loss."""

    def __init__(
        self,
        config: Config | Mapping[str, Any],
        network: nn.Module,
        criterion: Criterion | None = None,
        **others: Any,
    ) -> None:
        super().__init__(config, network, criterion, **others)
        if criterion is not None:
            self.criterion = AudioDistance(criterion, self.stft)


class WaveformModel(PhaseAwareModel):
    """Estimates each target's audio from the mixture's, with no spectrogram in between.

    The network gets audio `(batch, channel, time)` and returns audio `(batch, target, channel, time)`; with one target
    the target axis may be left out. Losses on magnitudes look at the estimates' spectrograms, and `AudioDistance` is
    added to every loss.
    """

    domain = "waveform"

    def predict(self, mixture: Tensor, target: Tensor | None = None) -> Prediction:
        """Estimate the targets of `(batch, channel, time)`.

        Raises:
            RegistryError: The network returned another shape.
        """
        output = self.run(mixture)
        audio = with_target_axis(output, mixture.shape, len(self.targets), self.config.model.type).float()
        return Prediction(self.stft, mixture, None, target, lambda: audio, terms=self.own_terms())


class AudioDistance(Criterion):
    """A criterion plus mean |estimate - target| of audio, times the root of the STFT window's energy.

    Magnitudes and SI-SDR do not know a target from its negative, and a network that is free to choose the phase
    learns either; the distance of audio knows (both are added in Défossez et al., "Real Time Speech Enhancement in the
    Waveform Domain", 2020, section 2.2). By Parseval's theorem the factor gives an error of audio the size that it has
    in a bin of the spectrogram, so that the distance counts about as much as `l1`.

    Args:
        criterion: The configured criterion.
        stft: The model's transform.
    """

    def __init__(self, criterion: Criterion, stft: STFT) -> None:
        super().__init__()
        self.criterion = criterion
        self.stft = stft

    def forward(self, prediction: PredictionLike) -> Tensor:
        """Return the scalar loss of a batch."""
        size = self.stft.window.square().sum().sqrt()
        distance = (prediction.estimate_audio - prediction.target_audio).abs().mean()
        configured: Tensor = self.criterion(prediction)
        return configured + size * distance
