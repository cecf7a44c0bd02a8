"""Settings of speed and memory of the forward pass: what they change, and what they must not change."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from auralflow_core.build import build_model, default_config
from auralflow_core.config import Config, validate
from auralflow_core.errors import ConfigError
from auralflow_core.losses import L1Loss
from auralflow_core.model import SeparationModel, SpectrogramMaskModel
from auralflow_core.model.forward import recomputed

ModelMaker = Callable[..., SeparationModel]

SIZES = {"num_fft": 128, "window_size": 128, "hop_length": 64, "sample_rate": 8000, "sample_length": 0.5}
SMALL: dict[str, dict[str, Any]] = {
    "SpectrogramNetSimple": {"hidden_channels": 2, "dropout_p": 0.5},
    "SpectrogramNetLSTM": {"hidden_channels": 2, "hidden_size": 16},
    "SpectrogramNetVAE": {"hidden_channels": 2, "hidden_size": 16, "kl_warmup_steps": 10},
    "Conformer": {"n_layers": 3, "d_model": 32, "n_heads": 2, "feat_in": 65},
    "OpenUnmix": {},
    "Demucs": {},
}


class Stack(nn.Module):
    """Layers with batch norm, dropout and a counter that takes part in the output."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(1 if number == 0 else 8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SELU(), Counted())
            for number in range(3)
        )
        self.last = nn.Conv2d(8, 1, 1)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, magnitude: Tensor) -> Tensor:
        x = magnitude
        for layer in self.layers:
            x = layer(x)
        mask: Tensor = self.activation(self.last(x))
        return mask


class Counted(nn.Module):
    """Dropout, and a factor that changes with each pass."""

    passes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.dropout(x, 0.3) * self.passes.clone()
        self.passes += 1
        return y


class Shell(nn.Module):
    """A network around another one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Stack()

    def forward(self, magnitude: Tensor) -> Tensor:
        mask: Tensor = self.inner(magnitude)
        return mask


class Named(Shell):
    """A network that says itself what its blocks are."""

    @property
    def checkpoint_blocks(self) -> list[nn.Module]:
        return list(self.inner.layers[:2])


def one_pass(model: SeparationModel, batch: tuple[Tensor, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Return the gradients, the buffers, and the bytes that the forward pass kept for the backward pass."""
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(3)
    model.train()
    model.set_data(*batch)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        model.forward()
    model.compute_loss()
    model.backward()
    gradients = {name: parameter.grad for name, parameter in model.network.named_parameters()}
    return (
        {name: gradient.clone() for name, gradient in gradients.items() if gradient is not None},
        {name: buffer.clone() for name, buffer in model.network.named_buffers()},
        sum(saved.values()),
    )


def checked(
    plain: tuple[dict[str, Tensor], dict[str, Tensor], int], other: tuple[dict[str, Tensor], dict[str, Tensor], int]
) -> None:
    """Check that gradients and buffers are those of the plain pass, and that less was kept."""
    for ours, theirs in zip(other[:2], plain[:2], strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-7, msg=name)
    assert other[2] < 0.7 * plain[2]


class TestGradientCheckpointing:
    @pytest.mark.parametrize("make_network", [Stack, Shell, Named])
    def test_same_gradients_and_buffers_with_less_memory(
        self, make_network: type[nn.Module], make_model: ModelMaker, batch: Callable[..., Any]
    ) -> None:
        data = batch(items=4, length=4000)
        found = [one_pass(make_model(make_network(), gradient_checkpointing=is_on), data) for is_on in (False, True)]
        checked(*found)
        assert found[0][0]["last.weight" if make_network is Stack else "inner.last.weight"].abs().sum() > 0

    @pytest.mark.parametrize("type_", ["SpectrogramNetSimple", "SpectrogramNetLSTM", "SpectrogramNetVAE", "Conformer"])
    def test_every_network(self, type_: str) -> None:
        found = []
        for is_on in (False, True):
            config = default_config(type_, "m").model_dump()
            config["model"]["params"] |= SMALL[type_]
            config["dataset"] |= SIZES
            config["training"] |= {"gradient_checkpointing": is_on, "device": "cpu"}
            model = build_model(validate(Config, config))
            targets = 0.1 * torch.randn(2, 1, 1, 4000, generator=torch.Generator().manual_seed(0))
            found.append(one_pass(model, (targets.sum(1), targets)))
        checked(*found)

    def test_network_is_left_as_it_was(self, make_model: ModelMaker, batch: Callable[..., Any]) -> None:
        model = make_model(Stack(), gradient_checkpointing=True)
        names = list(model.network.state_dict())
        one_pass(model, batch())
        assert list(model.network.state_dict()) == names
        assert not any("forward" in vars(module) for module in model.network.modules())

    def test_evaluation_runs_plainly(self, make_model: ModelMaker, batch: Callable[..., Any]) -> None:
        class Nosy(Stack):
            def forward(self, magnitude: Tensor) -> Tensor:
                self.patched = "forward" in vars(self.layers[0])
                return super().forward(magnitude)

        network = Nosy()
        model = make_model(network, gradient_checkpointing=True)
        model.set_data(*batch())
        model.train()
        model.forward()
        assert network.patched
        model.test()
        assert not network.patched

    def test_failing_pass_leaves_nothing_behind(self) -> None:
        network = Stack()
        with pytest.raises(ZeroDivisionError), recomputed(network):
            raise ZeroDivisionError
        assert "forward" not in vars(network.layers[0])


