"""Memory of a step: its estimate, and the largest batch that fits."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from auralflow_core.build import build_model, default_config
from auralflow_core.config import Config, load_config, validate
from auralflow_core.trainer import Trainer
from auralflow_core.trainer import memory as memory_module
from auralflow_core.trainer.memory import estimate, largest_batch, peak_memory, resident_memory, saved_bytes
from auralflow_core.training import fit_batch

TrainerMaker = Callable[..., Trainer]

GIB = 2**30


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "checkpoint/step-00000016/model.safetensors").read_bytes()).hexdigest()


class TestEstimate:
    def test_training_is_the_same_with_it(self, make_trainer: TrainerMaker, tmp_path: Path) -> None:
        make_trainer("without").fit()
        trainer = make_trainer("with")
        before = torch.get_rng_state()
        assert estimate(trainer.model, 4) is not None
        assert torch.equal(torch.get_rng_state(), before)
        trainer.fit()
        assert digest(tmp_path / "with") == digest(tmp_path / "without")

    def test_activations_are_what_is_kept(self, make_trainer: TrainerMaker) -> None:
        model = make_trainer(network="plain").model
        one, four = saved_bytes(model), saved_bytes(model, 4)
        assert 3.9 < four / one < 4.1
        found = estimate(model, 4)
        assert found is not None and found.activations == 4 * one
        # Of a chunk of 200 samples: (17 bins, 14 frames); the layers' inputs have 1, 4 and 4 channels.
        assert one > 4 * 17 * 14 * (1 + 4 + 4)

    @pytest.mark.parametrize(
        ("settings", "copies", "copies_of_trained"),
        [
            ({}, 1, 3),
            ({"optimizer": "sgd"}, 1, 2),
            ({"ema": {"decay": 0.9}}, 2, 3),
            ({"freeze": ["first.*"]}, 1, 3),
        ],
    )
    def test_weights_gradients_and_optimizer(
        self, settings: dict[str, Any], copies: int, copies_of_trained: int, make_trainer: TrainerMaker
    ) -> None:
        model = make_trainer(network="plain", **settings).model
        first, rest = 4 * (4 * 9 + 4), 4 * (17 * 17 + 17 + 4 * 9 + 1)
        trained = rest if "freeze" in settings else first + rest
        found = estimate(model, 1)
        assert found is not None
        assert found.weights == copies * (first + rest) + copies_of_trained * trained

    def test_this_process(self) -> None:
        held = torch.ones(10_000_000)
        assert resident_memory() >= held.nbytes
        before = peak_memory()
        del held
        assert before >= resident_memory() - 1e6


def make_config(**training: Any) -> Config:
    config = default_config("SpectrogramNetSimple", "m").model_dump()
    config["model"]["params"]["hidden_channels"] = 4
    config["dataset"] |= {
        "sample_length": 4,
        "sample_rate": 8000,
        "num_fft": 512,
        "window_size": 512,
        "hop_length": 256,
    }
    config["training"] |= {"device": "cpu", "batch_size": 4, "backprop_every": 2, **training}
    return validate(Config, config)


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Let the processes that measure be forks of a small one, which has loaded torch already, until told otherwise."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch._dynamo", "auralflow_core.build", "auralflow_core.model", memory_module.__name__]
    )

    def switch(is_on: bool) -> None:
        module = SimpleNamespace(get_context=lambda method: context) if is_on else multiprocessing
        monkeypatch.setattr(memory_module, "multiprocessing", module)

    switch(True)
    return switch


@pytest.mark.slow
@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_largest_batch_that_fits(warm: Callable[[bool], None]) -> None:
    config = make_config()
    batches = [[(size, config.dataset.chunk_frames)] for size in (1, 2, 4, 8)]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    peaks = largest_batch(partial(build_model, config), batches, 100 * GIB)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(peaks) == 4 and peaks == sorted(peaks) and peaks[0] < peaks[3]
    limit = (peaks[2] + peaks[3]) / 2 / GIB
    fitted, peak = fit_batch(make_config(memory_limit=limit))
    assert (fitted.training.batch_size, fitted.training.backprop_every) == (4, 2)
    assert peak <= limit * GIB


@pytest.mark.slow
@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_on_the_command_line(
    model_folder: Path,
    song_folder: Path,
    invoke: Callable[..., Any],
    refused: Callable[..., str],
    warm: Callable[[bool], None],
) -> None:
    before = (model_folder / "config.json").read_bytes()
    auto = ("train", model_folder, song_folder, "--batch_size", "auto", "--save_audio", "false")
    text = refused(*auto, "--memory_limit", "0.01")
    assert "one chunk of 0.5 s takes more than the 0.01 GiB of training.memory_limit; lower sample_length" in text
    assert (model_folder / "config.json").read_bytes() == before
    warm(False)  # as it is for a user, once
    output = invoke(*auto, "--backprop_every", "3", "--memory_limit", "64", "--max_steps", "1").stdout
    assert "Measured: a step with batches of 6 takes" in output and "so batch_size is 6, backprop_every 1" in output
    training = json.loads((model_folder / "config.json").read_text())["training"]
    assert (training["batch_size"], training["backprop_every"]) == (6, 1)
    assert load_config(model_folder).training.batch_size == 6
    invoke("train", model_folder, song_folder, "--resume", "--max_steps", "2", "--quiet")


def test_auto_is_for_a_new_training(model_folder: Path, song_folder: Path, invoke: Callable[..., Any]) -> None:
    result = invoke("train", model_folder, song_folder, "--batch-size", "auto", "--resume", status=2)
    assert "leave out --batch_size auto" in result.stderr


def test_auto_is_no_setting_of_a_file(model_folder: Path, refused: Callable[..., str]) -> None:
    assert "training.batch_size: 'auto'" in refused("config", model_folder, "--batch_size", "auto")
