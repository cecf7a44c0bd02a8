"""The networks that Demucs saved, and what it makes of a mixture with them (see peer/make.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from auralflow_core.build import build_model
from auralflow_core.config import Config, validate
from auralflow_core.errors import CheckpointError
from auralflow_core.model import SeparationModel
from auralflow_demucs.bag import DemucsBag
from auralflow_demucs.hdemucs import HDemucs
from auralflow_demucs.weights import (
    PUBLISHED,
    bag,
    convert,
    hdemucs_mmi,
    htdemucs_ft,
    mdx,
    params_of,
    read_package,
    single,
)

PEER = Path(__file__).with_name("peer")
NAMES = ("Demucs", "HDemucs", "HTDemucs")


def facts(name: str) -> dict[str, Tensor]:
    return load_file(PEER / f"{name}.safetensors")


def model(*names: str, make: Any = single) -> SeparationModel:
    """Return the model of some files, as `auralflow.models.load` makes it of downloaded ones."""
    paths = {f"{name}.th": PEER / f"{name}.th" for name in names}
    groups = make(paths)
    type_ = "DemucsBag" if len(names) > 1 else names[0]
    config = validate(Config, {**groups, "model": {"type": type_, **groups["model"]}})
    built = build_model(config)
    built.network.load_state_dict(convert(paths))
    built.eval()
    return built


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max()) <= tolerance * float(expected.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_estimates_are_the_peers(name: str) -> None:
    peer = facts(name)
    assert_close(model(name).separate(peer["mixture"].float()), peer["estimates"])


def test_older_padding_is_the_peers() -> None:
    peer, package = facts("HDemucs"), read_package(PEER / "HDemucs.th")
    network = HDemucs(num_targets=2, **{**params_of(package), "hybrid_old": True})
    network.load_state_dict(package.state)
    with torch.no_grad():
        assert_close(network.eval()(peer["mixture"][..., :300].float()), peer["old estimates"])


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradients_are_the_peers(name: str) -> None:
    peer = facts(name)
    network = model(name).network.train()
    mixture = peer["mixture"].float()
    loss = (network(mixture) - 0.5 * mixture.unsqueeze(1)).abs().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for _, parameter in sorted(network.named_parameters())]
    norms = torch.stack([gradient.norm() for gradient in gradients if gradient is not None])
    torch.testing.assert_close(loss.detach(), peer["loss"], rtol=1e-5, atol=0)
    # What a normalization behind it takes away has a gradient of rounding alone.
    torch.testing.assert_close(norms, peer["gradients"], rtol=1e-4, atol=1e-7)


def test_configuration_is_that_of_the_file() -> None:
    config = model("HTDemucs").config
    assert config.dataset.targets == ["drums", "bass"]
    assert (config.dataset.sample_rate, config.dataset.num_channels) == (8000, 2)
    separation = config.separation
    assert (separation.segment, separation.overlap) == (0.3, 0.25)
    assert (separation.window, separation.final_segment) == ("triangle", "padded")
    assert config.model.params["t_layers"] == 2
    assert config.model.params["segment"] == 0.3


def test_a_hybrid_network_is_given_segments_of_its_release() -> None:
    # The release says 44 s, whatever the file was trained with.
    assert model("HDemucs", make=hdemucs_mmi).config.separation.segment == 44
    assert model("HDemucs").config.separation.segment == 2


def test_bag_weighs_each_target() -> None:
    names = ("Demucs", "HDemucs")
    mixture = facts("Demucs")["mixture"].float()
    one, other = (model(name).separate(mixture) for name in names)
    assert_close(model(*names, make=bag).separate(mixture), (one + other) / 2)

    def weighted(paths: dict[str, Path]) -> dict[str, Any]:
        return bag(paths, weights=[[1, 3], [0, 1]])

    expected = torch.stack([one[:, 0], (3 * one[:, 1] + other[:, 1]) / 4], dim=1)
    assert_close(model(*names, make=weighted).separate(mixture), expected)


def test_bag_takes_the_shortest_segment() -> None:
    assert model("Demucs", "HTDemucs", make=bag).config.separation.segment == 0.3


def test_members_without_weight_are_not_run() -> None:
    member = {"type": "Demucs", "params": {"channels": 4, "depth": 1, "dconv_mode": 0}}
    network = DemucsBag(members=[member, member], weights=[[1, 1], [0, 0]], num_targets=2)
    network.models[1].register_forward_pre_hook(lambda *_: pytest.fail("a member without weight ran"))
    network(torch.zeros(1, 2, 100))


def test_published_bags_have_weights_for_their_members() -> None:
    for make, name in ((htdemucs_ft, "htdemucs_ft"), (mdx, "mdx")):
        weights = make.keywords["weights"]
        assert len(weights) == len(PUBLISHED[name][2])
        assert all(len(row) == 4 for row in weights)


def test_other_files_are_refused(tmp_path: Path) -> None:
    for number, content in enumerate(
        ({"weight": torch.zeros(1)}, {"klass": DemucsBag, "kwargs": {}, "state": {}}, [1])
    ):
        path = tmp_path / f"{number}.th"
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=path.name):
            single({path.name: path})