class Compiled(nn.Module):
    """Knows whether its last pass was compiled."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(1, 1, 3, padding=1)
        self.is_compiled = False

    def forward(self, magnitude: Tensor) -> Tensor:
        self.is_compiled = torch.compiler.is_compiling()
        mask: Tensor = self.layer(magnitude).sigmoid()
        return mask


class TestCompile:
    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
    def test_training_passes_alone_are_compiled(
        self, make_model: ModelMaker, batch: Callable[..., Any], tmp_path: Any
    ) -> None:
        torch._dynamo.reset()
        data, results = batch(length=320), []
        for is_on in (False, True):
            network = Compiled()
            model = make_model(network, compile=is_on)
            for step in range(3):
                model.train()
                model.set_data(*data)
                model.forward()
                assert network.is_compiled is is_on, step
                model.compute_loss()
                model.backward()
                model.optimizer_step()
            model.test()
            assert not network.is_compiled
            results.append(model)
        plain, compiled = results
        weights = compiled.network.state_dict()
        assert list(weights) == ["layer.weight", "layer.bias"]
        torch.testing.assert_close(weights, plain.network.state_dict(), rtol=1e-4, atol=1e-6)
        compiled.save(3)
        plain.load(3)
        torch.testing.assert_close(plain.network.state_dict(), weights, rtol=0, atol=0)

    def test_without_a_compiler(self, make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CXX", raising=False)
        with pytest.raises(ConfigError, match=r"training.compile: .* C\+\+ compiler.*set compile to false"):
            make_model(Compiled(), compile=True).forward_pass.check()
        make_model(Compiled()).forward_pass.check()

    def test_not_with_gradient_checkpointing(self, make_model: ModelMaker) -> None:
        with pytest.raises(ConfigError, match=r"gradient_checkpointing; switch one off"):
            make_model(Compiled(), compile=True, gradient_checkpointing=True)


class Layout(nn.Module):
    """Knows the layout of what it was given and of its weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 2, 3, padding=1)
        self.are_last: list[bool] = []

    def forward(self, magnitude: Tensor) -> Tensor:
        hidden = self.first(magnitude)
        tensors = (magnitude, self.first.weight, hidden)
        self.are_last = [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in tensors]
        mask: Tensor = self.last(hidden.relu()).sigmoid()
        return mask


class TestChannelsLast:
    def test_layout_and_values(self, batch: Callable[..., Any], make_model: ModelMaker) -> None:
        data, steps = batch(channels=2), []
        for is_on in (False, True):
            network = Layout()
            model = make_model(network, channels=2, channels_last=is_on)
            steps.append(one_pass(model, data))
            assert network.are_last == [is_on] * 3
        torch.testing.assert_close(steps[1][0], steps[0][0], rtol=1e-4, atol=1e-7)

    def test_checkpoint_is_plain(self, make_model: ModelMaker, batch: Callable[..., Any]) -> None:
        model = make_model(Layout(), channels=2, channels_last=True)
        one_pass(model, batch(channels=2))
        model.optimizer_step()
        model.save(1)
        plain = make_model(Layout(), channels=2)
        plain.load(1)
        for name, tensor in plain.network.state_dict().items():
            assert torch.equal(tensor, model.network.state_dict()[name])
            assert tensor.is_contiguous()


def test_everything_is_computed_where_the_model_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transform, the network and the losses run on the model's device: on `meta` here, which takes no other."""
    config = default_config("SpectrogramNetSimple", "m").model_dump()
    config["dataset"] |= SIZES
    config["model"]["params"] |= SMALL["SpectrogramNetSimple"]
    model = build_model(validate(Config, config))
    assert isinstance(model, SpectrogramMaskModel)
    model.device = torch.device("meta")

    def inverse(spectrogram: Tensor, _fft: int, _hop: int, _window: int, window: Tensor, **options: Any) -> Tensor:
        assert window.device.type == spectrogram.device.type == "meta"
        return torch.zeros(len(spectrogram), options["length"], device="meta")

    monkeypatch.setattr(model, "autocast", nullcontext)  # torch has neither for `meta`
    monkeypatch.setattr(torch, "istft", inverse)
    for module in (model.network, model.stft, model.istft):
        module.to("meta")
    targets = torch.zeros(2, 1, 1, 4000)
    model.set_data(targets.sum(1), targets)
    assert model.forward().device.type == "meta"
    assert model.prediction is not None
    assert model.prediction.estimate_audio.device.type == "meta"
    assert L1Loss()(model.prediction).device.type == "meta"
