"""Each formula against the same formula in numpy, and what it does with silence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from auralflow_core.errors import ConfigError
from auralflow_core.losses import (
    ComponentLoss,
    Criterion,
    KLDivergenceLoss,
    L1Loss,
    L2Loss,
    MaskLoss,
    RMSELoss,
    SISDRLoss,
    kl_to_normal,
    si_sdr,
)

Array = NDArray[np.float64]


@dataclass
class Fake:
    """A prediction whose parts are given, not computed."""

    mask: Tensor
    mixture_magnitude: Tensor
    target_magnitude: Tensor
    estimate_audio: Tensor
    target_audio: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)

    @property
    def estimate_magnitude(self) -> Tensor:
        return self.mask * self.mixture_magnitude


def fake(seed: int = 0, batch: int = 2, targets: int = 3, channels: int = 2, gain: float = 1.0) -> Fake:
    """Random parts; masks require gradients."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    target = gain * draw(batch, targets, channels, 5, 4)
    rest = gain * draw(batch, 1, channels, 5, 4)
    return Fake(
        draw(batch, targets, channels, 5, 4).requires_grad_(),
        target.sum(1, keepdim=True) + rest,
        target,
        (draw(batch, targets, channels, 50) - 0.5).requires_grad_(),
        draw(batch, targets, channels, 50) - 0.5,
    )


def silent(part: str) -> Fake:
    """Random parts, of which the mixture or the targets are silent."""
    found = fake()
    if part == "mixture":
        found.mixture_magnitude = torch.zeros_like(found.mixture_magnitude)
    found.target_magnitude = torch.zeros_like(found.target_magnitude)
    found.target_audio = torch.zeros_like(found.target_audio)
    return found


def component(m: Array, x: Array, y: Array, alpha: float, beta: float) -> float:
    """Written item by item, target by target and channel by channel."""
    batch, targets, channels = y.shape[:3]
    distortion, level, shape = [], [], []
    for b in range(batch):
        for t in range(targets):
            for c in range(channels):
                mask, target = m[b, t, c], y[b, t, c]
                residual = x[b, 0, c] - target
                distortion.append(np.mean((mask * target - target) ** 2))
                level.append(np.mean((mask * residual) ** 2))
                passed = mask * residual
                difference = passed / np.linalg.norm(passed) - residual / np.linalg.norm(residual)
                shape.append(np.sum(difference**2))
    means = [float(np.mean(part)) for part in (distortion, level, shape)]
    return (1 - alpha - beta) * means[0] + alpha * means[1] + beta * means[2]


FORMULAS: dict[str, tuple[Callable[[], Criterion], Callable[[Array, Array, Array], float]]] = {
    "l1": (L1Loss, lambda m, x, y: float(np.mean(np.abs(m * x - y)))),
    "l2": (L2Loss, lambda m, x, y: float(np.mean((m * x - y) ** 2))),
    "rmse": (RMSELoss, lambda m, x, y: float(np.sqrt(np.mean((m * x - y) ** 2)))),
    "mask": (MaskLoss, lambda m, x, y: float(np.mean(np.abs(m - np.clip(y / x, 0, 1))))),
    "component": (ComponentLoss, lambda m, x, y: component(m, x, y, 0.2, 0.2)),
    "component, level": (lambda: ComponentLoss(0.9, 0.0), lambda m, x, y: component(m, x, y, 0.9, 0.0)),
    "component, shape": (lambda: ComponentLoss(0.0, 0.9), lambda m, x, y: component(m, x, y, 0.0, 0.9)),
    "component, target": (lambda: ComponentLoss(0.0, 0.0), lambda m, x, y: component(m, x, y, 0.0, 0.0)),
    "kl_div": (KLDivergenceLoss, lambda m, x, y: float(np.mean(np.abs(m * x - y)))),
}
CRITERIA: dict[str, Callable[[], Criterion]] = {name: make for name, (make, _) in FORMULAS.items()}
CRITERIA["si_sdr"] = SISDRLoss


def gradient(prediction: Fake) -> Tensor:
    found = prediction.mask.grad if prediction.mask.grad is not None else prediction.estimate_audio.grad
    assert found is not None
    return found


