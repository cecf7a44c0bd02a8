"""Complex spectrograms: masks that also turn the phase, or spectrograms estimated directly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from auralflow_core.config import Config
from auralflow_core.errors import RegistryError
from auralflow_core.losses import Criterion
from auralflow_core.model.prediction import Prediction
from auralflow_core.model.shapes import with_target_axis
from auralflow_core.model.waveform import PhaseAwareModel

OUTPUTS = ("mask", "spectrogram")


class SpectrogramPrediction(Prediction):
    """A prediction that also holds the estimated complex spectrograms `(batch, target, channel, bin, frame)`."""

    estimate_spectrogram: Tensor


class ComplexSpectrogramModel(PhaseAwareModel):
    """Estimates each target's complex spectrogram, so that its phase may differ from the mixture's.

    The network gets the complex64 spectrogram `(batch, channel, bin, frame)` and returns, complex too,
    `(batch, target, channel, bin, frame)`; with one target the target axis may be left out. What it returns is said
    by the network's attribute `output`:

    - `"mask"` (default): what the mixture's spectrogram is multiplied with (Williamson et al., "Complex Ratio Masking
      for Monaural Speech Separation", 2016, eq. 5);
    - `"spectrogram"`: the targets' spectrograms.

    Losses see the magnitudes of what is heard: of the spectrogram after it became audio. The magnitude that the
    network returned would leave the phase without any gradient. For the same reason `waveform.AudioDistance` is
    added to every loss, and the model does not count as one that masks: the criteria `mask` and `component` compare
    magnitudes of masks.

    Raises:
        RegistryError: The network's `output` is neither.
    """

    domain = "complex"

    def __init__(
        self,
        config: Config | Mapping[str, Any],
        network: nn.Module,
        criterion: Criterion | None = None,
        **others: Any,
    ) -> None:
        super().__init__(config, network, criterion, **others)
        self.output = str(getattr(network, "output", OUTPUTS[0]))
        if self.output not in OUTPUTS:
            raise RegistryError(
                f"{self.config.model.type}: the network's attribute output is {self.output!r}, neither "
                f"{' nor '.join(OUTPUTS)}; this is a fault of its plugin"
            )

    def predict(self, mixture: Tensor, target: Tensor | None = None) -> SpectrogramPrediction:
        """Estimate the targets of `(batch, channel, time)`.

        Raises:
            RegistryError: The network returned another shape or real numbers.
        """
        length = mixture.shape[-1]
        spectrogram = self.stft(mixture)  # (batch, channel, bin, frame), complex
        output = self.run(spectrogram)
        output = with_target_axis(output, spectrogram.shape, len(self.targets), self.config.model.type)
        if not output.is_complex():
            raise RegistryError(
                f"{self.config.model.type}: the network returned {output.dtype} where complex numbers are expected; "
                "return torch.complex(real, imaginary), or register it with the domain magnitude"
            )
        output = output.to(torch.complex64)
        estimate = output * spectrogram.unsqueeze(1) if self.output == "mask" else output
        prediction = SpectrogramPrediction(
            self.stft,
            mixture,
            spectrogram.abs().unsqueeze(1),
            target,
            lambda: self.istft(estimate, length),
            terms=self.own_terms(),
        )
        prediction.estimate_spectrogram = estimate
        return prediction

    def estimate(self, prediction: Prediction) -> Tensor:
        """Return the estimated complex spectrograms `(batch, target, channel, bin, frame)`."""
        assert isinstance(prediction, SpectrogramPrediction)
        return prediction.estimate_spectrogram
