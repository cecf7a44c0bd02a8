"""The documents do as they say."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR, StepLR

from auralflow_core import Config, hookspecs
from auralflow_core.config import validate
from auralflow_core.entries import KINDS
from auralflow_core.losses import L1Loss
from auralflow_core.model import SpectrogramMaskModel

DOCS = Path(__file__).parent.parent / "docs"
TUTORIAL = (DOCS / "plugins.md").read_text(encoding="utf-8")
SMALL = "--num_fft 128 --window_size 128 --hop_length 64 --sample_rate 8000 --sample_length 0.5 --batch_size 2"
SMALL += " --save_images no --tensorboard no"  # whose pictures take longer than all the rest


def run(*words: str | Path, cwd: Path, site: Path, status: int = 0) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == status, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def gain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The tutorial's package, written from the page alone, and the folder it is installed in."""
    package, site = tmp_path_factory.mktemp("gain"), tmp_path_factory.mktemp("site")
    files: dict[str, str] = {}
    for fence in re.finditer(r"```\w+\n(.*?)```", TUTORIAL, re.S):
        named = re.findall(r"^`([\w/.]+)`", TUTORIAL[: fence.start()], re.M)
        files.setdefault(named[-1], fence[1])
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*install, str(package)], check=True, capture_output=True)
    return package, site


# One after the other in one process, since each would load torch anew.
COMMANDS = """
import json, sys
from auralflow_core.cli import main
for words in json.loads(sys.argv[1]):
    main(words, standalone_mode=False)
"""


@pytest.mark.slow
def test_the_tutorials_plugin_trains_and_separates(gain: tuple[Path, Path], song_folder: Path, tmp_path: Path) -> None:
    _, site = gain
    listed = run(sys.executable, "-m", "auralflow", "list-models", cwd=tmp_path, site=site)
    assert "one learned gain a frequency" in listed
    song = next((song_folder / "test").glob("*/mixture.wav"))
    commands = [
        ("show-model", "Gain"),
        ("config", "my_gain", "Gain", "--initial", "0.5", *SMALL.split()),
        ("train", "my_gain", str(song_folder), "--max_epochs", "2"),
        ("test", "my_gain", str(song_folder)),
        ("separate", "my_gain", str(song), "--save", "stems"),
    ]
    assert "initial" in run(sys.executable, "-c", COMMANDS, json.dumps(commands), cwd=tmp_path, site=site)
    assert (tmp_path / "stems" / "mixture" / "vocals.wav").is_file()


@pytest.mark.slow
def test_the_tutorials_plugin_passes_the_kit(gain: tuple[Path, Path]) -> None:
    package, site = gain
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert "passed" in run(*command, cwd=package, site=site)


@pytest.fixture
def importable(gain: tuple[Path, Path], install_plugin: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process import the tutorial's package, and forget it afterwards."""
    monkeypatch.syspath_prepend(gain[1])
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "auralflow_gain"]:
        del sys.modules[name]


def fence(word: str) -> str:
    """Return the one example in Python that holds a word."""
    [found] = [text for text in re.findall(r"```python\n(.*?)```", TUTORIAL, re.S) if word in text]
    return str(found)


def test_the_tutorials_schedules_train(
    importable: None, install_plugin: Any, invoke: Any, refused: Any, song_folder: Path, tmp_path: Path
) -> None:
    install_plugin("auralflow-more", f"from auralflow_core import hookimpl\n{fence('def register_schedulers')}")
    invoke("config", tmp_path / "m", "Gain", *SMALL.split())
    train = ("train", tmp_path / "m", song_folder, "--quiet", "--save_audio", "no", "--scheduler")
    [command] = re.findall(r"--scheduler (one-cycle --scheduler.*) --max_steps 10000$", TUTORIAL, re.M)
    assert "set training.max_steps" in refused(*train, *command.split())
    invoke(*train, *command.split(), "--max_steps", "10")
    assert saved_rates(tmp_path / "m") == rates(OneCycleLR, 1e-3, 10, pct_start=0.2, cycle_momentum=False)
    stairs = ("stairs", "--scheduler.args", "{step_size: 3}")
    invoke(*train, *stairs, "--max_steps", "10", "--force")
    assert saved_rates(tmp_path / "m") == rates(StepLR, 3)


