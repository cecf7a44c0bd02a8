"""Augmentations of training chunks, each a function of what was drawn, which is a function of the chunk's name.

A chunk is given as *parts*, float32 `(part, channel, time)`: the targets, followed by what else is in the mixture (the
rest), so that the mixture is their sum. Everything drawn for a chunk is its *plan*, plain data that
`Augmenter.plan(epoch, number)` makes of the seed and the chunk's name alone:

    augmenter = Augmenter(config.augmentations, config.sample_rate, config.targets, seed)
    plan = augmenter.plan(epoch, number)              # {"vocals": [{"effect": "gain", "db": -2.3}], ...}
    rate = augmenter.rate(plan)                       # what is read is longer by it: a faster tempo takes more
    mixture, targets = augmenter(parts, plan, chunk_frames)

Modules: `draws` makes plans; `level`, `spectrum`, `damage` and `stretch` hold the effects, `effects` names them;
`augmenter` applies plans.
"""

from auralflow_core.data.augment.augmenter import Augmenter
from auralflow_core.data.augment.draws import Plan

__all__ = ["Augmenter", "Plan"]
