from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from auralflow_audio_unet.network import UNetAudio, UNetRecurrentAudio, UNetVAEAudio
from auralflow_core.errors import ConfigError

SMALL: dict[str, Any] = {"hidden_channels": 4, "depth": 3}
KINDS = [UNetAudio, UNetRecurrentAudio, UNetVAEAudio]


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.2


def small(kind: type[UNetAudio], seed: int = 0, **others: Any) -> UNetAudio:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 8} if kind is UNetRecurrentAudio else {}
    return kind(**{**SMALL, **sizes, **others}).eval()


def correction(network: UNetAudio, audio: Tensor) -> Tensor:
    """Return what the U-Net itself adds to the mixture."""
    with torch.no_grad():
        return network(audio) - audio


@given(
    length=st.integers(1, 1500),
    batch=st.integers(1, 3),
    channels=st.integers(1, 2),
    targets=st.integers(1, 3),
    kind=st.sampled_from(KINDS),
)
@settings(max_examples=30, deadline=None)
def test_any_length_batch_channels_and_targets(
    length: int, batch: int, channels: int, targets: int, kind: type[UNetAudio]
) -> None:
    network = small(kind, num_channels=channels, num_targets=targets)
    with torch.no_grad():
        estimates = network(noise(batch, channels, length))
    axis = (targets,) if targets > 1 else ()
    assert estimates.shape == (batch, *axis, channels, length)
    assert estimates.isfinite().all()


