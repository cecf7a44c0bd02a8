"""The network of Open-Unmix, whole in this file.

Stöter, Uhlich, Liutkus and Mitsufuji, "Open-Unmix - A Reference Implementation for Music Source Separation", JOSS 2019.
Names of layers and shapes of weights are those of the public checkpoints.

Shapes: B batch, T target, C channel, F bin, N frame, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from auralflow_core.errors import ConfigError


class OpenUnmix(nn.Module):
    """Masks of magnitude spectrograms, made by recurrence over time.

    With several targets it holds one network for each, `targets`.

    Args:
        num_fft_bins: Number of frequency bins F.
        num_channels: 1 for mono, 2 for stereo.
        hidden_size: Size H of the hidden layers.
        num_layers: Number of recurrent layers.
        unidirectional: Whether to recur forward in time only; else each direction has H / 2.
        max_bin: Number of lowest bins that the network sees; by default all. Masks are always made for all.
        dropout_p: Dropout probability between recurrent layers.
        input_mean: Mean magnitude `(F)` of the training songs, subtracted at first; learned on from there.
        input_scale: Their standard deviation `(F)`, divided by at first.
        num_targets: Number of masks T.
        num_frames: Not used; any number is accepted.
        sample_rate: Not used; every network is told.

    Raises:
        ConfigError: `max_bin` is more than there are.
    """

    def __init__(
        self,
        num_fft_bins: int,
        num_channels: int = 2,
        hidden_size: int = 512,
        num_layers: int = 3,
        unidirectional: bool = False,
        max_bin: int | None = None,
        dropout_p: float = 0.4,
        *,
        input_mean: Tensor | None = None,
        input_scale: Tensor | None = None,
        num_targets: int = 1,
        num_frames: int | None = None,
        sample_rate: int | None = None,
    ) -> None:
        super().__init__()
        max_bin = num_fft_bins if max_bin is None else max_bin
        if max_bin > num_fft_bins:
            raise ConfigError(
                f"model.params.max_bin: {max_bin} is more than the {num_fft_bins} bins of the spectrogram; lower it, "
                "or raise dataset.num_fft"
            )
        self.targets = nn.ModuleList()
        if num_targets > 1:
            sizes = (num_fft_bins, num_channels, hidden_size, num_layers, unidirectional, max_bin, dropout_p)
            for _ in range(num_targets):
                self.targets.append(OpenUnmix(*sizes, input_mean=input_mean, input_scale=input_scale))
            return
        self.max_bin = max_bin
        self.num_channels = num_channels
        self.fc1 = nn.Linear(max_bin * num_channels, hidden_size, bias=False)
        self.bn1 = nn.BatchNorm1d(hidden_size)
        self.lstm = nn.LSTM(
            hidden_size,
            hidden_size if unidirectional else hidden_size // 2,
            num_layers,
            bidirectional=not unidirectional,
            dropout=dropout_p if num_layers > 1 else 0,
        )
        self.fc2 = nn.Linear(2 * hidden_size, hidden_size, bias=False)
        self.bn2 = nn.BatchNorm1d(hidden_size)
        self.fc3 = nn.Linear(hidden_size, num_fft_bins * num_channels, bias=False)
        self.bn3 = nn.BatchNorm1d(num_fft_bins * num_channels)
        mean = torch.zeros(max_bin) if input_mean is None else -input_mean[:max_bin].float()
        scale = torch.ones(max_bin) if input_scale is None else 1 / input_scale[:max_bin].float()
        self.input_mean = nn.Parameter(mean)
        self.input_scale = nn.Parameter(scale)
        self.output_scale = nn.Parameter(torch.ones(num_fft_bins))
        self.output_mean = nn.Parameter(torch.ones(num_fft_bins))

    def forward(self, magnitude: Tensor) -> Tensor:
        """Estimate masks, not negative.

        Args:
            magnitude: `(B, C, F, N)`.

        Returns:
            `(B, T, C, F, N)`; with one target `(B, C, F, N)`.
        """
        if self.targets:
            return torch.stack([target(magnitude) for target in self.targets], dim=1)
        features = self._encode(magnitude)
        return self._mask(self._decode(features, self.lstm(features)[0]))

    def mask_windows(self, windows: Iterable[Tensor]) -> Iterator[Tensor]:
        """Estimate masks as `forward` does, window by window; only hidden layers are held for the whole length.

        Args:
            windows: Magnitudes `(B, C, F, n)`, successive in time.

        Yields:
            The masks `(B, T, C, F, n)` of each window.
        """
        networks = [network for network in self.targets if isinstance(network, OpenUnmix)] or [self]
        encoded = list(zip(*([network._encode(window) for network in networks] for window in windows), strict=True))
        hidden = []
        for network in networks:
            hidden.append(network._recur(encoded.pop(0)))
        for parts in zip(*hidden, strict=True):
            yield torch.stack([network._mask(part) for network, part in zip(networks, parts, strict=True)], dim=1)

    def _encode(self, magnitude: Tensor) -> Tensor:
        """Map `(B, C, F, N)` to `(N, B, H)`, frame by frame."""
        x = magnitude[:, :, : self.max_bin].permute(3, 0, 1, 2)  # (N, B, C, max_bin)
        x = (x + self.input_mean) * self.input_scale
        return torch.tanh(_normalised(self.bn1, self.fc1(x.flatten(2))))

    def _recur(self, windows: Iterable[Tensor]) -> list[Tensor]:
        """Map windows of `(N, B, H)` to the hidden layer before the last, `(N, B, H)`."""
        features = torch.cat(list(windows))
        sizes = [len(window) for window in windows]
        recurrent = self.lstm(features)[0]
        parts = zip(torch.split(features, sizes), torch.split(recurrent, sizes), strict=True)
        return [self._decode(*part) for part in parts]

    def _decode(self, features: Tensor, recurrent: Tensor) -> Tensor:
        """Map twice `(N, B, H)` to `(N, B, H)`, frame by frame."""
        return torch.relu(_normalised(self.bn2, self.fc2(torch.cat([features, recurrent], dim=-1))))

    def _mask(self, hidden: Tensor) -> Tensor:
        """Map `(N, B, H)` to masks `(B, C, F, N)`, frame by frame."""
        x = _normalised(self.bn3, self.fc3(hidden))
        x = x.reshape(*x.shape[:2], self.num_channels, -1)
        mask = functional.relu(x * self.output_scale + self.output_mean)
        return mask.permute(1, 2, 3, 0)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # The published files also hold what was once part of the network: its transform, its sample rate.
        known = {*self._modules, *self._parameters}
        for key in [key for key in state_dict if key.startswith(prefix)]:
            if key.removeprefix(prefix).partition(".")[0] not in known:
                del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)


def _normalised(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply batch normalisation over all frames of all items to `(N, B, H)`."""
    normalised: Tensor = norm(x.flatten(0, 1))
    return normalised.reshape(x.shape)
