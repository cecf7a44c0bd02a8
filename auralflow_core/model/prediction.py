"""What one forward pass estimates, in every form that a loss or a picture may ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

from torch import Tensor

from auralflow_core.errors import ConfigError
from auralflow_core.transforms import STFT


class Prediction:
    """The estimates of a batch; each form is computed when it is first asked for.

    Magnitudes are `(batch, target, channel, bin, frame)`, audio is `(batch, target, channel, time)`.

    Args:
        stft: The model's transform.
        mixture_audio: `(batch, channel, time)`.
        mixture_magnitude: `(batch, 1, channel, bin, frame)`; none given: computed when asked for.
        target_audio: `(batch, target, channel, time)`, or none outside training and validation.
        audio: Gives the estimates' audio.
        magnitude: Gives the estimates' magnitudes, where there is a shorter way than through the audio.
        mask: What the mixture's magnitudes were multiplied with, for models that mask.
        terms: The network's own loss terms.
    """

    def __init__(
        self,
        stft: STFT,
        mixture_audio: Tensor,
        mixture_magnitude: Tensor | None,
        target_audio: Tensor | None,
        audio: Callable[[], Tensor],
        *,
        magnitude: Callable[[], Tensor] | None = None,
        mask: Tensor | None = None,
        terms: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._stft = stft
        self._mixture_magnitude = mixture_magnitude
        self._target_audio = target_audio
        self._audio = audio
        self._magnitude = magnitude
        self._mask = mask
        self.mixture_audio = mixture_audio
        self.terms = dict(terms or {})

    @property
    def mask(self) -> Tensor:
        """The masks `(batch, target, channel, bin, frame)`.

        Raises:
            ConfigError: The model does not mask.
        """
        if self._mask is None:
            raise ConfigError("this model makes no mask; choose another `criterion`: l1, l2, rmse, si_sdr")
        return self._mask

    @cached_property
    def mixture_magnitude(self) -> Tensor:
        """The mixture's magnitudes `(batch, 1, channel, bin, frame)`."""
        if self._mixture_magnitude is None:
            return _magnitude(self._stft, self.mixture_audio).unsqueeze(1)
        return self._mixture_magnitude

    @property
    def target_audio(self) -> Tensor:
        """The targets `(batch, target, channel, time)`."""
        assert self._target_audio is not None, "set_data was given no target"
        return self._target_audio

    @cached_property
    def target_magnitude(self) -> Tensor:
        """The targets' magnitudes."""
        return _magnitude(self._stft, self.target_audio)

    @cached_property
    def estimate_magnitude(self) -> Tensor:
        """The estimates' magnitudes."""
        return self._magnitude() if self._magnitude else _magnitude(self._stft, self.estimate_audio)

    @cached_property
    def estimate_audio(self) -> Tensor:
        """The estimates' audio."""
        return self._audio()


def _magnitude(stft: STFT, audio: Tensor) -> Tensor:
    spectrogram: Tensor = stft(audio)
    return spectrogram.abs()
