from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from auralflow_core.errors import ConfigError
from auralflow_core.registry import default_registry
from auralflow_openunmix import OpenUnmixParams
from auralflow_openunmix.network import OpenUnmix

# As listed from a published file of three bidirectional layers.
_LSTM = [f"lstm.{kind}_l{layer}{way}" for layer in range(3) for way in ("", "_reverse") for kind in
         ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]  # fmt: skip
_NORMS = [f"bn{number}.{name}" for number in (1, 2, 3) for name in
          ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]  # fmt: skip
_SCALING = ["input_mean", "input_scale", "output_scale", "output_mean"]
PUBLISHED = {"fc1.weight", "fc2.weight", "fc3.weight", *_LSTM, *_NORMS, *_SCALING}


def magnitudes(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 3


def small(**arguments: Any) -> OpenUnmix:
    torch.manual_seed(0)
    return OpenUnmix(**{"num_fft_bins": 33, "num_channels": 2, "hidden_size": 8, **arguments}).eval()


@pytest.mark.parametrize("target", ["vocals", "drums"])
def test_equals_the_peer(target: str, peer: dict[str, Tensor], peer_network: Callable[[str], OpenUnmix]) -> None:
    with torch.no_grad():
        found = peer_network(target)(peer["magnitude"]) * peer["magnitude"]
    expected = peer[f"output.{target}"]
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_state_has_the_names_of_the_published_files() -> None:
    assert set(small().state_dict()) == PUBLISHED
    several = small(num_targets=2)
    assert set(several.state_dict()) == {f"targets.{number}.{name}" for number in (0, 1) for name in PUBLISHED}


def test_published_sizes() -> None:
    """The numbers of the paper's model: 1487 bins are those up to 16 kHz."""
    network = OpenUnmix(2049, max_bin=1487)
    state = network.state_dict()
    shapes = {name: tuple(state[name].shape) for name in ("fc1.weight", "fc2.weight", "fc3.weight", "input_mean")}
    assert shapes == {
        "fc1.weight": (512, 2974),
        "fc2.weight": (512, 1024),
        "fc3.weight": (4098, 512),
        "input_mean": (1487,),
    }
    assert sum(parameter.numel() for parameter in network.parameters()) == 8_893_348


def test_what_was_once_part_of_the_network_is_left_out() -> None:
    state = {**small().state_dict(), "stft.window": torch.ones(4), "sample_rate": torch.tensor(44100.0)}
    given = dict(state)
    small().load_state_dict(state)
    assert state.keys() == given.keys()  # what the caller holds is left alone


@pytest.mark.parametrize("change", [{"num_layers": 2}, {"num_layers": 4}, {"hidden_size": 10}, {"num_targets": 2}])
def test_weights_of_other_sizes_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match=r"Missing|Unexpected|size mismatch"):
        small(**change).load_state_dict(small().state_dict())


def test_weights_of_several_targets_do_not_fit_one() -> None:
    with pytest.raises(RuntimeError, match="Missing"):
        small().load_state_dict(small(num_targets=2).state_dict())


@pytest.mark.parametrize("num_targets", [1, 3])
@pytest.mark.parametrize("unidirectional", [False, True])
def test_windows_give_the_same_masks(num_targets: int, unidirectional: bool) -> None:
    network = small(num_targets=num_targets, unidirectional=unidirectional, max_bin=20)
    whole = magnitudes(2, 2, 33, 25)
    with torch.no_grad():
        expected = network(whole)
        parts = list(network.mask_windows(whole.split(10, dim=-1)))
    assert [part.shape[-1] for part in parts] == [10, 10, 5]
    found = torch.cat(parts, dim=-1)
    torch.testing.assert_close(found if num_targets > 1 else found.squeeze(1), expected, atol=1e-6, rtol=1e-5)


def test_targets_have_networks_of_their_own() -> None:
    network = small(num_targets=2)
    data = magnitudes(1, 2, 33, 5)
    with torch.no_grad():
        masks = network(data)
        assert torch.equal(masks[:, 1], network.targets[1](data))
    assert not torch.equal(masks[:, 0], masks[:, 1])


def test_bins_above_max_bin_are_not_seen_but_masked() -> None:
    network = small(max_bin=20)
    low = magnitudes(1, 2, 33, 5)
    high = low.clone()
    high[:, :, 20:] += 1
    with torch.no_grad():
        assert torch.equal(network(low), network(high))
        assert network(low).shape == (1, 2, 33, 5)


def test_forward_recurrence_does_not_look_ahead() -> None:
    data = magnitudes(1, 2, 33, 9)
    changed = data.clone()
    changed[..., 5:] += 1

    def same(network: OpenUnmix) -> bool:
        with torch.no_grad():
            return torch.allclose(network(data)[..., :5], network(changed)[..., :5])

    assert same(small(unidirectional=True))
    assert not same(small())


def test_input_is_standardised_by_the_songs_statistics() -> None:
    mean, scale = torch.rand(33) + 1, torch.rand(33) + 0.5
    plain, standardising = small(), small(input_mean=mean, input_scale=scale)
    data = magnitudes(1, 2, 33, 5)
    with torch.no_grad():
        expected = plain((data - mean[:, None]) / scale[:, None])
        torch.testing.assert_close(standardising(data), expected, atol=1e-5, rtol=1e-5)


def test_more_bins_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_bin: 40 is more than the 33 bins"):
        small(max_bin=40)


def test_odd_size_of_two_directions_is_refused() -> None:
    with pytest.raises(ValueError, match="use 10"):
        OpenUnmixParams(hidden_size=9)
    assert OpenUnmixParams(hidden_size=9, unidirectional=True).hidden_size == 9


def test_found_through_the_public_face() -> None:
    from auralflow.models import OpenUnmix as Found

    assert issubclass(Found, OpenUnmix)
    assert default_registry().models.get("OpenUnmix").domain == "magnitude"