class TestFormulas:
    @pytest.mark.parametrize("name", FORMULAS)
    @pytest.mark.parametrize(("batch", "targets", "channels"), [(1, 1, 1), (2, 1, 2), (3, 4, 2)])
    def test_equals_numpy(self, name: str, batch: int, targets: int, channels: int) -> None:
        make, formula = FORMULAS[name]
        parts = fake(1, batch, targets, channels)
        expected = formula(*(x.detach().numpy() for x in (parts.mask, parts.mixture_magnitude, parts.target_magnitude)))
        loss = make()(parts)
        assert loss.shape == ()
        assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("name", ["l1", "l2", "mask", "component"])
    def test_a_perfect_mask_costs_nothing(self, name: str) -> None:
        parts = fake()
        parts.target_magnitude = parts.mixture_magnitude * torch.ones_like(parts.target_magnitude)
        parts.mask = torch.ones_like(parts.mask)
        assert float(CRITERIA[name]()(parts)) == pytest.approx(0, abs=1e-9)

    def test_the_ideal_mask_is_cut_at_one(self) -> None:
        parts = fake(targets=1)
        parts.target_magnitude = 5 * parts.mixture_magnitude
        parts.mask = torch.ones_like(parts.mask)
        assert float(MaskLoss()(parts)) == 0


class TestSilenceAndGradients:
    @pytest.mark.parametrize("name", CRITERIA)
    @pytest.mark.parametrize("part", ["mixture", "targets", "nothing", "nearly nothing"])
    def test_value_and_gradient_stay_finite(self, name: str, part: str) -> None:
        parts = {"nothing": fake(), "nearly nothing": fake(gain=1e-7)}.get(part) or silent(part)
        loss = CRITERIA[name]()(parts)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient(parts)).all()

    @pytest.mark.parametrize("name", CRITERIA)
    def test_the_gradient_points_downhill(self, name: str) -> None:
        parts = fake(3)
        before = CRITERIA[name]()(parts)
        before.backward()
        moved = fake(3)
        for own, other in ((parts.mask, moved.mask), (parts.estimate_audio, moved.estimate_audio)):
            if own.grad is not None:
                other.data -= 1e-3 * own.grad / own.grad.norm()
        assert float(CRITERIA[name]()(moved).detach()) < float(before.detach())

    def test_mask_loss_of_a_silent_mixture_asks_for_silence(self) -> None:
        parts = silent("mixture")
        assert float(MaskLoss()(parts).detach()) == pytest.approx(float(parts.mask.detach().mean()))

    def test_estimate_that_hits_the_target_has_a_finite_gradient(self) -> None:
        parts = fake()
        parts.estimate_audio = parts.target_audio.clone().requires_grad_()
        SISDRLoss()(parts).backward()
        assert torch.isfinite(gradient(parts)).all()


class TestComponentWeights:
    @pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (1.0, 0.0), (0.0, 1.0), (0.9, 0.9)])
    def test_weights_that_leave_the_target_nothing_are_refused(self, alpha: float, beta: float) -> None:
        with pytest.raises(ConfigError, match=f"alpha_constant {alpha:g} .*beta_constant {beta:g} is not below 1"):
            ComponentLoss(alpha, beta)

    def test_every_part_counts_by_default(self) -> None:
        default = float(ComponentLoss()(fake()).detach())
        parts = [float(ComponentLoss(*weights)(fake()).detach()) for weights in ((0.0, 0.0), (0.2, 0.0), (0.0, 0.2))]
        assert default == pytest.approx(parts[1] + parts[2] - parts[0])
        assert len({default, *parts}) == 4

    def test_a_quiet_channel_does_not_borrow_the_norm_of_a_loud_one(self) -> None:
        loud, even = fake(4), fake(4)
        for parts in (loud.mixture_magnitude, loud.target_magnitude):
            parts[:, :, 0] *= 1000
        found = [float(ComponentLoss(0.0, 1 - 1e-9)(parts).detach()) for parts in (loud, even)]
        assert found[0] == pytest.approx(found[1], rel=1e-2)


