"""Against the package openunmix itself, where it is installed (`nox -s parity`): networks, songs, a training step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auralflow_core.config import Config, validate
from auralflow_core.losses import L2Loss
from auralflow_core.model import SpectrogramMaskModel
from auralflow_core.separate import Separator
from auralflow_core.torchaudio_cpu import import_torchaudio
from auralflow_openunmix.network import OpenUnmix

import_torchaudio()  # openunmix imports it, and its plain import may fail
peer_model: Any = pytest.importorskip("openunmix.model")
peer_transforms: Any = pytest.importorskip("openunmix.transforms")

NUM_FFT, HOP, RATE = 1024, 256, 16000
NUM_BINS = NUM_FFT // 2 + 1
ADAM: dict[str, Any] = {"optimizer": {"name": "adam", "args": {"weight_decay": 1e-5}}}


def networks(channels: int, layers: int = 3, **sizes: Any) -> tuple[nn.Module, OpenUnmix]:
    """Return the peer's network with random weights and statistics, and ours with the same."""
    torch.manual_seed(0)
    peer = peer_model.OpenUnmix(
        NUM_BINS, channels, hidden_size=32, nb_layers=layers, max_bin=sizes.get("max_bin"),
        unidirectional=sizes.get("unidirectional", False),
    )  # fmt: skip
    with torch.no_grad():
        for name, tensor in peer.state_dict().items():
            if tensor.is_floating_point() and not name.startswith("lstm"):
                tensor += 0.2 * torch.rand_like(tensor)
    ours = OpenUnmix(NUM_BINS, channels, hidden_size=32, num_layers=layers, **sizes)
    ours.load_state_dict(peer.state_dict())
    return peer.eval(), ours.eval()


def model_of(network: OpenUnmix, channels: int, targets: tuple[str, ...], **separation: Any) -> SpectrogramMaskModel:
    stft = {"num_fft": NUM_FFT, "window_size": NUM_FFT, "hop_length": HOP, "stft_padding": "reflect"}
    groups = {
        "model": {"type": "OpenUnmix"},
        "dataset": {"targets": list(targets), "num_channels": channels, "sample_rate": RATE, **stft},
        "training": {"device": "cpu", "criterion": "l2", "lr": 1e-3, **ADAM},
        "separation": separation,
    }
    return SpectrogramMaskModel(validate(Config, groups), network, L2Loss())


def song(channels: int, length: int) -> Tensor:
    time = torch.arange(length) / RATE
    tones = torch.stack([torch.sin(3000 * time + channel) * torch.sin(9 * time) for channel in range(channels)])
    return 0.5 * tones + 0.2 * torch.randn(channels, length, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "sizes", [{}, {"max_bin": 300}, {"unidirectional": True}, {"layers": 1}], ids=["full", "cut", "forward", "one"]
)
def test_network(channels: int, sizes: dict[str, Any]) -> None:
    peer, ours = networks(channels, **sizes)
    magnitude = 3 * torch.rand(2, channels, NUM_BINS, 50, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = peer(magnitude)
        found = ours(magnitude) * magnitude
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


SONGS = [
    (("vocals", "drums"), {"wiener": 0}),
    (("vocals", "drums"), {"wiener": 1}),
    (("vocals", "drums"), {"wiener": 2}),
    (("vocals", "drums", "bass", "other"), {"wiener": 1}),
    (("speech", "noise"), {"wiener": 1}),
    (("strings", "brass", "choir"), {"wiener": 1, "wiener_residual": True}),
    (("vocals",), {"wiener": 1, "wiener_residual": True}),
    (("vocals",), {"wiener": 0}),
]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("targets", "settings"), SONGS)
def test_song(channels: int, targets: tuple[str, ...], settings: dict[str, Any]) -> None:
    ours = OpenUnmix(NUM_BINS, channels, hidden_size=32, max_bin=400, num_targets=len(targets))
    peers = {}
    for number, name in enumerate(targets):
        peers[name] = networks(channels, max_bin=400)[0]
        with torch.no_grad():
            peers[name].output_scale.mul_(1 + number)
        (ours.targets[number] if ours.targets else ours).load_state_dict(peers[name].state_dict())
    separator = peer_model.Separator(
        peers,
        niter=settings["wiener"],
        residual=settings.get("wiener_residual", False),
        n_fft=NUM_FFT,
        n_hop=HOP,
        nb_channels=channels,
        sample_rate=RATE,
    )
    mixture = song(channels, 90_001)
    with torch.no_grad():
        # What the peer gives for the residual comes last.
        expected = separator(mixture.unsqueeze(0))[0, : len(targets)]
    model = model_of(ours, channels, targets, **settings)
    assert (model.separate(mixture) - expected).abs().max() < 1e-4
    whole = Separator(model, segment=60, overlap=0)(mixture, RATE)
    assert whole.shape == expected.shape
    assert (whole - expected).abs().max() < 1e-4


def test_training_step() -> None:
    """Loss, gradients and the step of one batch in training mode; dropout, too, is drawn alike from one seed."""
    peer, ours = networks(2, max_bin=400)
    mixture = torch.stack([song(2, 12_288), 0.5 * song(2, 12_288).flip(-1)])
    target = 0.4 * mixture + 0.05 * torch.randn(mixture.shape, generator=torch.Generator().manual_seed(3))
    stft, _ = peer_transforms.make_filterbanks(NUM_FFT, HOP, center=True, sample_rate=RATE)
    norm = peer_transforms.ComplexNorm()

    peer.train()
    torch.manual_seed(7)
    loss = nn.functional.mse_loss(peer(norm(stft(mixture))), norm(stft(target)))
    loss.backward()
    torch.optim.Adam(peer.parameters(), lr=1e-3, weight_decay=1e-5).step()

    model = model_of(ours, 2, ("vocals",))
    model.train()
    torch.manual_seed(7)
    model.set_data(mixture, target)
    model.forward()
    assert model.compute_loss() == pytest.approx(loss.item(), rel=1e-4)
    model.backward()
    model.optimizer_step()
    parameters = dict(ours.named_parameters())
    for name, expected in peer.named_parameters():
        found = parameters[name]
        assert found.grad is not None and expected.grad is not None
        assert (found.grad - expected.grad).abs().max() <= 1e-4 * expected.grad.abs().max(), name
        # Adam's first step is the gradient's sign: that of zero, but for rounding, may be either.
        is_sure = expected.grad.abs() > 1e-4 * expected.grad.abs().max()
        assert ((found - expected)[is_sure]).abs().max() <= 1e-4 * expected.abs().max(), name
    for name, buffer in peer.named_buffers():
        torch.testing.assert_close(dict(ours.named_buffers())[name], buffer, rtol=1e-4, atol=1e-6)
