"""SpectrogramNetVAE: when it samples, what its KL term is and where it goes, and its way through the commands."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from auralflow_core.build import build_model, build_network, default_config
from auralflow_core.cli import main
from auralflow_core.config import Config, validate
from auralflow_core.errors import ConfigError
from auralflow_core.model import SeparationModel
from auralflow_core.testing import ModelConformance
from auralflow_vae.network import GaussianLatent, SpectrogramNetVAE

PLUGIN = Path(__file__).parents[1]
RATE = 8000
STEMS = ("vocals", "drums", "bass", "other")
SMALL = {"hidden_channels": 2, "recurrent_depth": 2, "hidden_size": 8}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def make(**settings: Any) -> SpectrogramNetVAE:
    # Without dropout the latent is all that can be random.
    return SpectrogramNetVAE(65, 70, **{**SMALL, "dropout_p": 0.0, **settings})


def magnitudes(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


class Watch:
    """What went into a network's latent and came out in its last pass."""

    def __init__(self, network: SpectrogramNetVAE) -> None:
        self.latent: GaussianLatent = network.bottleneck.latent
        self.latent.register_forward_hook(self._keep)

    def _keep(self, latent: GaussianLatent, inputs: tuple[Tensor], z: Tensor) -> None:
        self.z = z.detach()
        with torch.no_grad():
            self.mean, self.deviation = latent.distribution(inputs[0])

    def divergence(self) -> Tensor:
        return kl_divergence(Normal(self.mean, self.deviation), Normal(0.0, 1.0)).mean()


class TestConformance(ModelConformance):
    plugin = "auralflow-vae"
    model_type = "SpectrogramNetVAE"
    params = SMALL


class TestConformanceOverFrequencyWithWarmUp(ModelConformance):
    plugin = "auralflow-vae"
    model_type = "SpectrogramNetVAE"
    params: Mapping[str, Any] = {**SMALL, "input_axis": 0, "kl_warmup_steps": 5}


@pytest.mark.slow
def test_documented_example() -> None:
    from auralflow.models import SpectrogramNetVAE

    # initialize network
    spec_net_vae = SpectrogramNetVAE(
        num_fft_bins=1024,
        num_frames=173,
        num_channels=1,
        hidden_channels=16,
        recurrent_depth=2,
        hidden_size=2048,
        input_axis=1,
    )

    # pretend batch of spectrogram data
    mix_spec = torch.rand((8, 1, 1024, 173))

    # estimate source mask
    source_mask = spec_net_vae(mix_spec)

    # isolate source from mixture
    source_estimate = source_mask * mix_spec

    assert source_mask.shape == source_estimate.shape == mix_spec.shape
    assert source_mask.min() >= 0 and source_mask.max() <= 1


