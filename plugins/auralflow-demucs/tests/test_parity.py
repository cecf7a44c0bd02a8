"""Beside the peer, where it is installed (`nox -s parity`): all of its arguments, whole songs, one training step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auralflow_core.build import build_model
from auralflow_core.config import Config, validate
from auralflow_core.separate import Separator
from auralflow_demucs.demucs import Demucs
from auralflow_demucs.hdemucs import HDemucs
from auralflow_demucs.htdemucs import HTDemucs

pytest.importorskip("demucs", reason="the peer is not installed; `nox -s parity` installs it")
pytestmark = pytest.mark.filterwarnings("default")

SOURCES = ["drums", "bass", "other", "vocals"]
SIX = [*SOURCES, "guitar", "piano"]
RATE = 8000
OURS = {"Demucs": Demucs, "HDemucs": HDemucs, "HTDemucs": HTDemucs}
WAVEFORM = {"channels": 8, "depth": 3, "dconv_comp": 2, "dconv_lstm": 2, "dconv_attn": 2, "norm_starts": 2}
HYBRID = {"channels": 8, "depth": 4, "nfft": 256, "dconv_comp": 2, "dconv_lstm": 2, "dconv_attn": 2, "norm_starts": 2}
TRANSFORMER = {"channels": 8, "depth": 2, "nfft": 256, "t_layers": 3, "t_heads": 2, "segment": 0.5}

CASES: list[tuple[str, dict[str, Any]]] = [
    ("Demucs", WAVEFORM),
    ("Demucs", {**WAVEFORM, "dconv_mode": 3, "lstm_layers": 1, "context": 2}),
    ("Demucs", {**WAVEFORM, "dconv_mode": 0, "resample": False, "normalize": False, "glu": False, "gelu": False}),
    ("Demucs", {**WAVEFORM, "rewrite": False, "rescale": 0, "growth": 1.5, "norm_starts": 3, "dconv_attn": 3}),
    ("HDemucs", HYBRID),
    ("HDemucs", {**HYBRID, "dconv_mode": 3, "hybrid_old": True}),
    ("HDemucs", {**HYBRID, "channels_time": 4, "context_enc": 1, "rewrite": False}),
    ("HDemucs", {**HYBRID, "cac": False, "wiener_iters": -1, "end_iters": -1, "freq_emb": 0, "emb_smooth": False}),
    ("HTDemucs", {**TRANSFORMER, "bottom_channels": 16, "dconv_mode": 3}),
    ("HTDemucs", {**TRANSFORMER, "t_cross_first": True, "t_norm_first": False, "t_gelu": False}),
    ("HTDemucs", {**TRANSFORMER, "t_group_norm": 2, "t_norm_in": False, "t_norm_in_group": 4, "t_layer_scale": False}),
    ("HTDemucs", {**TRANSFORMER, "t_norm_out": False, "t_weight_pos_embed": 0.5, "use_train_segment": False}),
]
each_case = pytest.mark.parametrize(("name", "settings"), CASES)


def pair(name: str, settings: dict[str, Any], sources: Sequence[str] = SOURCES) -> tuple[Any, nn.Module]:
    """Return the peer's network with random weights, and ours with the same."""
    import demucs.demucs
    import demucs.hdemucs
    import demucs.htdemucs

    torch.manual_seed(0)
    module = {"Demucs": demucs.demucs, "HDemucs": demucs.hdemucs, "HTDemucs": demucs.htdemucs}[name]
    peer = getattr(module, name)(list(sources), samplerate=RATE, **settings)
    with torch.no_grad():
        for key, parameter in peer.named_parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
            if key.endswith("scale"):
                parameter.add_(0.3)
    # A segment is a part of the peer's networks; of ours, only where it changes what they give.
    known = {key: value for key, value in settings.items() if name == "HTDemucs" or key != "segment"}
    ours = OURS[name](num_targets=len(sources), sample_rate=RATE, **known)
    ours.load_state_dict(peer.state_dict())
    return peer, ours


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def assert_close(actual: Tensor, expected: Tensor, tolerance: float, scale: Tensor | None = None) -> None:
    """Assert that no element differs by more than `tolerance` times the largest of `scale`, or else of `expected`."""
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max()) <= tolerance * float(
        (expected if scale is None else scale).abs().max()
    )


@each_case
def test_estimates(name: str, settings: dict[str, Any]) -> None:
    peer, ours = (network.eval() for network in pair(name, settings))
    for length in (4000, 3777, 900):
        mixture = noise(2, 2, length)
        with torch.no_grad():
            assert_close(ours(mixture), peer(mixture), 1e-5)


@each_case
def test_training_step(name: str, settings: dict[str, Any]) -> None:
    networks = pair(name, settings)
    mixture, target = noise(2, 2, 4000), noise(2, 4, 2, 4000)
    losses, gradients, parameters = [], [], []
    for network in networks:
        optimizer = torch.optim.Adam(network.train().parameters(), lr=1e-3)
        loss = loss_and_gradients(network, mixture, target)
        optimizer.step()
        losses.append(loss)
        gradients.append(gradients_of(network))
        parameters.append({key: parameter.detach() for key, parameter in network.named_parameters()})
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=0)
    for key, expected in gradients[0].items():
        # A bias that a normalization takes away again has a gradient of rounding alone, and one that it takes away but
        # for the zeros of padding has little else: their layer's largest gradient is the measure.
        assert_close(gradients[1][key], expected, 1e-4, scale=largest_of_layer(key, gradients[0]))
        # Adam's first step is the gradient's sign: that of zero, but for rounding, may be either.
        is_sure = expected.abs() > 1e-3 * largest_of_layer(key, gradients[0])
        if is_sure.any():
            assert_close(parameters[1][key][is_sure], parameters[0][key][is_sure], 1e-4)


