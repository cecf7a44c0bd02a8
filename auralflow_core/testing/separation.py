"""Checks of what comes out in evaluation mode: in time, each item by itself, the same every time, finite."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from auralflow_core.model.separation import variant
from auralflow_core.testing.subject import (
    Subject,
    audio_gradient,
    named_state,
    network_input,
    noise,
    random_state,
    relative_error,
    separate,
    warnings_caught,
)
from auralflow_core.testing.verdict import check, explained, listed

# Parts of a signal whose influence on each other is measured.
_PARTS = 8
# Of the largest sample: a bfloat16 has eight bits, and networks of twenty layers come to 0.02.
_BFLOAT16_ERROR = 0.1


class SeparationChecks(Subject):
    """Estimates depend on their own item and time, and on nothing that changes between two calls."""

    def test_estimates_keep_their_time(self) -> None:
        """What comes out at a time depends on what goes in around it: not reversed, shifted, or cut and padded.

        Even a network with random weights passes on most of what it gets at a time at about that time. So the
        gradient of each eighth of its output must be by the same eighth of its input, for the most part.
        """
        model = self.evaluation_model()
        given = network_input(model, noise(1, 1, 3 * model.config.dataset.chunk_frames))
        influence = _influence(model.network, given)
        if influence is None:
            return  # a mask that does not depend on the input cannot misplace it
        strength = influence.sum(1)
        deaf = [part for part in range(_PARTS) if strength[part] < 1e-9 * strength.median()]
        check(
            not deaf,
            f"eighths {deaf} of the output do not depend on the input",
            "the network cuts its input short and fills the rest; use all of it",
        )
        shares = influence / strength[:, None]
        by_lag = {lag: float(shares.diagonal(lag).mean()) for lag in range(-_PARTS // 2, _PARTS // 2 + 1)}
        strongest = max(by_lag, key=lambda lag: by_lag[lag])
        # Reversed time has no lag of its own, but leaves the diagonal below an even share.
        check(
            by_lag[0] >= max(0.5 * by_lag[strongest], 0.75 / _PARTS),
            f"only {by_lag[0]:.0%} of the output's gradient is by input of about the same time "
            f"({by_lag[strongest]:.0%} is by input {strongest} eighths of the signal away)",
            "look for a flip, a roll, or an axis of time that is mistaken for another",
        )

    def test_batch_items_do_not_leak(self) -> None:
        """An item gives the same estimates alone and in a batch with others."""
        model = self.evaluation_model(num_targets=2)
        batch = _unlike_items()
        together = separate(model, batch)
        for index in range(len(batch)):
            error = relative_error(together[index], separate(model, batch[index : index + 1])[0])
            check(
                error <= self.tolerance,
                f"item {index} of a batch differs by {error:.1e} from the same item alone",
                "let no mean, normalization or recurrence run over the batch axis in evaluation mode",
            )

    def test_no_gradient_between_batch_items(self) -> None:
        """The estimates of an item have no gradient by the other items of the batch."""
        model = self.evaluation_model()
        batch = _unlike_items()
        for index in range(len(batch)):
            weights = torch.zeros(len(batch), 1, 1, batch.shape[-1])
            weights[index] = noise(1, 1, batch.shape[-1], level=1)
            gradient = audio_gradient(model, batch, weights).abs().amax(dim=(1, 2))
            leaks = [other for other in range(len(batch)) if other != index and gradient[other] > 0]
            check(
                not leaks,
                f"the estimates of item {index} have a gradient by items {leaks}",
                "let nothing run over the batch axis: check batch_first, flatten and reshape of recurrent layers",
            )

    def test_order_of_the_batch_does_not_matter(self) -> None:
        """A permuted batch gives the permuted estimates: no recurrence over the batch."""
        model = self.evaluation_model(num_targets=2)
        batch = _unlike_items()
        order = [2, 0, 1]
        error = relative_error(separate(model, batch[order]), separate(model, batch)[order])
        check(
            error <= self.tolerance,
            f"estimates change by {error:.1e} with the order of the batch",
            "a recurrent layer may run over the batch: use batch_first=True, or put time on its first axis",
        )

    def test_evaluation_is_deterministic(self) -> None:
        """Two calls with the same audio give the same estimates."""
        model = self.evaluation_model()
        audio = noise(2, 1, 1500)
        check(
            torch.equal(separate(model, audio), separate(model, audio)),
            "two calls in evaluation mode give different estimates",
            "sample only `if self.training`, take the mean otherwise, and keep no state between calls",
        )

    def test_evaluation_ignores_global_random_state(self) -> None:
        """Estimates do not depend on the global random generators and draw nothing from torch's."""
        model = self.evaluation_model()
        audio = noise(2, 1, 1500)
        estimates = []
        for seed in (1, 2):
            with random_state(seed):
                before = torch.get_rng_state()
                estimates.append(separate(model, audio))
                drew = not torch.equal(before, torch.get_rng_state())
        check(
            torch.equal(*estimates),
            "estimates depend on the state of the global random generators",
            "draw nothing in evaluation mode, from torch, random or numpy",
        )
        check(
            not drew,
            "evaluation draws from torch's global generator, which changes a resumed training",
            "draw random numbers only `if self.training`",
        )

    def test_evaluation_changes_no_state(self) -> None:
        """Separating leaves parameters, buffers and the training mode as they were."""
        model = self.build()
        model.train()
        before = named_state(model.network)
        separate(model, noise(2, 1, 1500))
        after = named_state(model.network)
        changed = [name for name in before if not torch.equal(before[name], after[name])]
        check(
            not changed and model.training,
            f"evaluation changes {listed(changed) or 'the training mode'}",
            "update buffers only `if self.training`",
        )

    def test_silence_separates_into_finite_estimates(self) -> None:
        """Silence gives finite estimates, and masked silence is silent; so does a silent item beside a loud one."""
        model = self.evaluation_model(num_targets=2)
        batch = torch.cat([torch.zeros(1, 1, 1500), noise(1, 1, 1500)])
        estimates = separate(model, batch)
        check(
            bool(estimates.isfinite().all()),
            "estimates of silence hold NaN or infinity",
            "add a small constant under logarithms and square roots and to divisors",
        )
        # Of the complex domain, whose networks say what they return.
        is_mask = model.makes_mask or getattr(model, "output", None) == "mask"
        check(
            not is_mask or not estimates[0].any(),
            "masks do not leave silence silent",
            "return finite masks for silence",
        )

    def test_loud_audio_stays_finite(self) -> None:
        """Audio ten times louder than full scale, a click and an offset give finite estimates."""
        model = self.evaluation_model()
        click = torch.zeros(1, 1, 1500)
        click[..., 700] = 1.0
        kinds = {"loud noise": noise(1, 1, 1500, level=10), "a click": click, "an offset": torch.ones(1, 1, 1500)}
        for name, audio in kinds.items():
            check(
                bool(separate(model, audio).isfinite().all()),
                f"estimates of {name} hold NaN or infinity",
                "normalize the input, or bound exponentials",
            )

    def test_separation_in_lower_precision(self) -> None:
        """With `separation.dtype: bfloat16` the estimates are those of float32, but for that type's eight bits."""
        model = self.evaluation_model(num_targets=2)
        rough = variant(model, model.config.separation.model_copy(update={"dtype": "bfloat16"}))
        audio = noise(2, 1, 1500)
        remedy = "layers return bfloat16 under autocast, but torch.bmm(out=) and FFTs do not: cast with .to(x.dtype)"
        with explained("the network cannot separate in bfloat16", remedy):
            estimates = rough.separate(audio)
        error = relative_error(estimates, model.separate(audio))
        check(
            error <= _BFLOAT16_ERROR,
            f"estimates in bfloat16 differ by {error:.1e} from those in float32",
            "compute sums, norms, logarithms and differences of near numbers in float32",
        )

    def test_no_warnings(self) -> None:
        """Building and separating give no warning."""
        with warnings_caught() as caught:
            separate(self.evaluation_model(), noise(2, 1, 1500))
        texts = sorted({f"{warning.category.__name__}: {warning.message}" for warning in caught})
        check(not texts, f"warnings are given: {listed(texts, 2)}", "mend what they are about")