def reference_si_sdr(estimate: Array, target: Array) -> float:
    """Le Roux et al. 2019, by orthogonal projection with least squares."""
    scale = np.linalg.lstsq(target[:, None], estimate, rcond=None)[0]
    projection = target * scale
    return float(10 * np.log10(np.sum(projection**2) / np.sum((estimate - projection) ** 2)))


class TestSISDR:
    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 2**31), length=st.integers(8, 200), share=st.floats(0.3, 0.95))
    def test_equals_the_projection(self, seed: int, length: int, share: float) -> None:
        rng = np.random.default_rng(seed)
        target = rng.uniform(-1, 1, (2, 3, length))
        # A bounded angle: nearer to a right one, the constant against silence is most of what is left.
        estimate = share * target + (1 - share) * 0.3 * rng.uniform(-1, 1, target.shape)
        found = si_sdr(torch.from_numpy(estimate), torch.from_numpy(target))
        assert found.shape == (2, 3)
        for place in np.ndindex(2, 3):
            expected = reference_si_sdr(estimate[place], target[place])
            assert float(found[place]) == pytest.approx(expected, abs=1e-3)

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 2**31), gain=st.floats(0.5, 20), sign=st.sampled_from([-1, 1]))
    def test_the_estimates_level_does_not_matter(self, seed: int, gain: float, sign: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        estimate, target = (torch.rand(2, 400, generator=generator, dtype=torch.float64) - 0.5 for _ in range(2))
        estimate = estimate + target
        assert torch.allclose(si_sdr(sign * gain * estimate, target), si_sdr(estimate, target), atol=1e-3)
        assert torch.allclose(si_sdr(estimate, gain * target), si_sdr(estimate, target), atol=1e-3)

    def test_the_gradient_does_not_pull_at_the_level(self) -> None:
        estimate, target = torch.rand(2, 100, dtype=torch.float64).requires_grad_(), torch.rand(2, 100).double()
        torch.autograd.backward(si_sdr(estimate, target).sum())
        assert estimate.grad is not None
        # Along the estimate itself nothing changes: the gradient is orthogonal to it.
        assert (estimate.grad * estimate.detach()).sum(-1).abs().max() < 1e-4

    def test_loss_is_the_negative_mean_over_items_targets_and_channels(self) -> None:
        parts = fake()
        expected = np.mean(
            [
                reference_si_sdr(parts.estimate_audio[place].detach().numpy(), parts.target_audio[place].numpy())
                for place in np.ndindex(2, 3, 2)
            ]
        )
        assert float(SISDRLoss()(parts).detach()) == pytest.approx(-expected, abs=1e-3)

    def test_a_quiet_song_scores_like_a_loud_one(self) -> None:
        # One second at -60 dB: the constant against silence must not weigh in.
        generator = torch.Generator().manual_seed(0)
        target = torch.rand(44100, generator=generator) - 0.5
        estimate = target + 0.1 * (torch.rand(44100, generator=generator) - 0.5)
        assert float(si_sdr(1e-3 * estimate, 1e-3 * target)) == pytest.approx(float(si_sdr(estimate, target)), abs=0.5)


class TestKL:
    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 2**31), spread=st.floats(1e-2, 5))
    def test_equals_torch_distributions(self, seed: int, spread: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        mean = torch.randn(3, 4, generator=generator, dtype=torch.float64)
        deviation = spread * (torch.rand(3, 4, generator=generator, dtype=torch.float64) + 0.1)
        expected = torch.distributions.kl_divergence(
            torch.distributions.Normal(mean, deviation), torch.distributions.Normal(0.0, 1.0)
        ).mean()
        assert float(kl_to_normal(mean, deviation)) == pytest.approx(float(expected), rel=1e-6, abs=1e-9)

    def test_the_normal_itself_costs_nothing(self) -> None:
        assert float(kl_to_normal(torch.zeros(5), torch.ones(5))) == 0

    def test_a_deviation_of_zero_stays_finite(self) -> None:
        deviation = torch.zeros(5, requires_grad=True)
        value = kl_to_normal(torch.zeros(5), deviation)
        torch.autograd.backward(value)
        assert deviation.grad is not None
        assert torch.isfinite(value) and torch.isfinite(deviation.grad).all()
