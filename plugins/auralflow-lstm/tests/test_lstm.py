"""SpectrogramNetLSTM: the axis of its recurrence against references, any size, and its way through the commands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
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
from torch import Tensor, nn

from auralflow_core.build import build_model, build_network, default_config
from auralflow_core.cli import main
from auralflow_core.errors import ConfigError
from auralflow_core.testing import ModelConformance
from auralflow_lstm.network import RecurrentBottleneck, SpectrogramNetLSTM
from auralflow_simplenet.network import SpectrogramNetSimple

PLUGIN = Path(__file__).parents[1]
RATE = 8000
STEMS = ("vocals", "drums", "bass", "other")
SMALL = {"hidden_channels": 2, "recurrent_depth": 2, "hidden_size": 8}
OVER_FREQUENCY, OVER_TIME = 1, 0
AXES = pytest.mark.parametrize("input_axis", [OVER_FREQUENCY, OVER_TIME])


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def make(bins: int = 65, frames: int = 70, **settings: Any) -> SpectrogramNetLSTM:
    return SpectrogramNetLSTM(bins, frames, **{**SMALL, **settings}).eval()


def magnitudes(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


class TestConformanceOverFrequency(ModelConformance):
    plugin = "auralflow-lstm"
    model_type = "SpectrogramNetLSTM"
    params = SMALL


class TestConformanceOverTime(ModelConformance):
    plugin = "auralflow-lstm"
    model_type = "SpectrogramNetLSTM"
    params = {**SMALL, "input_axis": 0}  # noqa: RUF012 - declared a ClassVar in the kit


@pytest.mark.slow
def test_documented_example() -> None:
    from auralflow.models import SpectrogramNetLSTM

    # initialize network
    spec_net_lstm = SpectrogramNetLSTM(
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
    source_mask = spec_net_lstm(mix_spec)

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


def bottleneck(input_axis: int, channels: int = 3, bands: int = 4) -> RecurrentBottleneck:
    return RecurrentBottleneck(
        channels, bands, depth=1, hidden_size=5, input_axis=input_axis, leak_factor=0.2, dropout_p=0.0
    ).eval()


def run_direction(lstm: nn.LSTM, steps: list[Tensor], suffix: str) -> list[Tensor]:
    """Return the hidden states of one LSTM direction, from its equations (Hochreiter and Schmidhuber, 1997)."""
    weights = {name: getattr(lstm, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    hidden = cell = torch.zeros(lstm.hidden_size)
    states = []
    for step in steps:
        gates = weights["weight_ih"] @ step + weights["weight_hh"] @ hidden + weights["bias_ih"] + weights["bias_hh"]
        enter, forget, candidate, leave = gates.chunk(4)
        cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        states.append(hidden)
    return states


def run_both_directions(module: RecurrentBottleneck, steps: list[Tensor]) -> list[Tensor]:
    """Return what the projection makes of a sequence, step by step."""
    forth = run_direction(module.lstm, steps, "")
    back = run_direction(module.lstm, steps[::-1], "_reverse")[::-1]
    return [module.projection.weight @ torch.cat(pair) for pair in zip(forth, back, strict=True)]


def finished(module: RecurrentBottleneck, projected: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = module.activation(module.norm(projected))
    return result


def test_over_time_a_step_is_all_bands_of_a_frame() -> None:
    module = bottleneck(OVER_TIME)
    x = torch.randn(2, 3, 4, 6)
    expected = torch.empty(2, 6, 4, 6)
    with torch.no_grad():
        for item in range(2):
            steps = [torch.cat([x[item, :, band, frame] for band in range(4)]) for frame in range(6)]
            for frame, y in enumerate(run_both_directions(module, steps)):
                for band in range(4):
                    expected[item, :, band, frame] = y[band * 6 : (band + 1) * 6]
        torch.testing.assert_close(module(x), finished(module, expected), rtol=1e-4, atol=1e-5)


def test_over_frequency_a_step_is_one_band_of_a_frame() -> None:
    module = bottleneck(OVER_FREQUENCY)
    x = torch.randn(2, 3, 4, 6)
    expected = torch.empty(2, 6, 4, 6)
    with torch.no_grad():
        for item in range(2):
            for frame in range(6):
                steps = [x[item, :, band, frame] for band in range(4)]
                for band, y in enumerate(run_both_directions(module, steps)):
                    expected[item, :, band, frame] = y
        torch.testing.assert_close(module(x), finished(module, expected), rtol=1e-4, atol=1e-5)


def input_gradient(network: nn.Module, x: Tensor, *, batch: int, bin_: int, frame: int) -> Tensor:
    """Return how much one cell of the mask depends on each cell of the input."""
    x = x.clone().requires_grad_()
    network(x)[batch, 0, bin_, frame].backward()
    assert x.grad is not None
    return x.grad.abs()


def test_over_time_the_mask_depends_on_frames_beyond_the_convolutions() -> None:
    far, x = slice(1000, None), magnitudes(1, 1, 33, 1200)
    torch.manual_seed(0)
    simple = SpectrogramNetSimple(33, 1200, hidden_channels=2).eval()
    assert input_gradient(simple, x, batch=0, bin_=5, frame=3)[..., far].max() == 0
    assert input_gradient(make(33, 1200, input_axis=OVER_TIME), x, batch=0, bin_=5, frame=3)[..., far].max() > 0
    over_frequency = make(33, 1200, input_axis=OVER_FREQUENCY)
    assert input_gradient(over_frequency, x, batch=0, bin_=5, frame=3)[..., far].max() == 0


def test_over_frequency_the_mask_depends_on_bins_beyond_the_convolutions() -> None:
    far, x = slice(1000, None), magnitudes(1, 1, 1200, 33)
    simple = SpectrogramNetSimple(1200, 33, hidden_channels=2).eval()
    assert input_gradient(simple, x, batch=0, bin_=3, frame=5)[..., far, :].max() == 0
    over_frequency = make(1200, 33, input_axis=OVER_FREQUENCY)
    assert input_gradient(over_frequency, x, batch=0, bin_=3, frame=5)[..., far, :].max() > 0


@AXES
def test_no_recurrence_over_the_batch(input_axis: int) -> None:
    network, x = make(input_axis=input_axis), magnitudes(4, 1, 65, 70)
    gradient = input_gradient(network, x, batch=1, bin_=20, frame=30)
    assert gradient[1].max() > 0
    assert gradient[[0, 2, 3]].max() == 0
    with torch.no_grad():
        order = [2, 0, 3, 1]
        torch.testing.assert_close(network(x[order]), network(x)[order])
        torch.testing.assert_close(network(x[2:3]), network(x)[2:3])


@AXES
@settings(max_examples=15, deadline=None)
@given(bins=st.integers(1, 150), frames=st.integers(1, 200))
def test_any_number_of_bins_and_frames(input_axis: int, bins: int, frames: int) -> None:
    network = make(input_axis=input_axis, num_channels=2, num_targets=2, hidden_channels=1)
    with torch.no_grad():
        mask = network(magnitudes(1, 2, bins, frames))
    assert mask.shape == (1, 2, 2, bins, frames)
    assert mask.isfinite().all()


def test_another_fft_length_keeps_bands_at_their_frequencies() -> None:
    module = bottleneck(OVER_TIME, bands=16)
    curve = torch.linspace(0, 3, 16)[None, None, :, None] * torch.rand(1, 3, 1, 5)
    # The same spectrum in twice as many bands.
    finer = nn.functional.interpolate(curve, size=(32, 5), mode="bilinear", align_corners=False)
    with torch.no_grad():
        expected, found = module(curve), nn.functional.avg_pool2d(module(finer), (2, 1))
    misplaced = (expected.roll(1, dims=2) - expected).abs().mean()
    assert (found - expected).abs().mean() < 0.3 * misplaced


@pytest.mark.parametrize("depth", [1, 3])
def test_dropout_acts_between_layers(depth: int) -> None:
    network = make(recurrent_depth=depth, dropout_p=0.3)
    assert isinstance(network.bottleneck, RecurrentBottleneck)
    assert network.bottleneck.lstm.num_layers == depth
    assert network.bottleneck.lstm.dropout == (0.3 if depth > 1 else 0)


def test_positional_arguments_are_those_of_simplenet() -> None:
    network = SpectrogramNetLSTM(129, 33, 2, 4, "relu", 0.1, 0.2, True, True, hidden_size=6)
    mask = network.eval()(magnitudes(1, 2, 129, 33))
    assert mask.shape == (1, 2, 129, 33)
    assert isinstance(network.mask_activation, nn.ReLU)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input_axis": 2}, "input_axis: 2 is no axis.*use 0.*or 1"),
        ({"recurrent_depth": 0}, "recurrent_depth: 0 is below 1"),
        ({"hidden_size": 0}, "hidden_size: 0 is below 1"),
    ],
)
def test_wrong_sizes_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**wrong)


def test_criterion_kl_div_is_refused() -> None:
    config = default_config("SpectrogramNetLSTM", "model")
    model = config.model.model_copy(update={"params": SMALL})
    training = config.training.model_copy(update={"criterion": "kl_div"})
    with pytest.raises(ConfigError, match=r"kl_div.*needs a network with a loss term 'kl'"):
        build_model(config.model_copy(update={"model": model, "training": training}))


def run(*arguments: object, exit_code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result.output


def test_list_models_shows_the_alias() -> None:
    listed = {entry["type"]: entry for entry in json.loads(run("list-models", "--json"))["models"]}
    assert "UNetRecurrentSpec" in listed["SpectrogramNetLSTM"]["aliases"]


@pytest.mark.parametrize("params", [{}, {"input_axis": 0}, {"recurrent_depth": 2, "hidden_size": 256}])
def test_readme_states_the_parameter_count(params: dict[str, int]) -> None:
    config = default_config("UNetRecurrentSpec", "model")
    model = config.model.model_copy(update={"params": params})
    with torch.device("meta"):
        network = build_network(config.model_copy(update={"model": model}))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert f"{count / 1e6:.1f} million" in (PLUGIN / "README.md").read_text(encoding="utf-8")


def test_a_wrong_axis_is_refused_by_config(tmp_path: Path) -> None:
    output = run("config", "m", "UNetRecurrentSpec", "--save", tmp_path, "--input_axis", 2, exit_code=1)
    assert "model.params.input_axis" in output
    assert not (tmp_path / "m").exists()


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


@AXES
def test_train_resume_and_separate(input_axis: int, songs: Path, tmp_path: Path) -> None:
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    for folder in (stopped, whole):
        configure(folder, input_axis=input_axis)
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


def configure(folder: Path, **params: object) -> None:
    data = {"sample_rate": RATE, "sample_length": 0.25, "num_fft": 128, "window_size": 128, "hop_length": 64}
    others = {"max_epochs": 1, "device": "cpu", "save_images": "false", "save_audio": "false", "tensorboard": "false"}
    chosen = {**SMALL, **params, **data, **others}
    options = [word for name, value in chosen.items() for word in (f"--{name}", value)]
    run("config", folder.name, "SpectrogramNetLSTM", "--save", folder.parent, *options)


def latest(folder: Path) -> Path:
    """Return the folder of the last checkpoint."""
    return max(path.parent for path in (folder / "checkpoint").glob("step-*/model.safetensors"))
