"""Checks of what a network is made of: weights from a seed, a stable state dict, everything moves with it."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from auralflow_core.testing.subject import (
    Subject,
    network_input,
    noise,
    random_state,
    relative_error,
    separate,
    train_step,
    training_pair,
)
from auralflow_core.testing.verdict import check, explained, listed

# Rounding of float32 through a deep network; far below what a buffer of another precision or scale would change.
_DOUBLE_TOLERANCE = 1e-2


class StateChecks(Subject):
    """The network's state is all in its parameters and buffers."""

    def test_random_seed_decides_the_weights(self) -> None:
        """Two builds with the same `random_seed` have the same weights, whatever the global generators' state."""
        builds = []
        for seed in (1, 2):
            with random_state(seed):
                builds.append(self.build(random_seed=5).network.state_dict())
        first, second = builds
        unlike = [name for name in first if name not in second or not torch.equal(first[name], second[name])]
        check(
            not unlike,
            f"{listed(unlike)} differ between two builds with the same random_seed",
            "draw initial weights from torch's global generator, which the build seeds; not from numpy or random",
        )

    def test_state_names_are_stable(self) -> None:
        """Two builds have the same names and shapes in their state dict, and a training step adds none."""
        first, second = self.build(random_seed=1), self.build(random_seed=2)
        with random_state(0):
            train_step(second, *training_pair(2, second))
        shapes = [
            {name: value.shape for name, value in model.network.state_dict().items()} for model in (first, second)
        ]
        unlike = [name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)]
        check(
            not unlike,
            f"{listed(unlike)} are in one state dict and not, or with another shape, in the other",
            "create all parameters and buffers in the constructor, under fixed names and with fixed sizes",
        )

    def test_checkpoint_round_trip(self) -> None:
        """A trained network's weights that are saved and loaded into a new one give the same estimates."""
        audio = noise(2, 1, 1500)
        with tempfile.TemporaryDirectory() as folder:
            trained = self.build(random_seed=1, folder=Path(folder))
            with random_state(0):
                train_step(trained, *training_pair(2, trained))
            loaded = self.build(random_seed=2, folder=Path(folder))
            with explained(
                "the weights cannot be saved and loaded again", "keep tensors in parameters and buffers of fixed shapes"
            ):
                trained.save_model(1)
                loaded.load_model(1)
        check(
            torch.equal(separate(trained, audio), separate(loaded, audio)),
            "a loaded network's estimates differ from those of the one that was saved",
            "register what training changes as a parameter or buffer (not persistent=False)",
        )

    def test_network_can_be_copied(self) -> None:
        """A deep copy of the network gives the same output and shares no parameter with it."""
        model = self.evaluation_model()
        given = network_input(model, noise(1, 1, 1500))
        with torch.no_grad(), explained("the network cannot be deep-copied", "keep no handles, locks or lambdas in it"):
            twin = copy.deepcopy(model.network)
            same = torch.equal(twin(given), model.network(given))
        check(same, "a deep copy of the network gives another output", "keep all state in the network itself")
        shared = {id(value) for value in model.network.parameters()} & {id(value) for value in twin.parameters()}
        check(not shared, "a deep copy shares parameters with its original", "do not override __deepcopy__")

    def test_network_moves_to_double(self) -> None:
        """`network.double()` computes in double precision throughout, also after it has run in single precision."""
        model = self.evaluation_model()
        given = network_input(model, noise(1, 1, 1500))
        with torch.no_grad():
            expected = model.network(given)
            with explained(
                "the network cannot run in double precision",
                "register constants with register_buffer, make new tensors with x.new_zeros or dtype=x.dtype",
            ):
                network = model.network.double()
                output = network(given.to(torch.complex128 if given.is_complex() else torch.float64))
        wanted = torch.complex128 if expected.is_complex() else torch.float64
        check(
            output.dtype == wanted,
            f"the output of the network in double precision is {output.dtype}",
            "do not cast to float() inside; make new tensors with dtype=x.dtype",
        )
        single = [name for name, value in network.named_buffers() if value.dtype == torch.float32]
        check(not single, f"buffers {listed(single)} stay in single precision", "do not override _apply or double")
        error = relative_error(output.to(expected.dtype), expected)
        check(
            error <= max(_DOUBLE_TOLERANCE, self.tolerance),
            f"the output in double precision differs by {error:.1e}",
            "look for constants that depend on the dtype",
        )

    def test_no_tensor_stays_behind(self) -> None:
        """Moving the network to another device or precision moves every tensor that it holds."""
        network = self.build().network
        with explained("the network cannot be moved", "do not override to() or _apply()"):
            moved = {"device": copy.deepcopy(network).to("meta"), "precision": copy.deepcopy(network).double()}
        left = {name for name, value in held_tensors(moved["device"]) if value.device.type != "meta"}
        left |= {name for name, value in held_tensors(moved["precision"]) if value.dtype == torch.float32}
        check(
            not left,
            f"tensors {listed(sorted(left))} do not move with the network",
            "a tensor in a plain attribute stays on its device: use self.register_buffer(name, tensor, "
            "persistent=False)",
        )


def held_tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor that a network's modules hold, with its dotted name: in attributes, lists and dicts too."""
    for path, module in network.named_modules():
        facts = {**vars(module), **module._parameters, **module._buffers}
        for name, value in facts.items():
            # Submodules come by themselves; loss_terms belong to the last training pass.
            if name not in ("_modules", "_parameters", "_buffers", "loss_terms"):
                yield from _tensors_in(f"{path}.{name}".lstrip("."), value)


def _tensors_in(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _tensors_in(f"{name}[{key!r}]", inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _tensors_in(f"{name}[{index}]", inner)
