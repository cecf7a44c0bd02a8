"""Small mask networks, each with one fault that the kit must catch; `Good` has none."""

from __future__ import annotations

import random
import warnings

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Good(nn.Module):
    """Frames through two convolutions: magnitudes (B, C, F, N) to masks (B, T, C, F, N)."""

    def __init__(
        self, num_fft_bins: int, num_frames: int, num_channels: int, num_targets: int, sample_rate: int, width: int = 8
    ) -> None:
        super().__init__()
        self.width = width
        self.num_frames = num_frames
        self.targets = num_targets
        self.shape = (num_targets, num_channels, num_fft_bins)
        self.encoder = nn.Conv1d(num_channels * num_fft_bins, width, 3, padding=1)
        self.decoder = nn.Conv1d(width, num_targets * num_channels * num_fft_bins, 1)

    def hidden(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(self.encoder(x.flatten(1, 2)), 0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.hidden(x)).unflatten(1, self.shape).sigmoid()


class TimeReversed(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flip(-1)


class Shifted(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).roll(x.shape[-1] // 8, -1)


class Shortened(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., :-1]


class CutAndPadded(Good):
    def forward(self, x: Tensor) -> Tensor:
        cut = x.shape[-1] // 5
        return functional.pad(super().forward(x[..., : x.shape[-1] - cut]), (0, cut))


class BatchMean(Good):
    """Centres with the mean over the batch, in evaluation too."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(dim=0, keepdim=True))


class BatchRecurrence(Good):
    """An LSTM that takes the batch for time: batch_first was forgotten."""

    def __init__(self, **arguments: int) -> None:
        super().__init__(**arguments)
        self.lstm = nn.LSTM(self.width, self.width)

    def hidden(self, x: Tensor) -> Tensor:
        return self.lstm(super().hidden(x).transpose(1, 2))[0].transpose(1, 2)


class SamplesInEvaluation(Good):
    def hidden(self, x: Tensor) -> Tensor:
        hidden = super().hidden(x)
        return hidden + 0.1 * torch.randn_like(hidden)


class DependsOnGlobalSeed(Good):
    """The same in every call, until somebody seeds torch anew."""

    def hidden(self, x: Tensor) -> Tensor:
        hidden = super().hidden(x)
        generator = torch.Generator().manual_seed(torch.initial_seed())
        return hidden + 0.1 * torch.randn(hidden.shape, generator=generator)


class DependsOnPythonRandom(Good):
    def hidden(self, x: Tensor) -> Tensor:
        return super().hidden(x) * (1 + random.random())


class DrawsInEvaluation(Good):
    """Draws and throws away: harmless to the estimates, not to a resumed training."""

    def hidden(self, x: Tensor) -> Tensor:
        torch.rand(1)
        return super().hidden(x)


class UnusedLayer(Good):
    def __init__(self, **arguments: int) -> None:
        super().__init__(**arguments)
        self.forgotten = nn.Linear(2, 2)


class DetachedEncoder(Good):
    def hidden(self, x: Tensor) -> Tensor:
        return super().hidden(x).detach()


class NanOnSilence(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / x.amax(dim=(1, 2, 3), keepdim=True))


class NanGradientOnSilence(Good):
    """sqrt is 0 at 0, and its gradient is not finite there."""

    def __init__(self, **arguments: int) -> None:
        super().__init__(**arguments)
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((self.gain.square() * x).sqrt())


class OverflowsWhenLoud(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * x.exp()


class FixedLength(Good):
    def __init__(self, **arguments: int) -> None:
        super().__init__(**arguments)
        self.mix = nn.Linear(self.num_frames, self.num_frames)

    def hidden(self, x: Tensor) -> Tensor:
        hidden = super().hidden(x)
        return hidden + self.mix(hidden)


class PlainTensor(Good):
    """A constant in a plain attribute: stays on its device and in its precision."""

    def __init__(self, **arguments: int) -> None:
        super().__init__(**arguments)
        self.constants = {"scale": torch.full((1,), 2.0)}

    def hidden(self, x: Tensor) -> Tensor:
        return super().hidden(x) * self.constants["scale"]


class SingleMatrix(Good):
    def __init__(self, **arguments: int) -> None:
        super().__init__(**arguments)
        self.rotation = torch.eye(self.width)

    def hidden(self, x: Tensor) -> Tensor:
        return self.rotation @ super().hidden(x)


class StubbornBuffer(Good):
    """A buffer that is put back to single precision whenever the network moves."""

    def __init__(self, **arguments: int) -> None:
        super().__init__(**arguments)
        self.register_buffer("scale", torch.full((1,), 2.0))

    def _apply(self, *arguments: object, **options: object) -> nn.Module:
        super()._apply(*arguments, **options)
        self.scale = self.scale.float()
        return self

    def hidden(self, x: Tensor) -> Tensor:
        return super().hidden(x) * self.scale


class CastsToSingle(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float()


class WritesIntoInput(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(0.5))


class IgnoresTargets(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :1]


class CountsInEvaluation(Good):
    def __init__(self, **arguments: int) -> None:
        super().__init__(**arguments)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class Warns(Good):
    def forward(self, x: Tensor) -> Tensor:
        warnings.warn("old layer", DeprecationWarning, stacklevel=1)
        return super().forward(x)


class NumpyWeights(Good):
    def __init__(self, **arguments: int) -> None:
        super().__init__(**arguments)
        self.encoder.bias.data += torch.from_numpy(np.random.rand(self.width)).float()


class GrowingState(Good):
    """Makes a parameter when it first runs."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "late"):
            self.late = nn.Parameter(torch.ones(()))
        return super().forward(x)


class ForgottenState(Good):
    """What training changes is not in the state dict."""

    def __init__(self, **arguments: int) -> None:
        super().__init__(**arguments)
        self.register_buffer("level", torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.level = 0.5 * self.level + x.detach().mean()
        return super().forward(x / self.level)


class Uncopyable(Good):
    def __init__(self, **arguments: int) -> None:
        super().__init__(**arguments)
        self.stream = (number for number in range(3))


class SharedState(Good):
    """A dropout with a generator of its own, made once for the whole process."""

    generator = torch.Generator().manual_seed(0)

    def hidden(self, x: Tensor) -> Tensor:
        hidden = super().hidden(x)
        if self.training:
            hidden = hidden * torch.bernoulli(torch.full(hidden.shape, 0.5), generator=self.generator)
        return hidden


class DoesNotLearn(Good):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 + 1e-6 * super().forward(x)


class NeedsTwoItems(Good):
    """A BatchNorm over a vector of each item has nothing to normalize in a batch of one."""

    def __init__(self, **arguments: int) -> None:
        super().__init__(**arguments)
        self.norm = nn.BatchNorm1d(self.width)

    def hidden(self, x: Tensor) -> Tensor:
        hidden = super().hidden(x)
        return hidden + self.norm(hidden.mean(-1))[..., None]


class NoAutocast(Good):
    def hidden(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("expected Float but found BFloat16")
        return super().hidden(x)


class DifferenceOfNearNumbers(Good):
    def hidden(self, x: Tensor) -> Tensor:
        return (super().hidden(x) + 1000) - 1000


class KeepsInferenceTensor(Good):
    """Keeps a table from the first call, which may be one in inference mode."""

    def hidden(self, x: Tensor) -> Tensor:
        hidden = super().hidden(x)
        if not hasattr(self, "table"):
            self.table = torch.full((1,), 0.5)
        return hidden * self.table


class UndeclaredTerm(Good):
    def forward(self, x: Tensor) -> Tensor:
        mask = super().forward(x)
        self.loss_terms = {"kl": 0.1 * mask.mean()}
        return mask


class DeclaredTerm(UndeclaredTerm):
    """Right: the wrapper adds declared terms in training only."""

    loss_term_names = ("kl",)


class VectorTerm(Good):
    loss_term_names = ("kl",)

    def forward(self, x: Tensor) -> Tensor:
        mask = super().forward(x)
        self.loss_terms = {"kl": mask.flatten(1).mean(1)}
        return mask


class NoStereo(Good):
    def __init__(self, **arguments: int) -> None:
        if arguments["num_channels"] != 1:
            raise ValueError("mono only")
        super().__init__(**arguments)


class OneItemOnly(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:1])


class Waveform(nn.Module):
    """Audio (B, C, time) to audio (B, T, C, time), without a fault."""

    def __init__(
        self, num_fft_bins: int, num_frames: int, num_channels: int, num_targets: int, sample_rate: int, width: int = 8
    ) -> None:
        super().__init__()
        self.shape = (num_targets, num_channels)
        self.encoder = nn.Conv1d(num_channels, width, 33, padding=16)
        self.decoder = nn.Conv1d(width, num_targets * num_channels, 33, padding=16)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(functional.leaky_relu(self.encoder(x), 0.2)).unflatten(1, self.shape)


class WaveformReversed(Waveform):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flip(-1)


class WaveformShortened(Waveform):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., : x.shape[-1] // 2 * 2]


class Complex(Good):
    """Complex spectrograms to complex masks, without a fault."""

    def __init__(self, **arguments: int) -> None:
        super().__init__(**arguments)
        self.phase = nn.Conv1d(self.width, self.decoder.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # Autocast makes it bfloat16, of which there are no complex numbers.
        magnitude = super().forward(x.abs()).to(x.real.dtype)
        turn = self.phase(self.hidden(x.abs())).unflatten(1, self.shape).to(x.real.dtype)
        return torch.complex(magnitude * turn.cos(), magnitude * turn.sin())


class ComplexReversed(Complex):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).flip(-1)


class ComplexNanOnSilence(Complex):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / x.abs().amax(dim=(1, 2, 3), keepdim=True))