def saved_rates(folder: Path) -> list[float]:
    """Return the learning rates of a model's last checkpoint."""
    path = max(folder.glob("checkpoint/step-*/optimizer.pt"))
    return [group["lr"] for group in torch.load(path, weights_only=True)["param_groups"]]


def rates(make: Any, *arguments: Any, **named: Any) -> list[float]:
    """Return what torch's schedule alone makes of the rate 0.001 in ten steps."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    schedule = make(optimizer, *arguments, **named)
    for _ in range(10):
        optimizer.step()
        schedule.step()
    return [group["lr"] for group in optimizer.param_groups]


class Unnamed(nn.Module):
    """A network without names of blocks, made of the parts of one that has them."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.body, self.masks = network.body, network.masks

    def forward(self, magnitude: Tensor) -> Tensor:
        hidden = self.body(magnitude.transpose(-1, -2))
        mask: Tensor = self.masks(hidden).sigmoid().transpose(-1, -2)
        return mask


@pytest.mark.parametrize("is_named", [True, False])
def test_the_tutorials_blocks_are_computed_twice(
    importable: None, is_named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = importlib.import_module("auralflow_gain.deep")
    sizes = {"num_fft": 128, "window_size": 128, "hop_length": 64, "sample_rate": 8000, "sample_length": 0.5}
    known = {"num_fft_bins": 65, "num_frames": 63, "num_channels": 1, "num_targets": 1, "sample_rate": 8000}
    targets = 0.1 * torch.randn(2, 1, 1, 4000, generator=torch.Generator().manual_seed(0))
    computed: list[int] = []
    linear = nn.functional.linear

    def counted(data: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        computed.append(id(weight))
        return linear(data, weight, bias)

    monkeypatch.setattr(nn.functional, "linear", counted)

    def train(is_on: bool) -> tuple[list[int], dict[str, Tensor]]:
        """Return how often each linear layer was computed, and the gradients."""
        torch.manual_seed(0)
        computed.clear()
        network = deep.Deep(3, **known) if is_named else Unnamed(deep.Deep(3, **known))
        training = {"gradient_checkpointing": is_on, "device": "cpu"}
        config = validate(Config, {"model": {"type": "Deep"}, "dataset": sizes, "training": training})
        model = SpectrogramMaskModel(config, network, L1Loss())
        model.train()
        model.set_data(targets.sum(1), targets)
        model.forward()
        model.compute_loss()
        model.backward()
        counts = [computed.count(id(each.weight)) for each in network.modules() if isinstance(each, nn.Linear)]
        return counts, {name: each.grad for name, each in network.named_parameters() if each.grad is not None}

    plain, checkpointed = train(False), train(True)
    assert plain[0] == [1, 1, 1, 1]
    # The last one is spared only where somebody says so.
    assert checkpointed[0] == [2, 2, 2, 1 if is_named else 2]
    assert len(plain[1]) == 8
    torch.testing.assert_close(checkpointed[1], plain[1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_hook_stands_in_the_tutorial_with_its_signature(kind: str) -> None:
    hook = getattr(hookspecs, f"register_{kind}")
    assert f"`register_{kind}({', '.join(inspect.signature(hook).parameters)})`" in TUTORIAL
    assert (hook.__doc__ or "").strip().count("\n") == 0


def test_generated_pages_are_up_to_date() -> None:
    # In a process of its own: click keeps the first help option that it makes of a command, whoever asked for it.
    done = subprocess.run([sys.executable, DOCS / "generate.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_readme_names_the_two_commands_and_no_missing_page() -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^pip install nox && nox -s (\w+)$", readme, re.M) == ["demo", "tests"]
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (DOCS.parent / link).is_file(), link
