"""The model under test: how the checks build it and drive it through its wrapper."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from auralflow_core.build import build_model
from auralflow_core.config import Config, validate
from auralflow_core.entries import ModelEntry
from auralflow_core.model import SeparationModel
from auralflow_core.registry import Registry
from auralflow_core.testing.plugin import plugin_registry
from auralflow_core.testing.verdict import check, explained

# Small, so that a check takes a moment: chunks of 2048 samples, 33 frames of 65 bins.
_WINDOW = 128
_SAMPLE_RATE = 8000
_CHUNK = 2048
_TARGETS = ("vocals", "drums", "bass")


class Subject:
    """What a plugin's author states, and what the checks share.

    Attributes:
        plugin: The installed distribution, or the module that implements the hooks.
        model_type: The registered type.
        params: `model.params` for the checks; choose small sizes, so that they are quick.
        config: Settings in the groups of `config.json` that the checks must keep, where an architecture cannot do
            without them: `{"dataset": {"num_fft": 512, "window_size": 512}}`.
        tolerance: Largest error, relative to the largest sample, between results that must agree.
    """

    plugin: ClassVar[str] = ""
    model_type: ClassVar[str] = ""
    params: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    config: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    tolerance: ClassVar[float] = 1e-4

    def registry(self) -> Registry:
        """Return a registry of the core and the plugin."""
        check(
            bool(self.plugin and self.model_type),
            f"{type(self).__name__} names no plugin or no model_type",
            'write `plugin = "auralflow_gain"` and `model_type = "Gain"` in the class',
        )
        registry = plugin_registry(self.plugin)
        reasons = "; ".join(failure.reason for failure in registry.failures)
        check(
            not registry.failures,
            f"plugin {self.plugin} does not load: {reasons}",
            "see to it that it is installed (`pip install -e .`) and that its hooks run without an error",
        )
        return registry

    def entry(self) -> ModelEntry:
        """Return what the plugin registered."""
        registry = self.registry()
        with explained(
            f"plugin {self.plugin} does not register {self.model_type!r}",
            "call register(...) with that type in the hook register_models, decorated with @hookimpl",
        ):
            return registry.models.get(self.model_type)

    def settings(
        self, *, num_targets: int = 1, num_channels: int = 1, params: Mapping[str, Any] | None = None, **training: Any
    ) -> Config:
        """Return a small configuration."""
        base = {
            "model": {
                "type": self.model_type,
                "name": "conformance",
                "params": dict(self.params if params is None else params),
            },
            "dataset": {
                "sample_rate": _SAMPLE_RATE,
                "sample_length": _CHUNK / _SAMPLE_RATE,
                "num_fft": _WINDOW,
                "window_size": _WINDOW,
                "hop_length": _WINDOW // 2,
            },
            "training": {"device": "cpu", "batch_size": 2, "lr": 1e-2},
        }
        varied = {
            "dataset": {"targets": list(_TARGETS[:num_targets]), "num_channels": num_channels},
            "training": training,
        }
        return validate(Config, _merged(base, self.config, varied))

    def build(self, config: Config | None = None, *, folder: Path | None = None, **varied: Any) -> SeparationModel:
        """Return an untrained model; `varied` are the arguments of `settings`."""
        self.entry()
        with explained(
            f"{self.model_type} cannot be built with {varied or 'params and config of the test'}",
            "the network takes its params, num_fft_bins, num_frames, num_channels, num_targets and sample_rate by "
            "keyword, and must accept 1 or 2 channels and any number of targets",
        ):
            config = config or self.settings(**varied)
            return build_model(config, folder=folder, registry=self.registry())

    def evaluation_model(self, **varied: Any) -> SeparationModel:
        """Return an untrained model in evaluation mode."""
        model = self.build(**varied)
        model.eval()
        return model


def separate(model: SeparationModel, audio: Tensor) -> Tensor:
    """Return `model.separate(audio)`, or fail with the shape that it cannot take."""
    with explained(
        f"the network cannot separate audio of shape {tuple(audio.shape)}",
        "its output must have the input's length for any length and any batch size; pad or crop inside the network",
    ):
        return model.separate(audio)


def train_step(
    model: SeparationModel,
    mixture: Tensor,
    target: Tensor,
    remedy: str = "the error's traceback says where in the network",
) -> float:
    """Take one training step; return the loss before it."""
    with explained(f"a training step on a mixture of shape {tuple(mixture.shape)} fails", remedy):
        model.train()
        model.set_data(mixture, target)
        model.forward()
        loss = model.compute_loss()
        model.backward()
        model.optimizer_step()
    return loss


def audio_gradient(model: SeparationModel, mixture: Tensor, weights: Tensor) -> Tensor:
    """Return the gradient by the mixture of the estimates' sum, weighted; zero where nothing depends on it."""
    mixture = mixture.clone().requires_grad_()
    with explained("the estimates cannot be differentiated", "the network must be made of differentiable operations"):
        total = (model.predict(mixture).estimate_audio * weights).sum()
        (gradient,) = torch.autograd.grad(total, mixture, allow_unused=True)
    return torch.zeros_like(mixture) if gradient is None else gradient


def network_input(model: SeparationModel, mixture: Tensor) -> Tensor:
    """Return what the wrapper gives the network for a mixture: `(batch, channel, ..., time or frame)`."""
    caught: list[Tensor] = []
    handle = model.network.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].detach().clone()))
    try:
        with torch.no_grad():
            model.predict(mixture)
    finally:
        handle.remove()
    return caught[0].clone()


def noise(*shape: int, seed: int = 0, level: float = 0.2) -> Tensor:
    """Return white noise."""
    return level * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def training_pair(batch: int, model: SeparationModel, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return a mixture `(batch, channel, time)` and targets `(batch, target, channel, time)`.

    The targets are short tones, each target at a pitch of its own, under louder noise: there is something to learn
    for a network that tells frequencies apart, for one that follows time, and for one that only sets a level.
    """
    data = model.config.dataset
    time = torch.arange(data.chunk_frames) / data.sample_rate
    pitches = data.sample_rate / 16 * torch.arange(1, len(model.targets) + 1)
    beats = (torch.arange(data.chunk_frames) * 8 // data.chunk_frames) % 2
    tones = 0.2 * beats * torch.sin(2 * torch.pi * pitches[:, None] * time)
    targets = tones[None, :, None].expand(batch, -1, data.num_channels, -1).contiguous()
    rest = noise(batch, data.num_channels, data.chunk_frames, seed=seed)
    return targets.sum(1) + rest, targets


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest expected value; infinite where shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    scale = expected.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    return float(((actual - expected).abs().max() / scale).nan_to_num(float("inf")))


def named_state(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of all parameters and buffers."""
    return {name: value.detach().clone() for name, value in [*network.named_parameters(), *network.named_buffers()]}


@contextmanager
def random_state(seed: int) -> Iterator[None]:
    """Seed every global generator for the body, then set it back."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


@contextmanager
def warnings_caught() -> Iterator[list[warnings.WarningMessage]]:
    """Collect the body's warnings, whatever the test runner does with them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def _merged(*groups: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for mapping in groups:
        for key, value in mapping.items():
            inner = result.get(key)
            # The author's params go by `params`; groups are merged one level deep.
            result[key] = {**inner, **value} if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return result
