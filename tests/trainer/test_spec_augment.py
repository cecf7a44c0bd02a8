"""Masks on the network's input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from auralflow_core.config.training_groups import SpecAugmentConfig
from auralflow_core.errors import ConfigError
from auralflow_core.trainer import Trainer
from auralflow_core.trainer.spec_augment import SpecAugment

TrainerMaker = Callable[..., Trainer]


class Watching(nn.Module):
    """Masks by a half, and keeps what it was given, by mode and in order."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[bool, Tensor]] = []

    def forward(self, magnitude: Tensor) -> Tensor:
        self.seen.append((self.training, magnitude.detach().clone()))
        return self.weight.sigmoid() * torch.ones_like(magnitude)


def hidden(config: dict[str, Any], batch: int = 3, bins: int = 40, frames: int = 50) -> Tensor:
    """Return which of `(batch, channel, bin, frame)` is hidden."""
    ones = torch.ones(batch, 2, bins, frames)
    return SpecAugment(SpecAugmentConfig(zero_masking=True, **config))(ones) == 0


@given(
    st.integers(0, 4),
    st.integers(0, 60),
    st.integers(0, 4),
    st.integers(0, 60),
    st.floats(0, 1),
    st.booleans(),
)
def test_bounds(times: int, longest: int, freqs: int, widest: int, p: float, iid: bool) -> None:
    settings = {"n_time_masks": times, "time_mask_param": longest, "n_freq_masks": freqs, "freq_mask_param": widest}
    found = hidden({**settings, "p": p, "iid_masks": iid})
    assert torch.equal(found[:, 0], found[:, 1])
    frames, bins = found[:, 0].all(dim=1).sum(-1), found[:, 0].all(dim=2).sum(-1)
    for item in range(len(found)):
        if bins[item] < 40:  # else all frames are hidden, by masks over frequency
            assert frames[item] <= min(times * longest, p * 50)
        if frames[item] < 50:
            assert bins[item] <= freqs * widest
    # Nothing but whole frames and whole bins is hidden.
    whole = found[:, 0].all(dim=1, keepdim=True) | found[:, 0].all(dim=2, keepdim=True)
    assert torch.equal(found[:, 0], whole.expand_as(found[:, 0]))
    if not iid:
        assert torch.equal(found[0], found[1])


def test_masks_differ_between_items_only_if_told() -> None:
    torch.manual_seed(0)
    assert not torch.equal(*hidden({"iid_masks": True}, batch=2))
    assert torch.equal(*hidden({"iid_masks": False}, batch=2))


def test_the_number_of_masks_counts() -> None:
    torch.manual_seed(0)
    settings = {"n_freq_masks": 0, "time_mask_param": 5}
    shares = [float(hidden({**settings, "n_time_masks": count}, batch=500).float().mean()) for count in (0, 1, 4)]
    # A mask has 2.5 frames of 50 in the mean.
    assert shares[0] == 0 and shares[1] == pytest.approx(0.05, rel=0.1) and 0.17 < shares[2] < 0.2


def test_the_filling() -> None:
    torch.manual_seed(0)
    magnitude = torch.rand(2, 1, 20, 30) * torch.tensor([1.0, 5.0])[:, None, None, None]
    for zero in (True, False):
        found = SpecAugment(SpecAugmentConfig(zero_masking=zero))(magnitude)
        changed = found != magnitude
        assert changed.any()
        for item in range(2):
            filling = torch.unique(found[item][changed[item]])
            assert filling.tolist() == pytest.approx([0.0 if zero else float(magnitude[item].mean())])


@pytest.mark.parametrize(("after", "first"), [(0, 0), (1, 8), (-1, None)])
def test_it_begins_after_some_epochs_and_only_the_input_is_hidden(
    make_trainer: TrainerMaker, after: int, first: int | None
) -> None:
    plain, masked = Watching(), Watching()
    settings: dict[str, Any] = {"lr": 1e-9, "max_epochs": 2}
    make_trainer("plain", [], plain, **settings).fit()
    masks = {"n_time_masks": 1, "time_mask_param": 6, "n_freq_masks": 1, "freq_mask_param": 9}
    trainer = make_trainer(
        "masked", [], masked, spec_augment=masks, start_spec_augment_after_n_epochs=after, **settings
    )
    trainer.fit()
    passes = zip(plain.seen, masked.seen, strict=True)
    differing = [(mode, not torch.equal(one, other)) for (mode, one), (_, other) in passes]
    assert not any(differs for is_training, differs in differing if not is_training)
    in_training = [differs for is_training, differs in differing if is_training]
    assert in_training.index(True) - (first or 0) < 3 if first is not None else not any(in_training)
    assert not any(in_training[: first or 0])


def test_losses_compare_whole_spectrograms(make_trainer: TrainerMaker, make_recorder: Callable[[], Any]) -> None:
    # This network's output does not depend on its input, so masks on the input must leave its loss as it is.
    plain, masked = make_recorder(), make_recorder()
    make_trainer("plain", [plain], Watching()).fit()
    make_trainer("masked", [masked], Watching(), spec_augment={}).fit()
    assert [step.loss for step in masked.steps] == pytest.approx([step.loss for step in plain.steps], rel=1e-6)


def test_other_domains_are_refused(make_trainer: TrainerMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    from auralflow_core.model import SpectrogramMaskModel

    monkeypatch.setattr(SpectrogramMaskModel, "domain", "waveform")
    with pytest.raises(ConfigError, match="Toy works in the waveform domain; set it to null"):
        make_trainer(spec_augment={})