def _unlike_items() -> Tensor:
    """Return three items of different levels and shapes: what leaks between them shows."""
    batch = noise(3, 1, 1777)
    batch[0] *= 0.1
    batch[2, :, :900] = 0
    return batch


def _influence(network: nn.Module, given: Tensor) -> Tensor | None:
    """Return the energy of the gradient of each part of a network's output by each part of its input.

    Args:
        network: Its last axis in and out is time or frames.
        given: `(1, channel, ..., time)`.

    Returns:
        `(part of the output, part of the input)`, or none if the output does not depend on the input.
    """
    given = given.requires_grad_()
    with explained("the network has no gradient by its input", "it must be made of differentiable operations"):
        output = network(given)
        output = torch.view_as_real(output).flatten(-2) if output.is_complex() else output
        if not output.requires_grad:
            return None
        signs = noise(*output.shape, level=1).sign()
        rows = []
        for part in (output * signs).tensor_split(_PARTS, dim=-1):
            (gradient,) = torch.autograd.grad(part.sum(), given, retain_graph=True, allow_unused=True)
            if gradient is None:
                return None
            energy = gradient.abs().square().double()
            rows.append(torch.stack([piece.sum() for piece in energy.tensor_split(_PARTS, dim=-1)]))
    influence = torch.stack(rows)
    return influence if influence.any() else None
