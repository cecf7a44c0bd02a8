"""Every setting of the group `training` has a test that shows its effect; one that has none fails here."""

from __future__ import annotations

import ast
import hashlib
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from pydantic import BaseModel
from torch import Tensor, nn

from auralflow_core.config import TrainingConfig
from auralflow_core.data.chunks import chunk_loader
from auralflow_core.errors import ConfigError, TrainingError
from auralflow_core.trainer import Callback, Epoch, Step, Trainer
from auralflow_core.trainer.distributed import World
from auralflow_core.trainer.passes import ReplicatedPasses, make_passes

TESTS = Path(__file__).parents[1]
TrainerMaker = Callable[..., Trainer]


@dataclass(frozen=True)
class Shown:
    """A setting whose effect is shown here: a training with this value differs from one without in one thing.

    Attributes:
        value: The value.
        look: What is looked at in a training that is done.
        found: What is seen there; without it any difference will do.
        given: The settings of both trainings.
    """

    value: Any
    look: Callable[[Seen], Any]
    found: Any = None
    given: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Elsewhere:
    """A setting whose effect another test shows: its file below tests/, and the name of a test or class in it."""

    file: str
    name: str


class Seen(Callback):
    """What a training did."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.epochs: list[Epoch] = []
        self.saved: list[list[int]] = []
        self.shapes: list[tuple[int, ...]] = []
        self.trainer: Trainer
        self.reason = ""

    def on_step(self, trainer: Trainer, step: Step) -> None:
        assert trainer.model.prediction is not None
        self.steps.append(step)
        self.saved.append(trainer.store.steps())
        self.shapes.append(tuple(trainer.model.prediction.mixture_audio.shape))

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        self.epochs.append(epoch)


def weights(seen: Seen) -> str:
    store = seen.trainer.store
    return hashlib.sha256((store.path(store.latest()) / "model.safetensors").read_bytes()).hexdigest()


def rates(seen: Seen) -> list[float]:
    return [round(step.lr, 6) for step in seen.steps]


def optimizer(seen: Seen) -> str:
    return type(seen.trainer.model.optimizer).__name__


def group(name: str) -> Callable[[Seen], list[Any]]:
    return lambda seen: [each.get(name) for each in seen.trainer.model.optimizer.param_groups]


def validated(seen: Seen) -> list[int]:
    return [epoch.step for epoch in seen.epochs]


def lengths(seen: Seen) -> list[int]:
    return [shape[-1] for shape in seen.shapes]


def sizes(seen: Seen) -> list[int]:
    return [shape[0] for shape in seen.shapes]


GROWING = {"sequence_scheduler": {"increase_every": 2, "max_sequence_length": 0.8}, "max_steps": 6}
HIDDEN = {"spec_augment": {"time_mask_param": 6, "freq_mask_param": 6}}
STUCK = {"stop_patience": 1, "max_lr_steps": 9, "max_epochs": 4, "lr": 1e-9}

# A training has 30 chunks in 8 batches of up to 4, one epoch, a rate of 0.01.
EFFECTS: dict[str, Shown | Elsewhere] = {
    "max_epochs": Shown(2, lambda seen: len(seen.epochs), 2),
    "max_minutes": Shown(1e-6, lambda seen: (len(seen.steps), seen.reason), (1, "max_minutes")),
    "max_steps": Shown(3, lambda seen: (len(seen.steps), seen.reason), (3, "max_steps")),
    "batch_size": Shown(15, sizes, [15, 15]),
    "backprop_every": Shown(3, lambda seen: [step.batch for step in seen.steps], [3, 6, 8]),
    "lr": Shown(0.5, rates, [0.5] * 8),
    "optimizer.name": Shown("adamw", optimizer, "AdamW"),
    "optimizer.args": Shown({"weight_decay": 0.5}, group("weight_decay"), [0.5]),
    "optimizer.lr_by_name": Shown({"last.*": 0.5}, group("lr"), [0.01, 0.5]),
    "optimizer.fused": Shown(True, group("fused"), [True]),
    "scheduler.name": Shown("cosine", lambda seen: seen.steps[-1].lr < 0.001, True),
    "scheduler.args": Elsewhere("trainer/test_plugin_schedules.py", "test_rates_are_those_of_torch_alone"),
    "scheduler.warmup_steps": Shown(4, lambda seen: rates(seen)[:4], [0.0025, 0.005, 0.0075, 0.01]),
    "scheduler.final_lr": Shown(0.009, lambda seen: seen.steps[-1].lr > 0.009, True, {"scheduler": {"name": "cosine"}}),
    "clip_value": Elsewhere("trainer/test_optimizers.py", "test_gradients_are_clipped_to_their_norm"),
    "freeze": Elsewhere("trainer/test_optimizers.py", "test_frozen_parameters_stay"),
    "sequence_scheduler.increase_every": Shown(3, lengths, [200, 200, 200, 400, 400, 400], GROWING),
    "sequence_scheduler.start_after": Shown(1, lengths, [200, 200, 200, 400, 400, 800], GROWING),
    "sequence_scheduler.stop_after": Shown(2, lengths, [200, 200, 400, 400, 400, 400], GROWING),
    "sequence_scheduler.max_sequence_length": Shown(0.3, lengths, [200, 200, 300, 300, 300, 300], GROWING),
    "sequence_scheduler.increase_by_multiplier": Shown(1.5, lengths, [200, 200, 300, 300, 450, 450], GROWING),
    "sequence_scheduler.batch_size_multiplier": Shown(1.0, lambda seen: sizes(seen)[:4], [4, 4, 4, 4], GROWING),
    "spec_augment.n_time_masks": Shown(9, weights, given=HIDDEN),
    "spec_augment.time_mask_param": Shown(12, weights, given=HIDDEN),
    "spec_augment.n_freq_masks": Shown(9, weights, given=HIDDEN),
    "spec_augment.freq_mask_param": Shown(12, weights, given=HIDDEN),
    "spec_augment.iid_masks": Shown(False, weights, given=HIDDEN),
    "spec_augment.p": Shown(0.2, weights, given=HIDDEN),
    "spec_augment.zero_masking": Shown(True, weights, given=HIDDEN),
    "start_spec_augment_after_n_epochs": Shown(-1, weights, given=HIDDEN),
    "ema.decay": Shown(0.5, weights),
    "validation.every_n_steps": Shown(3, validated, [3, 6, 8]),
    "validation.throttle_secs": Shown(1e6, validated, [8, 24], {"max_epochs": 3}),
    "validation.metric": Shown("usdr", lambda seen: seen.epochs[0].score is not None, True),
    "validation.full_songs": Elsewhere(
        "cli/test_training_output.py", "test_whole_songs_are_scored_with_the_best_weights"
    ),
    "checkpointing.save_every_n_steps": Elsewhere("trainer/test_schedules.py", "test_checkpoints_inside_an_epoch"),
    "checkpointing.keep": Shown(9, lambda seen: seen.trainer.store.steps(), [8, 16, 24], {"max_epochs": 3}),
    "on_nan": Elsewhere("trainer/test_nan.py", "TestRollback"),
    "stop_patience": Shown(2, lambda seen: seen.trainer.model.scheduler.state_dict()["reductions"], 1, STUCK),
    "max_lr_steps": Shown(0, lambda seen: seen.reason, "plateau", STUCK),
    "criterion": Elsewhere("trainer/test_criterion.py", "test_each_loss_trains"),
    "criterion.name": Elsewhere("trainer/test_criterion.py", "test_a_sum_is_the_sum_of_its_parts"),
    "criterion.weight": Elsewhere("trainer/test_criterion.py", "test_a_sum_is_the_sum_of_its_parts"),
    "criterion.args": Elsewhere("trainer/test_criterion.py", "test_a_sum_is_the_sum_of_its_parts"),
    "num_workers": Elsewhere("data/test_chunks.py", "test_workers_give_the_same_batches"),
    "prefetch_factor": Elsewhere("trainer/test_speed.py", "test_workers_load_as_many_batches_ahead_as_is_set"),
    "pin_memory": Elsewhere("trainer/test_every_setting.py", "test_pin_memory"),
    "silent_checkpoint": Elsewhere("trainer/test_every_setting.py", "test_silent_checkpoint"),
    "use_mixed_precision": Shown(True, weights),
    "mixed_precision_dtype": Shown("fp16", lambda seen: str(seen.trainer.model.amp_dtype), "torch.float16"),
    "tf32": Elsewhere("trainer/test_speed.py", "TestTF32"),
    "channels_last": Elsewhere("model/test_forward.py", "TestChannelsLast"),
    "compile": Elsewhere("model/test_forward.py", "TestCompile"),
    "gradient_checkpointing": Elsewhere("model/test_forward.py", "TestGradientCheckpointing"),
    "memory_limit": Elsewhere("trainer/test_memory.py", "test_on_the_command_line"),
    "alpha_constant": Elsewhere("test_losses.py", "TestComponentWeights"),
    "beta_constant": Elsewhere("test_losses.py", "TestComponentWeights"),
    "batch_norm_batches": Shown(0, weights),
    "random_seed": Shown(7, weights),
    "device": Elsewhere("trainer/test_every_setting.py", "test_device"),
    "distributed.strategy": Elsewhere(
        "trainer/test_distributed.py", "test_sharded_they_go_on_from_one_and_one_goes_on_from_them"
    ),
    "distributed.find_unused_parameters": Elsewhere("trainer/test_every_setting.py", "test_find_unused_parameters"),
    "distributed.sync_batch_norm": Elsewhere("trainer/test_every_setting.py", "test_sync_batch_norm"),
}


def paths(schema: type[BaseModel] = TrainingConfig, above: str = "") -> Iterator[str]:
    """Yield the path of every setting; those of a group that may be null or a name, too."""
    for name, info in schema.model_fields.items():
        inner = [each for each in _types(info.annotation) if isinstance(each, type) and issubclass(each, BaseModel)]
        if not inner or any(each is str for each in _types(info.annotation)):
            yield above + name
        for group_ in inner:
            yield from paths(group_, f"{above}{name}.")


def _types(annotation: Any) -> list[Any]:
    inner = [found for argument in typing.get_args(annotation) for found in _types(argument)]
    return [annotation, *inner]


def nested(path: str, value: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return settings with one more, by its path."""
    name, _, rest = path.partition(".")
    return {**given, name: nested(rest, value, given.get(name) or {}) if rest else value}


