"""Losses and networks that need more than one chunk in a batch are refused where a batch of one would come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auralflow_core.errors import ConfigError
from auralflow_core.losses import Criterion
from auralflow_core.trainer import Trainer
from auralflow_core.trainer.distributed import World
from auralflow_core.trainer.smallest_batch import check_smallest_batch

TrainerMaker = Callable[..., Trainer]


class Pooled(nn.Module):
    """Batch normalisation of one value an item: a batch of one has no variance."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, magnitude: Tensor) -> Tensor:
        level = self.dropout(self.norm(magnitude.mean(dim=(-2, -1)))).sigmoid()
        return level[..., None, None].expand_as(magnitude)


class Spread(Criterion):
    """A loss between the items of a batch; one item has none."""

    def forward(self, prediction: Any) -> Tensor:
        found: Tensor = prediction.estimate_magnitude.mean(dim=(1, 2, 3, 4)).std()
        return found


# There are 30 chunks of 0.2 s.
@pytest.mark.parametrize(
    ("training", "length"),
    [
        ({"batch_size": 1}, "0.2 s"),
        ({"batch_size": 29}, "0.2 s"),
        ({"batch_size": 4, "sequence_scheduler": {"increase_every": 2, "max_sequence_length": 1}}, "0.4 s"),
    ],
)
def test_batch_normalisation_of_one_value(make_trainer: TrainerMaker, training: dict[str, Any], length: str) -> None:
    trainer = make_trainer("model", [], Pooled(), **training)
    with pytest.raises(ConfigError) as caught:
        check_smallest_batch(trainer)
    for part in ("training.batch_size", f"chunks of {length}", "Expected more than 1 value", "max_num_samples"):
        assert part in str(caught.value)


@pytest.mark.parametrize("training", [{"batch_size": 4}, {"batch_size": 28}, {"batch_size": 64}])
def test_batches_of_more_are_none_of_its_business(make_trainer: TrainerMaker, training: dict[str, Any]) -> None:
    trainer = make_trainer("model", [], Pooled(), **training)
    check_smallest_batch(trainer)


def test_processes_share_a_batch(make_trainer: TrainerMaker) -> None:
    class Two(World):
        size = 2

    for batch_size, is_refused in ((4, True), (28, True), (26, False), (9, True), (30, False)):
        trainer = make_trainer("model", [], Pooled(), batch_size=batch_size)
        trainer.world = Two()
        if is_refused:
            with pytest.raises(ConfigError, match=r"shared by 2 processes, .* more than one chunk for each of 2"):
                check_smallest_batch(trainer)
        else:
            check_smallest_batch(trainer)


def test_a_loss_between_items(make_trainer: TrainerMaker) -> None:
    trainer = make_trainer("model", [], "plain", batch_size=1)
    trainer.model.criterion = Spread()
    with pytest.warns(UserWarning, match="degrees of freedom"), pytest.raises(ConfigError, match="its loss is nan"):
        check_smallest_batch(trainer)


def test_what_can_be_trained_is_left_as_it_was(make_trainer: TrainerMaker) -> None:
    trainer = make_trainer("model", batch_size=29)
    before = {name: tensor.clone() for name, tensor in trainer.model.network.state_dict().items()}
    feed, random = (trainer.feed.stage, trainer.feed.batches), torch.get_rng_state()
    check_smallest_batch(trainer)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.model.network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random) and (trainer.feed.stage, trainer.feed.batches) == feed


PLUGIN = """
import torch
from auralflow_core import hookimpl
from auralflow_core.losses import Criterion

class Contrast(Criterion):
    def forward(self, prediction):
        if len(prediction.estimate_audio) < 2:
            raise ValueError("needs two items to compare")
        return prediction.estimate_audio[0].sub(prediction.estimate_audio[1]).abs().mean()

@hookimpl
def register_losses(register):
    register("contrast", loss=Contrast, summary="how unlike two items are")
"""


@pytest.fixture
def contrast(install_plugin: Any) -> None:
    install_plugin("auralflow-contrast", PLUGIN)


def test_on_the_command_line(
    contrast: None, refused: Callable[..., str], invoke: Callable[..., Any], model_folder: Path, song_folder: Path
) -> None:
    words = ("--criterion", "contrast", "--tensorboard", "no", "--save_images", "no", "--save_audio", "no", "--quiet")
    text = refused("train", model_folder, song_folder, *words, "--batch_size", "5")  # 16 chunks
    assert "needs two items to compare" in text and "batches of 5" in text
    assert not (model_folder / "checkpoint").exists()
    invoke("train", model_folder, song_folder, *words, "--batch_size", "8", "--max_steps", "1", "--metric_songs", "0")
