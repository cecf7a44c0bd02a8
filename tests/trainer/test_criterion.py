"""`criterion` as a weighted sum, from the command line to the loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from auralflow_core.build import build_model
from auralflow_core.config import load_config

QUIET = ("--tensorboard", "false", "--save_images", "false", "--save_audio", "false")


def loss_of(folder: Path) -> float:
    model = build_model(load_config(folder))
    generator = torch.Generator().manual_seed(0)
    mixture, target = (torch.randn(2, 1, 4000, generator=generator) for _ in range(2))
    model.set_data(mixture, target)
    model.test()
    return model.compute_loss()


def test_a_sum_is_the_sum_of_its_parts(invoke: Callable[..., Any], model_folder: Path) -> None:
    def loss(criterion: str) -> float:
        invoke("config", model_folder, "--criterion", criterion)
        return loss_of(model_folder)

    parts = [loss("l1"), loss("[{name: mrstft, args: {num_ffts: [64, 256]}}]"), loss("log_l1")]
    both = loss("[{name: l1}, {name: mrstft, weight: 0.5, args: {num_ffts: [64, 256]}}, {name: log_l1, weight: 2}]")
    assert both == pytest.approx(parts[0] + 0.5 * parts[1] + 2 * parts[2], rel=1e-5)


@pytest.mark.parametrize("name", ["log_l1", "complex_mse", "mrstft", "quantile"])
def test_each_loss_trains(invoke: Callable[..., Any], model_folder: Path, song_folder: Path, name: str) -> None:
    invoke("train", model_folder, song_folder, "--criterion", name, "--max_steps", "2", "--batch_size", "1", *QUIET)


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        ("[{name: l1}, {name: mrstf}]", "training.criterion: criterion 'mrstf' is not installed; did you mean mrstft"),
        ("[{name: l1, wieght: 2}]", "wieght: unknown setting"),
        ("[{name: quantile, args: {quantile: 2}}]", "quantile 2 is not above 0"),
        ("[{name: l1, args: {p: 2}}]", "training.criterion: l1 refuses"),
        ("[{name: l1}, {name: kl_div}]", "'l1 + kl_div' needs a network with a loss term 'kl'"),
        ("[]", "criterion"),
    ],
)
def test_what_cannot_work_is_refused_before_step_1(
    refused: Callable[..., str], model_folder: Path, song_folder: Path, criterion: str, words: str
) -> None:
    assert words in refused("train", model_folder, song_folder, "--criterion", criterion)
    assert not (model_folder / "checkpoint").exists()