def test_none_is_missing() -> None:
    assert sorted(paths()) == sorted(EFFECTS)


@pytest.fixture(scope="module")
def without() -> dict[str, Seen]:
    """Trainings without the settings that are shown, by what they are given; each is done once."""
    return {}


@pytest.mark.parametrize("path", [path for path, effect in EFFECTS.items() if isinstance(effect, Shown)])
def test_effect(make_trainer: TrainerMaker, without: dict[str, Seen], path: str) -> None:
    effect = EFFECTS[path]
    assert isinstance(effect, Shown)

    def train(folder: str, settings: dict[str, Any]) -> Seen:
        seen = Seen()
        seen.trainer = make_trainer(folder, [seen], None, **{"max_epochs": 1, **settings})
        seen.reason = seen.trainer.fit().reason
        return seen

    given = str(effect.given)
    if given not in without:
        without[given] = train("without", effect.given)
    found = effect.look(train("with", nested(path, effect.value, effect.given)))
    assert found != effect.look(without[given])
    assert effect.found in (None, found)


@pytest.mark.parametrize(
    "effect", dict.fromkeys(each for each in EFFECTS.values() if isinstance(each, Elsewhere)), ids=str
)
def test_elsewhere_is_there(effect: Elsewhere) -> None:
    tree = ast.parse((TESTS / effect.file).read_text(encoding="utf-8"))
    assert effect.name in {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


def test_pin_memory(make_trainer: TrainerMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for is_on in (False, True):
        trainer = make_trainer(f"model {is_on}", pin_memory=is_on)
        assert chunk_loader(trainer.train_data, trainer.config)[0].pin_memory == is_on


def test_silent_checkpoint(model_folder: Path, song_folder: Path, invoke: Callable[..., Any]) -> None:
    words = ("--save_audio", "false", "--save_images", "false", "--tensorboard", "false", "--max_steps", 2)
    for is_on, line in (("false", True), ("true", False)):
        printed = invoke("train", model_folder, song_folder, "--force", "--silent_checkpoint", is_on, *words).stdout
        assert ("saved " in printed) == line


def test_device(make_trainer: TrainerMaker) -> None:
    assert make_trainer("here", device="cpu").model.device.type == "cpu"
    with pytest.raises(ConfigError, match="'cuda:99' is not there"):
        make_trainer("there", device="cuda:99")


class Forgetful(nn.Module):
    """Has a parameter that only its first pass needs."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.once, self.passes = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1)), 0

    def forward(self, magnitude: Tensor) -> Tensor:
        self.passes += 1
        weight = self.always + self.once if self.passes == 1 else self.always
        mask: Tensor = weight.sigmoid() * torch.ones_like(magnitude)
        return mask


@pytest.mark.parametrize("is_on", [False, True])
def test_find_unused_parameters(make_trainer: TrainerMaker, is_on: bool, capfd: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer("model", network=Forgetful(), distributed={"find_unused_parameters": is_on})
    [batch] = next(trainer.feed.groups(0, 0))
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        passes = ReplicatedPasses(trainer.model, World())
        trainer.model.train()
        for step in range(2):
            trainer.model.set_data(*batch)
            if step and not is_on:
                with pytest.raises(TrainingError, match=r"set training.distributed.find_unused_parameters to true"):
                    passes(1.0, is_first=True, is_last=True)
            else:
                assert passes(1.0, is_first=True, is_last=True) > 0
    finally:
        torch.distributed.destroy_process_group()
    assert is_on or "find_unused_parameters=True" not in capfd.readouterr().err, "torch warns who looks in vain"


@pytest.mark.parametrize("is_on", [False, True])
def test_sync_batch_norm(make_trainer: TrainerMaker, is_on: bool) -> None:
    class Two(World):
        size = 2

    model = make_trainer("model", distributed={"sync_batch_norm": is_on}).model
    if is_on:
        with pytest.raises(ConfigError, match="sync_batch_norm: torch has it for GPUs alone"):
            make_passes(model, Two())
    model.device = torch.device("cuda")
    make_passes(model, Two())
    assert any(isinstance(layer, nn.SyncBatchNorm) for layer in model.network.modules()) == is_on
