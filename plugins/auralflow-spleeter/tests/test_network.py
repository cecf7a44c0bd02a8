"""What the networks compute, against Spleeter's graph written anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from auralflow.models import SpleeterBLSTM, SpleeterSoftmaxUNet, SpleeterUNet
from auralflow_core.errors import CheckpointError
from auralflow_spleeter.weights import read_unet

FILTERS = (2, 3, 2, 4, 3, 2)
SMALL: dict[str, Any] = {"piece_frames": 64, "piece_bins": 64, "conv_n_filters": FILTERS}


def magnitudes(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 4


def run(network: nn.Module, magnitude: Tensor) -> Tensor:
    with torch.no_grad():
        masks: Tensor = network.eval()(magnitude)
    return masks


@pytest.mark.parametrize(
    ("kind", "down", "up"), [(SpleeterUNet, "LeakyReLU", "ReLU"), (SpleeterSoftmaxUNet, "ELU", "ELU")]
)
def test_the_numbers_are_those_of_spleeters_graph(
    kind: type[nn.Module],
    down: str,
    up: str,
    unet_weights: Callable[..., Any],
    unet_outputs: Callable[..., Any],
    write_bundle: Callable[..., Path],
    tmp_path: Path,
) -> None:
    weights = unet_weights(2, FILTERS)
    network = kind(2, 2, conv_activation=down, deconv_activation=up, **SMALL)
    network.load_state_dict(read_unet(write_bundle(tmp_path / "model", weights)))
    magnitude = magnitudes(1, 2, 64, 64)  # (batch, channel, bin, frame)
    image = magnitude.permute(0, 3, 2, 1).double().numpy()
    logits = np.stack(unet_outputs(weights, image, instruments=2, down=down, up=up))
    powers = np.exp(logits)
    expected = powers / (powers.sum(0) if kind is SpleeterSoftmaxUNet else powers + 1)
    masks = run(network, magnitude)[0].permute(0, 3, 2, 1).numpy()  # (target, frame, bin, channel)
    np.testing.assert_allclose(masks, expected[:, 0], atol=2e-6)
    assert expected.std() > 0.05


def test_pieces_are_looked_at_one_by_one() -> None:
    network = SpleeterUNet(2, 2, **SMALL).double()
    magnitude = magnitudes(2, 2, 80, 150).double()
    masks = run(network, magnitude)
    assert masks.shape == (2, 2, 2, 64, 150)
    filled = nn.functional.pad(magnitude[:, :, :64], (0, 192 - 150))
    pieces = [run(network, filled[..., start : start + 64]) for start in (0, 64, 128)]
    torch.testing.assert_close(masks, torch.cat(pieces, dim=-1)[..., :150])


@given(
    batch=st.integers(1, 2),
    channels=st.integers(1, 2),
    bins=st.integers(1, 150),
    frames=st.integers(1, 150),
    limit=st.integers(1, 140),
    targets=st.integers(1, 3),
)
@settings(max_examples=10, deadline=None)
def test_any_size(batch: int, channels: int, bins: int, frames: int, limit: int, targets: int) -> None:
    sizes: dict[str, Any] = {"piece_frames": 64, "piece_bins": limit}
    networks = (
        SpleeterUNet(targets, channels, conv_n_filters=FILTERS, **sizes),
        SpleeterBLSTM(targets, channels, lstm_units=2, num_fft_bins=bins, **sizes),
    )
    for network in networks:
        masks = run(network, magnitudes(batch, channels, bins, frames))
        assert masks.shape == (batch, targets, channels, min(bins, limit), frames)
        assert masks.isfinite().all()


def test_softmax_masks_sum_to_one() -> None:
    masks = run(SpleeterSoftmaxUNet(3, 2, **SMALL), magnitudes(1, 2, 64, 70))
    torch.testing.assert_close(masks.sum(1), torch.ones(1, 2, 64, 70))


def test_a_target_has_a_network_of_its_own() -> None:
    network = SpleeterUNet(2, 2, **SMALL)
    assert {name.split(".")[1] for name in network.state_dict()} == {"0", "1"}
    masks = run(network, magnitudes(1, 2, 64, 64))
    assert not torch.equal(masks[:, 0], masks[:, 1])


def test_the_blstms_estimate_is_that_of_its_layers() -> None:
    """Each bin's channels side by side, three layers by hand, and a mask that gives the estimate back."""
    network = SpleeterBLSTM(1, 2, piece_frames=64, piece_bins=5, lstm_units=3).double()
    magnitude = magnitudes(1, 2, 5, 64).double()
    layers = network.instruments[0].lstm
    x = magnitude[0].permute(2, 1, 0).reshape(64, 10)
    for layer in range(3):
        halves = []
        for suffix in ("", "_reverse"):
            w_ih, w_hh, b_ih, b_hh = (
                getattr(layers, f"{name}_l{layer}{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            halves.append(lstm(x.flip(0) if suffix else x, w_ih, w_hh, b_ih + b_hh))
        x = torch.cat([halves[0], halves[1].flip(0)], dim=1)
    expected = network.instruments[0].dense(x).relu().reshape(64, 5, 2).permute(2, 1, 0)
    estimate = run(network, magnitude)[0, 0] * magnitude[0]
    torch.testing.assert_close(estimate, expected.detach())
    assert estimate.any()


def lstm(x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor) -> Tensor:
    hidden = cell = x.new_zeros(w_hh.shape[1])
    outputs = []
    for frame in x:
        i, f, g, o = (w_ih @ frame + w_hh @ hidden + bias).chunk(4)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        outputs.append(hidden)
    return torch.stack(outputs)


def test_initial_weights_are_those_of_keras() -> None:
    network = SpleeterUNet(1, 2)
    bound = (6 / (25 * 256)) ** 0.5  # He's uniform distribution: sqrt(6 / fan in)
    weight = network.get_submodule("instruments.0.down.5.convolution").weight
    assert 0.99 * bound < weight.abs().max() <= bound
    assert not network.get_submodule("instruments.0.head").bias.any()
    layers = SpleeterBLSTM(1, 2, lstm_units=4, piece_bins=8).instruments[0].lstm
    assert layers.bias_ih_l0.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8
    torch.testing.assert_close(layers.weight_hh_l0.T @ layers.weight_hh_l0, torch.eye(4), atol=1e-5, rtol=0)


def test_public_models_size() -> None:
    """9.8 million parameters an instrument, as the 39 MB of each in the public archives have it."""
    count = sum(value.numel() for value in SpleeterUNet(1, 2).parameters())
    assert round(count / 1e6, 1) == 9.8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weights: weights.pop("conv2d_6/kernel"), "13 convolutions"),
        (lambda weights: weights.pop("batch_normalization_3/gamma"), "batch_normalization_3/gamma"),
        (lambda weights: weights.update({"conv2d/bias": np.zeros(2)}), "float64"),
    ],
)
def test_another_checkpoint_is_refused(
    change: Callable[[dict[str, Any]], None],
    words: str,
    unet_weights: Callable[..., Any],
    write_bundle: Callable[..., Path],
    tmp_path: Path,
) -> None:
    weights = unet_weights(2, FILTERS)
    change(weights)
    with pytest.raises(CheckpointError, match=words):
        read_unet(write_bundle(tmp_path / "model", weights))
