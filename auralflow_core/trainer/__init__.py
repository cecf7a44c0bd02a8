"""Training: the loop, what it tells its callbacks, and the callbacks that write pictures, audio and runs."""

from auralflow_core.trainer.callbacks import Callback, Epoch, Step
from auralflow_core.trainer.loop import Trainer
from auralflow_core.trainer.progress import Summary

__all__ = ["Callback", "Epoch", "Step", "Summary", "Trainer"]