@each_case
def test_gradients_in_double_precision(name: str, settings: dict[str, Any]) -> None:
    """Where rounding hides nothing, each gradient equals the peer's by itself."""
    networks = [network.double() for network in pair(name, settings)]
    mixture, target = noise(2, 2, 4000).double(), noise(2, 4, 2, 4000).double()
    losses = [loss_and_gradients(network.train(), mixture, target) for network in networks]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=0)
    theirs, ours = (gradients_of(network) for network in networks)
    for key, expected in theirs.items():
        if float(expected.abs().max()) > 1e-12:
            assert_close(ours[key], expected, 1e-5)


def loss_and_gradients(network: nn.Module, mixture: Tensor, target: Tensor) -> Tensor:
    loss = (network(mixture) - target).abs().mean()
    loss.backward()
    return loss.detach()


def gradients_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the gradients by name, of zeros where a parameter took no part."""
    return {
        key: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for key, parameter in network.named_parameters()
    }


def largest_of_layer(key: str, gradients: dict[str, Tensor]) -> Tensor:
    layer = key.rpartition(".")[0]
    return torch.stack(
        [value.abs().max() for other, value in gradients.items() if other.rpartition(".")[0] == layer]
    ).max()


SONGS = [("Demucs", WAVEFORM), ("HDemucs", HYBRID), ("HTDemucs", TRANSFORMER)]
SEGMENT = Fraction(4000, RATE)


def separator_of(
    type_: str, params: dict[str, Any], state: dict[str, Tensor], targets: Sequence[str] = SOURCES, **changes: Any
) -> Separator:
    config = {
        "model": {"type": type_, "params": params},
        "dataset": {"targets": list(targets), "num_channels": 2, "sample_rate": RATE},
        "separation": {"segment": float(SEGMENT), "window": "triangle", "final_segment": "padded"},
    }
    model = build_model(validate(Config, config))
    model.network.load_state_dict(state)
    return Separator(model, **changes)


@pytest.mark.parametrize(("name", "settings"), SONGS)
# The second ends with a segment of three samples; of the third no segment is whole.
@pytest.mark.parametrize(("length", "sources"), [(26000, SOURCES), (24003, SIX), (2777, SOURCES)])
def test_song(name: str, settings: dict[str, Any], length: int, sources: list[str]) -> None:
    from demucs.apply import apply_model

    peer, _ = pair(name, {**settings, "segment": SEGMENT}, sources)
    separator = separator_of(name, settings, peer.state_dict(), sources)
    mixture = 0.3 * noise(2, length)
    expected = apply_model(peer.eval(), mixture[None], shifts=0, split=True, overlap=0.25)[0]
    assert_close(separator(mixture, RATE), expected, 1e-4)


@pytest.mark.parametrize(("name", "settings"), SONGS)
def test_shift_trick(name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from demucs import apply

    peer, _ = pair(name, {**settings, "segment": SEGMENT})
    separator = separator_of(name, settings, peer.state_dict(), shifts=2, shift_seed=3)
    ours = random.Random(3)
    # The peer draws where its mixture begins in half a second of silence; we, how much of it is left.
    monkeypatch.setattr(apply, "random", SimpleNamespace(randint=lambda low, high: high - ours.randint(low, high)))
    mixture = 0.3 * noise(2, 9001)
    expected = apply.apply_model(peer.eval(), mixture[None], shifts=2, split=True, overlap=0.25)[0]
    assert_close(separator(mixture, RATE), expected, 1e-4)


@pytest.mark.parametrize(
    "cases", [SONGS[:1] * 2, SONGS[1:2] * 2, SONGS[2:] * 2, SONGS[:2]], ids=["Demucs", "HDemucs", "HTDemucs", "mixed"]
)
def test_bag(cases: list[tuple[str, dict[str, Any]]]) -> None:
    from demucs.apply import BagOfModels, apply_model

    peers = [pair(name, {**settings, "segment": SEGMENT})[0] for name, settings in cases]
    with torch.no_grad():
        for parameter in peers[1].parameters():
            parameter.mul_(0.9)
    weights = [[1.0, 0.0, 1.0, 2.0], [1.0, 1.0, 0.0, 1.0]]
    peer = BagOfModels(peers, weights=weights)
    members = [{"type": name, "params": settings} for name, settings in cases]
    state = torch.nn.ModuleDict({"models": torch.nn.ModuleList(peers)}).state_dict()
    separator = separator_of("DemucsBag", {"members": members, "weights": weights}, state)
    mixture = 0.3 * noise(2, 26000)
    expected = apply_model(peer.eval(), mixture[None], shifts=0, split=True, overlap=0.25)[0]
    assert_close(separator(mixture, RATE), expected, 1e-4)
