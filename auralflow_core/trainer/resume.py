"""What a checkpoint holds of a training besides model, optimizer and schedule, and how a training goes on from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from auralflow_core.config.training_groups import SchedulerConfig
from auralflow_core.errors import CheckpointError
from auralflow_core.trainer.progress import Progress

RandomState = dict[str, torch.Tensor]

if TYPE_CHECKING:
    from auralflow_core.trainer.loop import Trainer


def snapshot(trainer: Trainer) -> dict[str, Any]:
    """Return the part `trainer` of a checkpoint."""
    rng = trainer.world.gather(random_state(trainer.model.device))
    state = {"progress": asdict(trainer.progress), "rng": rng, **_size(trainer)}
    return {**state, "ema": trainer.passes.full(trainer.average.state_dict())} if trainer.average else state


def random_state(device: torch.device) -> RandomState:
    """Return the state of what draws random numbers in this process."""
    state = {"cpu": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Go on with a state of what draws random numbers."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def restore(trainer: Trainer) -> Progress:
    """Load the latest checkpoint into a trainer; return where it stands.

    A checkpoint that has weights only, such as that of public weights, is where a new training begins. One that another
    number of processes saved is gone on from at the same batch of the epoch.

    Raises:
        CheckpointError: There is no checkpoint, it is damaged, or it belongs to another model or data.
    """
    store, model = trainer.store, trainer.model
    step = _agreed_step(trainer)
    trainer.passes.load(step)
    if store.parts(step) == ["model"]:
        if trainer.average:
            trainer.average.restart()
        return Progress(step=step, began_from=step)
    options = [{key: group[key] for key in group if key != "params"} for group in model.optimizer.param_groups]
    changed = _changed_settings(trainer, step)
    trainer.passes.load_optimizer(store, step)
    model.load_scheduler(step)
    model.load_grad_scaler(step)
    if changed:
        for group, option in zip(model.optimizer.param_groups, options, strict=True):
            group.update(option)
    state = store.load(step, "trainer")
    progress = Progress(**state["progress"])
    if progress.best_step >= 0 and "best_value" not in state["progress"]:
        progress.best_value = progress.best_loss
    if "ema" in state:
        _restore_average(trainer, state["ema"])
    trainer.feed.enter(progress.stage)
    _check_position(trainer, progress, state, step)
    _restore_random_state(trainer, state["rng"], step)
    return progress


def _agreed_step(trainer: Trainer) -> int:
    """Return the step of the latest checkpoint.

    Raises:
        CheckpointError: There is none, or machines have a model folder each.
    """
    steps = trainer.world.gather(trainer.store.latest())
    if len(set(steps)) > 1:
        raise CheckpointError(
            f"{trainer.store.folder}: the latest checkpoint is of step {steps[0]} in one process and of step "
            f"{max(set(steps) - {steps[0]})} in another; put the model folder where all machines see the same one"
        )
    return steps[0]


def _restore_random_state(trainer: Trainer, states: list[RandomState], step: int) -> None:
    """Go on with this process's own state; one that was not there then begins a series of its own."""
    rank = trainer.world.rank
    if rank < len(states):
        set_random_state(states[rank], trainer.model.device)
    else:
        torch.manual_seed(trainer.config.random_seed + rank + step)


def _changed_settings(trainer: Trainer, step: int) -> bool:
    """Return whether the optimizer's settings were changed since the checkpoint, which then count.

    Raises:
        CheckpointError: It is another optimizer or schedule now, which cannot use the saved state.
    """
    now = trainer.config.model_dump(mode="json")
    trained = {**now, **trainer.store.meta(step).get("config", {}).get("training", {})}
    scheduler = SchedulerConfig.model_validate(trained["scheduler"])
    for setting, was, wanted in (
        ("optimizer", trained["optimizer"]["name"], now["optimizer"]["name"]),
        ("scheduler", scheduler.kind, trainer.config.scheduler.kind),
    ):
        if was != wanted:
            raise CheckpointError(
                f"{trainer.store.path(step)}: was trained with {was}, and training.{setting} is {wanted} now; set it "
                "back, or start a new training --from this model"
            )
    return any(trained[name] != now[name] for name in ("lr", "optimizer"))


def _restore_average(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Go on with the weights that were trained, which are not those that were saved as the model's."""
    raw = trainer.passes.local(state["raw"])
    if trainer.average:
        trainer.average.load_state_dict({**state, "raw": raw})
    else:
        trainer.model.network.load_state_dict(raw)


def _size(trainer: Trainer) -> dict[str, int]:
    return {"chunks_per_epoch": len(trainer.train_data), "batch_size": trainer.feed.batch_size}


def _check_position(trainer: Trainer, progress: Progress, state: Mapping[str, Any], step: int) -> None:
    """Refuse to go on inside an epoch that is not the one that was left."""
    now = _size(trainer)
    changed = [name for name, value in now.items() if state[name] != value]
    if changed and progress.batch:
        facts = ", ".join(f"{name} was {state[name]} and is {now[name]}" for name in changed)
        raise CheckpointError(
            f"{trainer.store.path(step)}: was saved inside an epoch that looks different now ({facts}); resume with "
            "the same data and batch_size"
        )
