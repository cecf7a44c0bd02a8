"""What a checkpoint holds of a training besides model, optimizer and schedule, and how a training goes on from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from auralflow_core.errors import CheckpointError
from auralflow_core.trainer.progress import Progress

if TYPE_CHECKING:
    from auralflow_core.trainer.loop import Trainer


def snapshot(trainer: Trainer) -> dict[str, Any]:
    """Return the part `trainer` of a checkpoint."""
    rng: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if trainer.model.device.type == "cuda":
        rng["cuda"] = torch.cuda.get_rng_state_all()
    state = {"progress": asdict(trainer.progress), "rng": rng, **_size(trainer)}
    return {**state, "ema": trainer.average.state_dict()} if trainer.average else state


def restore(trainer: Trainer) -> Progress:
    """Load the latest checkpoint into a trainer; return where it stands.

    A checkpoint that has weights only, such as that of public weights, is where a new training begins.

    Raises:
        CheckpointError: There is no checkpoint, it is damaged, or it belongs to another model or data.
    """
    store, model = trainer.store, trainer.model
    step = store.latest()
    model.load_model(step)
    if store.parts(step) == ["model"]:
        if trainer.average:
            trainer.average.restart()
        return Progress(step=step, began_from=step)
    options = [{key: group[key] for key in group if key != "params"} for group in model.optimizer.param_groups]
    changed = _changed_settings(trainer, step)
    for load in (model.load_optim, model.load_scheduler, model.load_grad_scaler):
        load(step)
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
    torch.set_rng_state(state["rng"]["cpu"])
    if "cuda" in state["rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["rng"]["cuda"])
    return progress


def _changed_settings(trainer: Trainer, step: int) -> bool:
    """Return whether the optimizer's settings were changed since the checkpoint, which then count.

    Raises:
        CheckpointError: It is another optimizer now, which cannot use the saved state.
    """
    now = trainer.config.model_dump(mode="json")
    trained = {**now, **trainer.store.meta(step).get("config", {}).get("training", {})}
    if trained["optimizer"]["name"] != now["optimizer"]["name"]:
        raise CheckpointError(
            f"{trainer.store.path(step)}: was trained with {trained['optimizer']['name']}, and training.optimizer is "
            f"{now['optimizer']['name']} now; set it back, or start a new training --from this model"
        )
    return any(trained[name] != now[name] for name in ("lr", "optimizer"))


def _restore_average(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Go on with the weights that were trained, which are not those that were saved as the model's."""
    if trainer.average:
        trainer.average.load_state_dict(state)
    else:
        trainer.model.network.load_state_dict(state["raw"])


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
