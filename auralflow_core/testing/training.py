"""Checks of training: every parameter learns, the loss falls, and nothing breaks on silence or in other modes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from auralflow_core.model import SeparationModel
from auralflow_core.testing.subject import Subject, noise, random_state, separate, train_step, training_pair
from auralflow_core.testing.verdict import check, explained, listed

_STEPS = 40
_WANTED_FALL = 0.1
_BATCHES = 3


class TrainingChecks(Subject):
    """Training steps through the wrapper reach all parameters and lower the loss."""

    def test_gradients_reach_every_parameter(self) -> None:
        """In a few training steps every trainable parameter gets a gradient, finite and not zero."""
        model = self.build(num_targets=2)
        learning = {name: value for name, value in model.network.named_parameters() if value.requires_grad}
        reached: set[str] = set()
        with random_state(0):
            for seed in range(_BATCHES):
                train_step(model, *training_pair(2, model, seed))
                _check_gradients(model, "noise")
                reached |= {
                    name for name, value in learning.items() if value.grad is not None and bool(value.grad.any())
                }
        missed = [name for name in learning if name not in reached]
        check(
            not missed,
            f"no gradient reaches {listed(missed)} in {_BATCHES} training steps",
            "use the layer in forward, remove it, or set requires_grad=False; look for detach() and no_grad()",
        )

    def test_silence_trains_with_finite_gradients(self) -> None:
        """A silent batch, and a silent item beside another, give a finite loss and finite gradients."""
        model = self.build()
        mixture, target = training_pair(2, model)
        with random_state(0):
            for name, level in {"silence": torch.zeros(2), "a silent item": torch.tensor([0.0, 1.0])}.items():
                loss = train_step(model, mixture * level[:, None, None], target * level[:, None, None, None])
                check(
                    math.isfinite(loss),
                    f"the loss of {name} is {loss}",
                    "add a small constant under logarithms and square roots and to divisors",
                )
                _check_gradients(model, name)

    def test_training_on_a_batch_of_one(self) -> None:
        """The last batch of an epoch may hold one item: it trains too."""
        model = self.build(num_targets=2)
        with random_state(0):
            loss = train_step(model, *training_pair(1, model))
        check(math.isfinite(loss), f"the loss of a batch of one is {loss}", "normalize over more than the batch axis")
        _check_gradients(model, "a batch of one")

    def test_training_lowers_the_loss(self) -> None:
        """Some forty steps on one batch lower its loss by a tenth."""
        model = self.build()
        mixture, target = training_pair(4, model)
        losses: list[float] = []
        with random_state(0):
            while len(losses) < _STEPS and not _has_fallen(losses):
                losses.append(train_step(model, mixture, target))
        check(
            _has_fallen(losses),
            f"{len(losses)} steps on one batch take the loss from {losses[0]:.4g} to {losses[-1]:.4g} only",
            "look for a saturated activation, a detached path or bad initial weights; "
            '`config = {"training": {"lr": ...}}` sets another learning rate',
        )

    def test_seeded_training_is_exact(self) -> None:
        """Two trainings from the same seeds end in the same weights, to the bit: resuming depends on it."""
        ends: list[dict[str, Tensor]] = []
        for _ in range(2):
            model = self.build()
            with random_state(7):
                for seed in range(2):
                    train_step(model, *training_pair(2, model, seed))
            ends.append(model.network.state_dict())
        unlike = [name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])]
        check(
            not unlike,
            f"{listed(unlike)} differ after two trainings from the same seed",
            "draw random numbers from torch's global generator, and keep no state outside of the network",
        )

    def test_training_with_mixed_precision(self) -> None:
        """A step under autocast (bfloat16 on the CPU) gives a finite loss and finite gradients."""
        model = self.build(use_mixed_precision=True)
        remedy = "under autocast layers return bfloat16: cast it with .to(x.dtype) for what takes none (FFT, complex)"
        with random_state(0):
            loss = train_step(model, *training_pair(2, model), remedy)
        check(math.isfinite(loss), f"the loss under autocast is {loss}", "compute sums and norms in float32")
        _check_gradients(model, "autocast")

    def test_training_after_separating(self) -> None:
        """A model that has separated in `torch.inference_mode` goes on training: validation comes between epochs."""
        model = self.build()
        mixture, target = training_pair(2, model)
        with torch.inference_mode():
            separate(model, mixture)
        remedy = "make anew, or register as a buffer, the tensors that the network keeps from one call to the next"
        with random_state(0):
            train_step(model, mixture, target, remedy)
        separate(model, noise(1, 1, 1500))

    def test_loss_terms_are_there_in_training_only(self) -> None:
        """The terms that `loss_term_names` declares are finite scalars in training and have no part in evaluation."""
        model = self.build()
        declared = set(getattr(model.network, "loss_term_names", ()))
        mixture, target = training_pair(2, model)
        with random_state(0):
            train_step(model, mixture, target)
        terms = model.own_terms()
        check(
            set(terms) == declared,
            f"training leaves the loss terms {sorted(terms)}, but loss_term_names declares {sorted(declared)}",
            "set `self.loss_terms = {name: scalar}` in forward and `loss_term_names = (name, ...)` on the class",
        )
        bad = [name for name, value in terms.items() if value.numel() != 1 or not bool(value.isfinite().all())]
        check(not bad, f"loss terms {listed(bad)} are no finite scalars", "take the mean over batch and features")
        model.set_data(mixture, target)
        with explained("evaluating after training fails", "leave loss_terms alone in evaluation mode"):
            model.test()
        assert model.prediction is not None
        late = declared & set(model.prediction.terms)
        check(not late, f"loss terms {listed(late)} are added in evaluation", "set them only `if self.training`")


def _check_gradients(model: SeparationModel, data: str) -> None:
    bad = [
        name
        for name, value in model.network.named_parameters()
        if (value.grad is not None and not value.grad.isfinite().all()) or not value.isfinite().all()
    ]
    check(
        not bad,
        f"training on {data} gives {listed(bad)} NaN or infinite gradients",
        "the gradient of sqrt, log, norm and division at zero is infinite: add a small constant inside",
    )


def _has_fallen(losses: list[float]) -> bool:
    """Whether the mean of the last five losses is below the first by the wanted share of it."""
    if len(losses) < 6:
        return False
    # A share of the absolute value: SI-SDR's loss is negative.
    return sum(losses[-5:]) / 5 <= losses[0] - _WANTED_FALL * abs(losses[0])
