from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from auralflow_core.build import build_network, resolve
from auralflow_core.cli import main
from auralflow_core.config import Config, load_config, validate
from auralflow_core.entries import WeightsEntry
from auralflow_core.registry import default_registry

NAMES = ("umx", "umxhq", "umxl", "umxse")


@pytest.fixture(params=NAMES)
def entry(request: pytest.FixtureRequest) -> WeightsEntry:
    return default_registry().weights.get(request.param)


def test_files_are_named_after_their_target_and_digest(entry: WeightsEntry) -> None:
    targets = entry.config["dataset"]["targets"]
    assert len(entry.files) == len(targets)
    for target, (file, url) in zip(targets, entry.files.items(), strict=True):
        assert re.fullmatch(rf"{target}[-_][0-9a-f]{{8}}\.pth", file)
        assert entry.sha256[file] in file
        assert re.fullmatch(rf"https://zenodo\.org/records/\d+/files/{re.escape(file)}", url)
    assert entry.licence


def test_their_recipe_goes_before_the_types_own(tmp_path: Path) -> None:
    for words in (("own", "OpenUnmix"), ("theirs", "--from", "umxhq")):
        assert CliRunner().invoke(main, ["config", *words, "--save", str(tmp_path)]).exit_code == 0
    own, theirs = (load_config(tmp_path / name).training for name in ("own", "theirs"))
    assert (own.batch_size, own.lr, own.criterion) == (4, 3e-3, "l1")
    assert (theirs.batch_size, theirs.lr, theirs.criterion) == (16, 1e-3, "l2")


def test_settings_are_valid_and_fit_the_network(entry: WeightsEntry) -> None:
    groups = {**entry.config, "model": {"type": entry.type, **entry.config["model"]}}
    config = resolve(validate(Config, groups))
    data, params = config.dataset, config.model.params
    assert (data.stft_padding, config.separation.wiener) == ("reflect", 1)
    # The highest bin that the network sees is the last one up to 16 kHz.
    assert params["max_bin"] == min(16000 * data.num_fft // data.sample_rate + 1, data.num_bins)
    network = build_network(config)
    sizes = {(len(target.fc1.weight), target.fc1.in_features, target.fc3.out_features) for target in network.targets}
    assert len(network.targets) == len(data.targets)
    assert sizes == {(params["hidden_size"], params["max_bin"] * data.num_channels, data.num_bins * data.num_channels)}
