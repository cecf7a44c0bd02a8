"""Batches whose loss or gradient is no number: what `training.on_nan` makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from auralflow_core.errors import TrainingError
from auralflow_core.trainer.journal import LeftOut
from auralflow_core.trainer.resume import restore

if TYPE_CHECKING:
    from auralflow_core.trainer.loop import Trainer

MOST_ROLLBACKS = 5
"""How often a training goes back before it stops."""
SLOWER = 0.5
"""What learning rates are multiplied with each time."""


class NoNumberError(TrainingError):
    """The loss or gradient of batches, or of validation, is no number.

    Args:
        message: What happened and what to do.
        left_out: The batches; none for validation.
    """

    def __init__(self, message: str, left_out: LeftOut | None = None) -> None:
        super().__init__(message)
        self.left_out = left_out


def bad_batches(trainer: Trainer, why: str, count: int) -> LeftOut:
    """Return what names the batches that are trained with now."""
    progress, feed = trainer.progress, trainer.feed
    chunks = feed.describe(progress.epoch, progress.batch, count)
    return LeftOut(progress.step + 1, progress.epoch, progress.batch, progress.stage, count, why, chunks)


def buffers(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of what a network keeps besides its parameters, such as the statistics of batch normalisation."""
    parameters = dict(network.named_parameters())
    return {name: tensor.clone() for name, tensor in network.state_dict().items() if name not in parameters}


def skip(trainer: Trainer, left_out: LeftOut) -> None:
    """Go on with the batches that come next."""
    progress = trainer.progress
    progress.batch += left_out.count
    progress.skipped += left_out.count
    trainer.journal.leave_out("skipped", left_out, trainer.position)
    trainer.tell("on_skip", f"{left_out.what}: skipped {left_out.named}")


def failure(trainer: Trainer, left_out: LeftOut) -> NoNumberError:
    """Return the error that names the batches; if the policy is to go back, it is caught."""
    cause = ""
    if not _weights_are_numbers(trainer):
        # Gradients are not looked at unless the policy needs them: that would cost every step.
        cause = f"the weights are no numbers either, since the gradient of step {left_out.step - 1} was none; "
    if trainer.config.on_nan == "stop":
        trainer.journal.leave_out("stopped", left_out)
    listen = f"`auralflow replay {trainer.store.folder.parent} --step {left_out.step}` writes them as WAVs"
    return NoNumberError(
        f"{left_out.what}; {cause}lower training.lr (now {trainer.lr():g}) or switch off use_mixed_precision, then go "
        f"on from the last good checkpoint with --resume, or set on_nan to skip or rollback; {listen}; the chunks: "
        f"{left_out.named}",
        left_out,
    )


def _weights_are_numbers(trainer: Trainer) -> bool:
    with trainer.passes.whole():  # Of weights that are spread over processes each has a part.
        return all(bool(parameter.isfinite().all()) for parameter in trainer.model.network.parameters())


def roll_back(trainer: Trainer, error: NoNumberError) -> None:
    """Go back to the last checkpoint, with a lower learning rate, and leave the batches out when they come again.

    The checkpoint is written anew with both, so that a resumed training goes the same way.

    Raises:
        NoNumberError: The policy is another one, or it has gone back too often.
    """
    progress, left_out = trainer.progress, error.left_out
    if trainer.config.on_nan != "rollback":
        raise error
    if progress.rollbacks == MOST_ROLLBACKS:
        raise NoNumberError(f"after {MOST_ROLLBACKS} rollbacks {error}", left_out) from error
    rollbacks = progress.rollbacks + 1
    avoided = [*progress.avoided, [left_out.epoch, left_out.batch]] if left_out else progress.avoided
    trainer.progress = progress = restore(trainer)
    trainer.world.barrier()  # All have read it.
    progress.rollbacks, progress.avoided = rollbacks, avoided
    trainer.model.scheduler.slow_down(SLOWER)
    trainer.save()
    if left_out:
        trainer.journal.leave_out("rolled back", left_out, trainer.position)
    back = f"back to step {progress.step}, with the learning rate {trainer.lr():g}"
    trainer.tell("on_skip", f"{left_out.what}: {back}, without {left_out.named}" if left_out else f"{error}: {back}")
