from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from auralflow_core.config import MaskActivation
from auralflow_simplenet import SimpleNetParams
from auralflow_simplenet.network import SpectrogramNetSimple

RANGES = {
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "relu": (0.0, math.inf),
    "softplus": (0.0, math.inf),
    "tanh": (-1.0, 1.0),
    "leaky_relu": (-math.inf, math.inf),
    "identity": (-math.inf, math.inf),
}


def small(**arguments: object) -> SpectrogramNetSimple:
    torch.manual_seed(0)
    return SpectrogramNetSimple(**{"num_fft_bins": 33, "num_frames": 20, "hidden_channels": 2, **arguments})


def magnitudes(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 10


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_default_size_is_about_that_of_the_original() -> None:
    """15.4 million by the documented shape of five levels, 16 to 256 channels and a bottleneck of 512."""

    def convolutions(before: int, after: int) -> int:
        return 9 * after * (before + 2 * after) + 3 * 2 * after

    widths = [16, 32, 64, 128, 256]
    expected = sum(convolutions(before, after) for before, after in zip([1, *widths], widths, strict=False))
    expected += convolutions(256, 512)
    expected += sum(25 * 2 * width * width + 2 * width + convolutions(2 * width, width) for width in widths)
    expected += 16 + 1
    assert count(SpectrogramNetSimple(num_fft_bins=513, num_frames=259)) == expected
    assert round(expected / 1e6, 1) == 15.4


@pytest.mark.slow
def test_documented_example() -> None:
    """As the document of the models has it, word for word."""
    from auralflow.models import SpectrogramNetSimple

    # initialize network
    spec_net = SpectrogramNetSimple(
        num_fft_bins=1024,
        num_frames=173,
        num_channels=1,
        hidden_channels=16,
        normalize_input=True,
        normalize_output=True,
    )

    # generate pretend batch of spectrogram data
    mix_spec = torch.rand((8, 1, 1024, 173))

    # estimate source mask
    source_mask = spec_net(mix_spec)

    # isolate source from mixture
    source_estimate = source_mask * mix_spec

    assert source_estimate.shape == mix_spec.shape
    assert (source_mask >= 0).all() and (source_mask <= 1).all()


@given(
    bins=st.integers(1, 140),
    frames=st.integers(1, 70),
    trained_frames=st.integers(1, 70),
    batch=st.integers(1, 2),
    channels=st.integers(1, 2),
    targets=st.integers(1, 3),
)
@settings(max_examples=15, deadline=None)
def test_any_size(bins: int, frames: int, trained_frames: int, batch: int, channels: int, targets: int) -> None:
    network = SpectrogramNetSimple(bins, trained_frames, channels, hidden_channels=1, num_targets=targets).eval()
    with torch.no_grad():
        mask = network(magnitudes(batch, channels, bins, frames))
    one = (batch, channels, bins, frames)
    assert mask.shape == (one if targets == 1 else (batch, targets, *one[1:]))
    assert mask.isfinite().all()


@pytest.mark.parametrize("name", get_args(get_args(MaskActivation)[0]))
def test_mask_activation_sets_the_range(name: str) -> None:
    low, high = RANGES[name]
    network = small(mask_act_fn=name, num_targets=2, leak_factor=0.2).eval()
    # One target far above zero and one far below.
    network.head.weight.data = 1000 * torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 2, 1, 1).clone()
    with torch.no_grad():
        mask = network(magnitudes(2, 1, 33, 20))
    assert low <= float(mask.min()) and float(mask.max()) <= high
    assert mask.std() > 0.01
    if low == -math.inf:
        assert mask.min() < 0
    if high == math.inf:
        assert mask.max() > 1
    if name == "softmax":
        torch.testing.assert_close(mask.sum(1), torch.ones(2, 1, 33, 20))


def test_leak_factor_chooses_the_hidden_activation() -> None:
    def activations(leak_factor: float) -> set[type[nn.Module]]:
        return {type(part) for part in small(leak_factor=leak_factor).modules()} & {nn.SELU, nn.LeakyReLU}

    assert activations(0) == {nn.SELU}
    assert activations(0.2) == {nn.LeakyReLU}
    slopes = {part.negative_slope for part in small(leak_factor=0.3).modules() if isinstance(part, nn.LeakyReLU)}
    assert slopes == {0.3}


@pytest.mark.parametrize(("dropout_p", "is_random"), [(0.5, True), (0.0, False)])
def test_dropout_acts_in_training_only(dropout_p: float, is_random: bool) -> None:
    network, data = small(dropout_p=dropout_p, hidden_channels=4), magnitudes(2, 1, 33, 20)

    def differs() -> bool:
        with torch.no_grad():
            return not torch.equal(network(data), network(data))

    assert differs() == is_random
    network.eval()
    assert not differs()


@pytest.mark.parametrize("which", ["normalize_input", "normalize_output"])
def test_normalization_adds_a_shift_and_a_scale_for_each_bin(which: str) -> None:
    plain, normalizing = small(), small(**{which: True})
    assert count(normalizing) - count(plain) == 2 * 33
    data = magnitudes(2, 1, 33, 20)
    with torch.no_grad():  # It starts as the identity, so that the same weights give the same masks.
        torch.testing.assert_close(normalizing.eval()(data), plain.eval()(data))


def test_targets_have_masks_of_their_own() -> None:
    with torch.no_grad():
        masks = small(num_targets=3, num_channels=2).eval()(magnitudes(2, 2, 33, 20))
    assert masks.shape == (2, 3, 2, 33, 20)
    assert not torch.equal(masks[:, 0], masks[:, 1]) and not torch.equal(masks[:, 1], masks[:, 2])


def test_params_are_the_constructors_arguments() -> None:
    arguments = SimpleNetParams(mask_activation="relu", hidden_channels=2, leak_factor=0).network_arguments()
    assert "mask_activation" not in arguments
    network = SpectrogramNetSimple(33, 20, **arguments)
    assert isinstance(network.mask_activation, nn.ReLU)
    assert network.head.in_channels == 2


def test_device_is_that_of_every_parameter() -> None:
    assert {value.device.type for value in small(device="meta").parameters()} == {"meta"}
