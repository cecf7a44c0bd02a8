"""The wrapper that masks magnitudes, through the public class and a real architecture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auralflow_core.errors import AuralflowError, ConfigError, RegistryError
from auralflow_core.losses import MaskLoss
from auralflow_core.model import SeparationModel

ModelMaker = Callable[..., SeparationModel]
BatchMaker = Callable[..., tuple[Tensor, Tensor]]


class Returns(nn.Module):
    """Ones of any shape."""

    def __init__(self, shape: Callable[[Tensor], tuple[int, ...]]) -> None:
        super().__init__()
        self.shape = shape
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, magnitude: Tensor) -> Tensor:
        return self.weight * torch.ones(self.shape(magnitude))


def test_the_example_of_the_documentation_runs_as_written(tmp_path: Path, invoke: Callable[..., Any]) -> None:
    invoke("config", "my_model", "SpectrogramNetSimple", "--save", tmp_path)

    from auralflow.models import SpectrogramMaskModel
    from auralflow.utils import load_config

    config_data = load_config(str(tmp_path / "my_model" / "config.json"))
    mix_audio = torch.rand((1, 88200))
    mask_model = SpectrogramMaskModel(config_data)
    vocals_estimate = mask_model.separate(mix_audio)
    assert vocals_estimate.shape == (1, 1, 88200)
    assert torch.isfinite(vocals_estimate).all()


def test_every_documented_method_works_on_a_real_architecture(model_folder: Path) -> None:
    from auralflow.models import SpectrogramMaskModel

    data = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
    data["dataset"] |= {"targets": ["vocals", "drums"], "num_channels": 2}
    model = SpectrogramMaskModel(data)
    model.folder = model_folder
    mixture = torch.rand(3, 2, 4000) - 0.5
    targets = torch.stack([0.7 * mixture, 0.1 * mixture], dim=1)
    model.train()
    losses = []
    for _ in range(15):
        model.set_data(mixture, targets)
        assert model.forward().shape == (3, 2, 2, 65, 64)
        losses.append(model.compute_loss())
        model.backward()
        model.optimizer_step()
    assert losses[-1] < losses[0]
    model.test()
    model.compute_loss()
    assert model.scheduler_step() is False
    model.save(global_step=15, model=True, optim=True, scheduler=True, grad_scaler=True)
    for part in ("model", "optim", "scheduler", "grad_scaler"):
        getattr(model, f"save_{part}")(16)
        getattr(model, f"load_{part}")(16)
    assert model.separate(mixture[0]).shape == (2, 2, 4000)


@pytest.mark.parametrize("length", [999, 1000, 1])
def test_separated_audio_has_the_mixtures_phase(make_model: ModelMaker, length: int) -> None:
    model = make_model(channels=2, targets=("a", "b"))
    audio = torch.rand(2, length) - 0.5
    mask = model.network.get_parameter("weight").sigmoid().detach()
    expected = model.istft(mask * model.stft(audio), length)
    assert (model.separate(audio) - expected).abs().max() < 1e-6


def test_the_mask_loss_sees_the_mask(make_model: ModelMaker, batch: BatchMaker, toys: dict[str, Any]) -> None:
    model = make_model(toys["identity"](1), MaskLoss(), loss="mask")
    mixture, _ = batch()
    model.set_data(mixture, mixture)
    model.forward()
    assert model.compute_loss() == pytest.approx(0, abs=1e-6)


def test_several_targets_need_their_axis(make_model: ModelMaker, batch: BatchMaker) -> None:
    model = make_model(targets=("a", "b"))
    mixture, target = batch()
    with pytest.raises(AuralflowError, match="2"):
        model.set_data(mixture, target)


@pytest.mark.parametrize(
    "shape",
    [
        lambda x: (x.shape[0], x.shape[1], x.shape[2], x.shape[3]),
        lambda x: (x.shape[0], 3, *x.shape[1:]),
        lambda x: (x.shape[0], *x.shape[1:], 2),
        lambda x: (2, x.shape[0], *x.shape[1:]),
    ],
    ids=["no target axis", "too many targets", "targets last", "targets first"],
)
def test_a_network_of_another_shape_is_refused(
    make_model: ModelMaker, batch: BatchMaker, shape: Callable[[Tensor], tuple[int, ...]]
) -> None:
    model = make_model(Returns(shape), targets=("a", "b"))
    model.set_data(*batch(3, 2))
    with pytest.raises((RegistryError, ConfigError), match="shape"):
        model.forward()