def test_readme_example_runs() -> None:
    text = (PLUGIN / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["mask"].shape == (2, 1, 513, 259)
    assert names["kl"] > 0


def test_evaluation_uses_the_mean() -> None:
    network = make().eval()
    watch, x = Watch(network), magnitudes(2, 1, 65, 70)
    with torch.no_grad():
        first = network(x)
        assert torch.equal(watch.z, watch.mean)
        assert torch.equal(first, network(x))


def test_training_samples_the_gaussian() -> None:
    network = make().train()
    watch, x = Watch(network), magnitudes(4, 1, 65, 70)
    noise = []
    for _ in range(30):
        network(x)
        noise.append((watch.z - watch.mean) / watch.deviation)
    drawn = torch.stack(noise)
    assert not torch.equal(drawn[0], drawn[1])
    assert abs(drawn.mean()) < 5 / drawn.numel() ** 0.5
    assert abs(drawn.square().mean() - 1) < 5 * (2 / drawn.numel()) ** 0.5


def test_training_follows_the_global_seed() -> None:
    x, masks = magnitudes(2, 1, 65, 70), []
    network = make().train()
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(network(x).detach())
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_term_is_the_weighted_divergence_of_the_latent() -> None:
    network = make(kl_weight=0.3).train()
    watch = Watch(network)
    network(magnitudes(3, 1, 65, 70))
    assert network.loss_terms.keys() == set(network.loss_term_names) == {"kl"}
    torch.testing.assert_close(network.loss_terms["kl"].detach(), 0.3 * watch.divergence())


def test_there_is_no_term_in_evaluation() -> None:
    network, x = make(), magnitudes(2, 1, 65, 70)
    assert network.loss_terms == {}
    network.train()(x)
    assert network.loss_terms
    network.eval()(x)
    assert network.loss_terms == {}


@settings(max_examples=50, deadline=None)
@given(scale=st.floats(0, 1e4), offset=st.floats(-1e4, 1e4))
def test_term_and_gradients_stay_finite(scale: float, offset: float) -> None:
    latent = GaussianLatent(2, kl_weight=1.0, kl_warmup_steps=0).train()
    x = (scale * torch.randn(1, 2, 3, 4) + offset).requires_grad_()
    latent(x).sum().backward(retain_graph=True)
    assert latent.loss_term is not None and latent.loss_term.isfinite() and latent.loss_term >= 0
    latent.loss_term.backward()
    assert x.grad is not None and x.grad.isfinite().all()


def weights_of_passes(network: SpectrogramNetVAE, passes: int) -> list[float]:
    """Return the weight of the divergence in each of some training passes."""
    watch, x, weights = Watch(network), magnitudes(2, 1, 65, 70), []
    for _ in range(passes):
        network.train()(x)
        weights.append(float(network.loss_terms["kl"].detach() / watch.divergence()))
        network.eval()(x)  # validation in between does not count
    return weights


def test_warm_up_rises_linearly_to_the_weight() -> None:
    found = weights_of_passes(make(kl_weight=0.8, kl_warmup_steps=4), 7)
    assert found == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_without_warm_up_the_weight_is_full_from_the_start() -> None:
    assert weights_of_passes(make(kl_weight=0.8), 2) == pytest.approx([0.8, 0.8])


def test_warm_up_goes_on_after_loading() -> None:
    before, after = (make(kl_weight=0.8, kl_warmup_steps=4) for _ in range(2))
    weights_of_passes(before, 2)
    after.load_state_dict(before.state_dict())
    assert weights_of_passes(after, 3) == pytest.approx([0.4, 0.6, 0.8])


def test_network_can_be_copied_after_a_training_pass() -> None:
    network, x = make().train(), magnitudes(2, 1, 65, 70)
    network(x)
    twin = copy.deepcopy(network)
    assert torch.equal(twin.eval()(x), network.eval()(x))


def model_of(type_: str = "SpectrogramNetVAE", criterion: str = "l1", **params: Any) -> SeparationModel:
    data = {"sample_rate": RATE, "sample_length": 0.25, "num_fft": 128, "window_size": 128, "hop_length": 64}
    model = {"type": type_, "name": "model", "params": {**SMALL, **params}}
    training = {"device": "cpu", "criterion": criterion, "lr": 0.01}
    return build_model(validate(Config, {"model": model, "dataset": data, "training": training}))


def batch() -> tuple[Tensor, Tensor]:
    target = 0.2 * torch.randn(2, 1, 1, 2000)
    return target[:, 0] + 0.2 * torch.randn(2, 1, 2000), target


def step(model: SeparationModel, data: tuple[Tensor, Tensor]) -> float:
    model.train()
    model.set_data(*data)
    model.forward()
    loss = model.compute_loss()
    model.backward()
    model.optimizer_step()
    return loss


@pytest.mark.parametrize("kl_weight", [0.0, 2.0])
def test_term_reaches_the_loss_in_training_only(kl_weight: float) -> None:
    model, data = model_of(kl_weight=kl_weight), batch()
    loss = step(model, data)
    assert model.criterion is not None and model.prediction is not None
    term = float(model.prediction.terms["kl"].detach())
    assert (term > 0) == (kl_weight > 0)
    assert loss == pytest.approx(float(model.criterion(model.prediction).detach()) + term)
    model.test()
    assert model.compute_loss() == pytest.approx(float(model.criterion(model.prediction).detach()))


def test_the_weight_pulls_the_latent_towards_the_normal_distribution() -> None:
    divergences = {}
    for kl_weight in (0.0, 10.0):
        model, data = model_of(kl_weight=kl_weight), batch()
        assert isinstance(model.network, SpectrogramNetVAE)
        watch = Watch(model.network)
        for _ in range(15):
            step(model, data)
        divergences[kl_weight] = float(watch.divergence())
    assert divergences[10.0] < 0.5 * divergences[0.0]


def test_criterion_kl_div_is_l1_with_the_term() -> None:
    losses = []
    for criterion in ("l1", "kl_div"):
        torch.manual_seed(0)
        losses.append(step(model_of(criterion=criterion), batch()))
    assert losses[0] == losses[1]
    with pytest.raises(ConfigError, match=r"kl_div.*needs a network with a loss term 'kl'"):
        model_of("SpectrogramNetLSTM", criterion="kl_div")


@pytest.mark.parametrize("wrong", [{"kl_weight": -0.1}, {"kl_warmup_steps": -1}])
def test_negative_settings_are_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"{name}.*is below 0"):
        make(**wrong)
    with pytest.raises(ConfigError, match=f"model.params.{name}"):
        model_of(**wrong)


