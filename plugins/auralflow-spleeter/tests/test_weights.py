"""Public weights by name: an archive of a checkpoint, unpacked, read, and put into the network."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from types import ModuleType

import pytest
import torch

from auralflow_core import Registry, hookimpl
from auralflow_core.build import load_model
from auralflow_core.config import Config, validate
from auralflow_core.hookspecs import Register
from auralflow_core.registry import PluginSource, default_registry
from auralflow_core.weights import WeightsStore
from auralflow_spleeter.base_config import convert
from auralflow_spleeter.weights import read_unet

CHECKPOINT = Path(__file__).parent / "data" / "unet"
THEIRS = {
    "instrument_list": ["vocals", "accompaniment"],
    "frame_length": 256,
    "frame_step": 64,
    "T": 64,
    "F": 64,
    "sample_rate": 8000,
    "model": {"type": "unet.unet", "params": {"conv_n_filters": [2, 3, 2, 4, 3, 2]}},
}


@pytest.mark.parametrize("stems", ["2stems", "4stems", "5stems"])
def test_the_public_models_are_registered(stems: str) -> None:
    entry = default_registry().weights.get(f"spleeter:{stems}")
    assert isinstance(entry.config, dict)
    config = validate(Config, entry.config)
    assert len(config.dataset.targets) == int(stems[0]) and config.model.type == entry.type
    assert entry.files == {
        f"{stems}.tar.gz": f"https://github.com/deezer/spleeter/releases/download/v1.4.0/{stems}.tar.gz"
    }
    assert len(entry.sha256[f"{stems}.tar.gz"]) == 64 and entry.licence == "MIT"


def test_an_archive_becomes_a_model(tmp_path: Path) -> None:
    archive = tmp_path / "tiny.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(CHECKPOINT.iterdir()):
            tar.add(path, path.name)
    module = ModuleType("auralflow_tiny")

    @hookimpl
    def register_weights(register: Register) -> None:
        register(
            "tiny",
            type="unet.unet",
            files={archive.name: "https://example.org/tiny.tar.gz"},
            sha256={archive.name: hashlib.sha256(archive.read_bytes()).hexdigest()},
            config=convert(THEIRS).data,
            convert="auralflow_spleeter.weights:from_archive",
            licence="MIT",
            summary="a test",
        )

    module.register_weights = register_weights  # type: ignore[attr-defined]
    spleeter = PluginSource("auralflow-spleeter", lambda: __import__("auralflow_spleeter"), "1.0")
    tiny = PluginSource("auralflow-tiny", lambda: module, "1.0")
    builtin = PluginSource("auralflow", lambda: __import__("auralflow_core.builtin", fromlist=["x"]))
    registry = Registry([builtin, spleeter, tiny])
    assert not registry.failures
    store = WeightsStore(tmp_path / "cache", mirror=str(tmp_path))
    model = load_model("tiny", device="cpu", registry=registry, store=store)
    state = model.network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in read_unet(CHECKPOINT).items())
    assert model.separate(torch.rand(2, 1000)).shape == (2, 2, 1000)