def symmetric(network: UNetAudio) -> UNetAudio:
    """Make every kernel the same forwards and backwards."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                module.weight.add_(module.weight.flip(-1).clone())
    return network


@given(
    kernel=st.sampled_from([(2, 2), (4, 2), (6, 2), (16, 2), (3, 3), (5, 3), (4, 4), (8, 4)]),
    depth=st.integers(1, 4),
    frames=st.integers(1, 4),
    glu=st.booleans(),
    kind=st.sampled_from([UNetAudio, UNetVAEAudio]),
)
@settings(max_examples=30, deadline=None)
def test_estimates_are_not_shifted(
    kernel: tuple[int, int], depth: int, frames: int, glu: bool, kind: type[UNetAudio]
) -> None:
    """A network of symmetric kernels maps reversed audio to the reversed estimate, unless a level shifts it."""
    kernel_size, stride = kernel
    network = symmetric(small(kind, depth=depth, kernel_size=kernel_size, stride=stride, glu=glu)).double()
    audio = noise(1, 1, frames * stride**depth).double()
    forwards, backwards = correction(network, audio), correction(network, audio.flip(-1))
    size = float(forwards.abs().max())
    assert size > 1e-6
    torch.testing.assert_close(backwards.flip(-1), forwards, rtol=0, atol=1e-9 * size)


@pytest.mark.parametrize("sample", [0, 200, 517, 1023])
def test_an_output_sample_depends_most_on_the_input_around_it(sample: int) -> None:
    """The centre of what the U-Net adds at a sample lies within a frame of the second level from it."""
    centres = []
    for seed in range(8):
        network = small(UNetAudio, seed, glu=False)
        audio = noise(1, 1, 1024, seed=seed).requires_grad_()
        (gradient,) = torch.autograd.grad(network(audio)[0, 0, sample], audio)
        gradient[0, 0, sample] -= 1  # the mixture's own share
        energy = gradient[0, 0].square()
        centres.append(float((energy * torch.arange(1024)).sum() / energy.sum()))
    assert sum(centres) / len(centres) == pytest.approx(sample, abs=32)


@given(length=st.integers(1, 700))
@settings(max_examples=20, deadline=None)
def test_padding_changes_nothing(length: int) -> None:
    """Audio of any length gives the beginning of what it gives with the zeros that fill up its last frame.

    So it must be where the network is homogeneous: without gates (biases start at zero) its scale is no matter.
    """
    network = small(UNetAudio, glu=False).double()
    audio = noise(1, 1, length).double()
    filled = nn.functional.pad(audio, (0, -length % 64))
    expected = correction(network, filled)[..., :length]
    torch.testing.assert_close(correction(network, audio), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gain", [1e-3, 0.5, 1000.0])
def test_estimates_follow_the_level(kind: type[UNetAudio], gain: float) -> None:
    network = small(kind, num_targets=2, num_channels=2)
    audio = noise(2, 2, 777)
    with torch.no_grad():
        torch.testing.assert_close(network(audio * gain) / gain, network(audio), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_silence_stays_silent_and_has_finite_gradients(kind: type[UNetAudio]) -> None:
    network = small(kind, num_targets=2).train()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)  # biases too
    silence = torch.zeros(2, 1, 300, requires_grad=True)
    estimates = network(silence)
    assert not estimates.any()
    estimates.abs().sum().backward()
    gradients = [silence.grad, *(parameter.grad for parameter in network.parameters())]
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_network_starts_near_equal_shares_of_the_mixture(kind: type[UNetAudio]) -> None:
    network = small(kind, num_targets=2, num_channels=2, hidden_channels=16)
    audio = noise(1, 2, 4000)
    with torch.no_grad():
        estimates = network(audio)
    share = audio.unsqueeze(1) / 2
    error = (estimates - share).square().mean() / share.square().mean()
    assert 0 < error < 0.25


def test_stereo_balance_is_kept() -> None:
    """The level is that of both channels: what is silent in one channel of the mixture is not amplified there."""
    network = small(UNetAudio, num_channels=2)
    audio = noise(1, 2, 4000)
    audio[:, 1] = 0
    with torch.no_grad():
        left, right = network(audio)[0].square().mean(-1)
    assert right < 0.5 * left


@pytest.mark.parametrize("far", [slice(0, 512), slice(-512, None)])
def test_recurrence_reaches_over_the_whole_signal_and_both_ways(far: slice) -> None:
    audio = noise(1, 1, 4096)
    other = audio.clone()
    other[..., far] *= -1  # at the same level
    centre = slice(1984, 2112)
    for kind in (UNetAudio, UNetRecurrentAudio):
        network = small(kind).double()
        change = correction(network, audio.double()) - correction(network, other.double())
        assert bool(change[..., centre].abs().max() > 1e-12) == (kind is UNetRecurrentAudio)


def vae(**others: Any) -> UNetVAEAudio:
    network = small(UNetVAEAudio, **others)
    assert isinstance(network, UNetVAEAudio)
    return network


def test_latent_is_sampled_in_training_only() -> None:
    network, audio = vae(), noise(1, 1, 512)
    with torch.no_grad():
        assert torch.equal(network(audio), network(audio))
        network.train()
        assert not torch.equal(network(audio), network(audio))


def test_evaluation_uses_the_mean_of_the_latent() -> None:
    """With a vanishing deviation, training gives what evaluation gives."""
    network, audio = vae(latent_channels=4), noise(1, 1, 512)
    with torch.no_grad():
        network.moments.weight[4:] = 0
        network.moments.bias[4:] = -50
        evaluated = network(audio)
        torch.testing.assert_close(network.train()(audio), evaluated)


def test_kl_term_is_the_divergence_of_the_latent() -> None:
    network = vae(latent_channels=4, kl_weight=0.5)
    moments: list[Tensor] = []
    network.moments.register_forward_hook(lambda module, args, output: moments.append(output.detach()))
    network.train()(noise(2, 1, 512))
    mean, spread = moments[0].chunk(2, dim=1)
    expected = kl_divergence(Normal(mean, nn.functional.softplus(spread)), Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(network.loss_terms["kl"].detach(), 0.5 * expected)
    network.loss_terms["kl"].backward()
    assert network.moments.weight.grad is not None
    assert network.moments.weight.grad.abs().sum() > 0


def test_kl_weight_warms_up_and_its_position_is_part_of_the_state() -> None:
    audio = noise(1, 1, 512)

    def share(network: UNetVAEAudio, full: UNetVAEAudio) -> float:
        terms = []
        for each in (network, full):
            each.train()(audio)
            terms.append(float(each.loss_terms["kl"].detach()))
        return terms[0] / terms[1]

    warming, full = vae(kl_warmup_steps=4), vae()
    assert [share(warming, full) for _ in range(3)] == pytest.approx([0.0, 0.25, 0.5])
    resumed = vae(kl_warmup_steps=4)
    resumed.load_state_dict(warming.state_dict())
    with torch.no_grad():
        resumed.eval()(audio)  # evaluation does not count
    assert resumed.loss_terms == {}
    assert [share(resumed, full) for _ in range(3)] == pytest.approx([0.75, 1.0, 1.0])


@pytest.mark.parametrize("kernel_size", [2, 3, 5, 7])
def test_kernel_that_does_not_fit_the_stride_is_refused(kernel_size: int) -> None:
    with pytest.raises(ConfigError, match=rf"kernel_size {kernel_size} minus stride 4"):
        UNetAudio(kernel_size=kernel_size, stride=4)