@pytest.mark.parametrize("params", [{}, {"recurrent_depth": 2, "hidden_size": 256}])
def test_readme_states_the_parameter_count(params: dict[str, int]) -> None:
    config = default_config("UNetVAESpec", "model")
    model = config.model.model_copy(update={"params": params})
    with torch.device("meta"):
        network = build_network(config.model_copy(update={"model": model}))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert f"{count / 1e6:.1f} million" in (PLUGIN / "README.md").read_text(encoding="utf-8")


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_list_models_shows_the_alias() -> None:
    listed = {entry["type"]: entry for entry in json.loads(run("list-models", "--json"))["models"]}
    assert "UNetVAESpec" in listed["SpectrogramNetVAE"]["aliases"]


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("songs")
    generator = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        folder = root / "train" / name
        folder.mkdir(parents=True)
        stems = generator.uniform(-0.2, 0.2, (4, RATE))
        for stem, audio in zip((*STEMS, "mixture"), (*stems, stems.sum(0)), strict=True):
            soundfile.write(folder / f"{stem}.wav", audio, RATE)
    return root


def test_train_resume_and_separate(songs: Path, tmp_path: Path) -> None:
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    for folder in (stopped, whole):
        configure(folder)
    run("train", stopped, songs, "--quiet")
    run("train", stopped, songs, "--resume", "--max_epochs", 2, "--quiet")
    run("train", whole, songs, "--max_epochs", 2, "--quiet")
    weights = [load_file(latest(folder) / "model.safetensors") for folder in (stopped, whole)]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])

    run("separate", whole, songs / "train" / "a" / "mixture.wav", "--save", tmp_path / "out", "--quiet")
    (stem,) = (tmp_path / "out").rglob("*.wav")
    audio, rate = soundfile.read(stem)
    assert (stem.stem, audio.shape, rate) == ("vocals", (RATE,), RATE)
    assert np.abs(audio).max() > 0


def configure(folder: Path) -> None:
    data = {"sample_rate": RATE, "sample_length": 0.25, "num_fft": 128, "window_size": 128, "hop_length": 64}
    others = {"max_epochs": 1, "device": "cpu", "save_images": "false", "save_audio": "false", "tensorboard": "false"}
    chosen = {**SMALL, "kl_warmup_steps": 3, "criterion": "kl_div", **data, **others}
    options = [word for name, value in chosen.items() for word in (f"--{name}", value)]
    run("config", folder.name, "SpectrogramNetVAE", "--save", folder.parent, *options)


def latest(folder: Path) -> Path:
    """Return the folder of the last checkpoint."""
    return max(path.parent for path in (folder / "checkpoint").glob("step-*/model.safetensors"))
