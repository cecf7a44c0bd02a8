"""Two processes train as one does: real ones, that talk over gloo."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from auralflow_core.checkpoint import CheckpointStore

pytestmark = pytest.mark.slow

# A network without batch statistics, with a parameter that nothing depends on; what the tests read lies in $WATCHED.
PLUGIN = """
import atexit, hashlib, json, math, os
from functools import partial
from pathlib import Path
import torch
from torch import nn
from auralflow_core import ModelParams, hookimpl
from auralflow_core.errors import DataError
from auralflow_core.trainer import Callback

if "EAGER" in os.environ:  # compiled without a compiler
    torch.compile = partial(torch.compile, backend="eager")
OUT, RANK = Path(os.environ["WATCHED"]), os.environ.get("RANK", "0")
TROUBLE, TROUBLED_RANK, TROUBLED_PASS = (os.environ.get("TROUBLE", "") + ",,").split(",")[:3]

class Params(ModelParams):
    pass

class Plain(nn.Module):
    def __init__(self, num_fft_bins, num_frames, num_channels, num_targets, sample_rate):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 1, 3, padding=1)])
        self.bins = nn.Linear(num_fft_bins, num_fft_bins)
        self.unused = nn.Parameter(torch.ones(2))
        self.register_buffer("passes", torch.zeros(()))
        self.is_due = True
        atexit.register(self.tell)

    def forward(self, magnitude):
        if self.training:
            self.passes += 1
        hidden = self.bins(magnitude.transpose(-1, -2)).transpose(-1, -2)
        mask = self.blocks[1](self.blocks[0](hidden).relu()).sigmoid()
        if self.training and self.is_due and RANK == TROUBLED_RANK and int(self.passes) == int(TROUBLED_PASS):
            self.is_due = False
            if TROUBLE == "raise":
                raise DataError("the disk of this machine is gone")
            mask = mask * math.nan
        return mask

    def tell(self):
        weights = [each.detach().numpy().tobytes() for each in self.parameters() if type(each) is nn.Parameter]
        (OUT / f"weights-{RANK}").write_text(hashlib.sha256(b"".join(weights)).hexdigest())

class Watch(Callback):
    def __init__(self, config, folder):
        pass

    def write(self, **facts):
        with (OUT / "curve.jsonl").open("a") as file:
            file.write(json.dumps({"rank": RANK, **facts}) + "\\n")

    def on_step(self, trainer, step):
        self.write(step=step.step, batch=step.batch, loss=step.loss, lr=step.lr)

    def on_skip(self, trainer, what):
        self.write(skipped=what)

    def on_epoch(self, trainer, epoch):
        self.write(epoch=epoch.epoch, train=epoch.train_loss, valid=epoch.valid_loss, score=epoch.score)

@hookimpl
def register_models(register):
    register("Plain", network=Plain, params=Params, domain="magnitude", summary="for tests")

@hookimpl
def register_loggers(register):
    register("watch", logger=Watch, summary="for tests")
"""
# Stands for `torchrun`, and loads torch once for all tests: two processes that meet at a store, and end when one fails.
LAUNCHER = """
import atexit, json, os, signal, sys
import torch._dynamo, torch.distributed.fsdp  # which the optimizers load, and load slowly
import auralflow_core.cli.training_progress, auralflow_core.training
from auralflow_core.cli import main

def start(rank, words, environment):
    child = os.fork()
    if child:
        return child
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank))
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    for number, name in ((1, "out"), (2, "errors")):
        path = os.path.join(environment["WATCHED"], name)
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    try:
        main(words)
    except SystemExit as end:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(int(end.code or 0))  # and wait for no thread of the process that was forked

for line in sys.stdin:
    words, environment = json.loads(line)
    store = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    environment |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2"}
    environment |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    running, failed = {start(rank, words, environment) for rank in range(2)}, 0
    while running:
        child, status = os.wait()
        running.discard(child)
        failed = failed or int(status != 0)
        for other in running if status else ():
            os.kill(other, signal.SIGTERM)
    print(failed, flush=True)
"""
# 16 chunks in batches of 5, 5, 5 and 1, two of which make a step.
SETTINGS = ["--batch_size", 5, "--backprop_every", 2, "--max_epochs", 6, "--clip_value", 0.5]
SETTINGS += ["--metric_songs", 0, "--save_images", "false", "--save_audio", "false", "--tensorboard", "false"]
SETTINGS += ["--device", "cpu", "--stop_patience", 1, "--lr", 0.1]
SETTINGS = list(map(str, SETTINGS))

Launch = Callable[[Sequence[str], dict[str, str]], int]


class Runs:
    """Trainings of one model in one folder each, by one process or by two."""

    def __init__(
        self, folder: Path, songs: Path, invoke: Callable[..., Any], launch: Launch, words: Sequence[str]
    ) -> None:
        self.folder, self.songs, self.invoke, self.launch = folder, songs, invoke, launch
        self.environment = {"WATCHED": str(folder), "OMP_NUM_THREADS": "1"}
        self.environment["PYTHONPATH"] = os.pathsep.join([*words, os.environ.get("PYTHONPATH", "")])

    def model(self, name: str) -> Path:
        return self.folder / name

    def command(self, name: str, *words: object) -> list[str]:
        return ["train", str(self.model(name)), str(self.songs), *map(str, words)]

    def alone(self, name: str, *words: object) -> list[dict[str, Any]]:
        self.invoke(*self.command(name, *words), "--quiet")
        return self.curve()

    def together(self, name: str, *words: object, status: int = 0, **environment: str) -> list[dict[str, Any]]:
        streams = [self.folder / stream for stream in ("out", "errors")]
        for stream in streams:
            stream.write_text("")
        failed = self.launch(self.command(name, *words), {**self.environment, **environment})
        self.out, self.errors = (stream.read_text() for stream in streams)
        assert failed == status, self.out + self.errors
        return self.curve()

    def curve(self) -> list[dict[str, Any]]:
        """Return what was told since the last call."""
        path = self.folder / "curve.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def launch() -> Iterator[Launch]:
    """Return what runs `auralflow` in two processes, with some environment, and tells whether one of them failed."""
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        asked, told = process.stdin, process.stdout
        assert asked and told

        def run(words: Sequence[str], environment: dict[str, str]) -> int:
            print(json.dumps([words, environment]), file=asked, flush=True)
            return int(told.readline())

        yield run
        asked.close()


@pytest.fixture
def runs(
    invoke: Callable[..., Any],
    install_plugin: Callable[..., str],
    launch: Launch,
    tiny_settings: list[str],
    song_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Runs:
    monkeypatch.setenv("WATCHED", str(tmp_path))
    before = list(sys.path)
    install_plugin("auralflow-plain", PLUGIN)
    added = [path for path in sys.path if path not in before]
    settings = list(tiny_settings)
    at = settings.index("--hidden_channels")
    del settings[at : at + 2]
    invoke("config", "first", "Plain", "--save", tmp_path, *settings, *SETTINGS)
    for name in ("second", "third"):
        shutil.copytree(tmp_path / "first", tmp_path / name)
    return Runs(tmp_path, song_folder, invoke, launch, added)


def assert_same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    """Compare curves: everything that was told, numbers to rounding."""
    assert len(one) == len(other) > 0
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        assert left == {
            name: pytest.approx(value, rel=1e-4) if isinstance(value, float) else value for name, value in right.items()
        }


def test_two_are_as_one_and_one_goes_on_from_two(runs: Runs) -> None:
    settings = ["--validation", "{every_n_steps: 3, metric: usdr}"]
    unbroken = runs.alone("first", *settings)
    assert [line["batch"] for line in unbroken if "batch" in line] == [2, 4] * 6
    assert len({line["lr"] for line in unbroken if "lr" in line}) > 1, "the plateau is at work"
    begun = runs.together("second", *settings, "--max_steps", 7)
    assert (runs.folder / "weights-0").read_text() == (runs.folder / "weights-1").read_text()
    assert {line["rank"] for line in begun} == {"0"}
    assert runs.out.count("Training Plain") == 1
    assert len(CheckpointStore(runs.model("second") / "checkpoint").load(7, "trainer")["rng"]) == 2
    rest = runs.alone("second", "--resume", "--max_steps", 12)
    assert_same([line for line in begun + rest if "step" in line], [line for line in unbroken if "step" in line])
    # The one that ended inside an epoch was validated there besides.
    known = {line["train"]: line for line in unbroken if "epoch" in line}
    assert sum(any(abs(line["train"] - each) < 1e-6 for each in known) for line in begun + rest if "epoch" in line) > 5


def test_sharded_they_go_on_from_one_and_one_goes_on_from_them(runs: Runs) -> None:
    settings = ["--ema", "{decay: 0.9}", "--optimizer", "adamw"]
    unbroken = runs.alone("first", *settings)
    begun = runs.alone("second", *settings, "--max_steps", 4)
    middle = runs.together("second", "--resume", "--max_steps", 8, "--distributed", "fsdp2")
    rest = runs.alone("second", "--resume", "--max_steps", 12)
    assert_same(begun + middle + rest, unbroken)


def test_what_is_no_number_for_one_is_skipped_by_both(runs: Runs) -> None:
    skipped = runs.together("first", "--on_nan", "skip", "--max_steps", 3, TROUBLE="nan,1,3")
    named = [line["skipped"] for line in skipped if "skipped" in line]
    assert len(named) == 1 and "the loss is nan at step 2 (epoch 1, batch 3): skipped train song" in named[0]
    assert [line["step"] for line in skipped if "step" in line] == [1, 2, 3]
    assert (runs.folder / "weights-0").read_text() == (runs.folder / "weights-1").read_text()


def test_both_go_back_from_what_is_no_number_for_one(runs: Runs) -> None:
    told = runs.together("first", "--on_nan", "rollback", "--max_steps", 3, TROUBLE="nan,1,3")
    said = [line["skipped"].split(": ")[1] for line in told if "skipped" in line]
    assert said[0].startswith("back to step 0, with the learning rate 0.05")
    assert said[1].startswith("skipped train song")
    # Of the two steps of the first epoch the second is left out.
    steps = [(line["step"], line["batch"], line["lr"]) for line in told if "step" in line]
    assert steps == [(1, 2, 0.1), (1, 2, 0.05), (2, 2, 0.05), (3, 4, 0.05)]
    assert (runs.folder / "weights-0").read_text() == (runs.folder / "weights-1").read_text()


def test_settings_of_memory_and_speed_change_nothing(runs: Runs) -> None:
    steps = ["--max_steps", 3]
    expected = runs.alone("first", *steps)
    compiled = {"EAGER": "yes", "CXX": sys.executable}
    assert_same(runs.together("second", *steps, "--gradient_checkpointing", "true"), expected)
    assert_same(runs.together("third", *steps, "--compile", "true", **compiled), expected)
    sharded = [*steps, "--gradient_checkpointing", "true", "--distributed", "fsdp2"]
    assert_same(runs.together("second", *sharded, "--force"), expected)


def test_an_error_of_one_ends_both_with_one_message(runs: Runs) -> None:
    runs.together("first", TROUBLE="raise,1,3", status=1)
    said = re.findall(r"^Error: .*", runs.errors, re.MULTILINE)
    assert len(said) == 1 and said[0].startswith("Error: the disk of this machine is gone (process 2 of 2, on ")


def test_torchrun_passes_sigterm_on_and_both_save(runs: Runs) -> None:
    words = ["--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "auralflow"]
    words += runs.command("first", "--max_epochs", 100_000, "--every_n_epochs", 100_000, "--save_images", "true")
    process = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *words],
        env={**os.environ, **runs.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (runs.folder / "curve.jsonl").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate()
    assert re.search(r"Stopped and saved\. Go on with: auralflow train .*first .* --resume", errors), out + errors
    told = [line["step"] for line in runs.curve() if "step" in line]
    assert CheckpointStore(runs.model("first") / "checkpoint").latest() == told[-1]
    assert not (runs.model("first") / "images").exists(), "torchrun kills who draws pictures now"
    rest = runs.alone("first", "--resume", "--max_steps", told[-1] + 2, "--save_images", "false")
    assert [line["step"] for line in rest if "step" in line] == [told[-1] + 1, told[-1] + 2]


def test_what_cannot_work_is_said_once(runs: Runs) -> None:
    runs.together("first", "--batch_size", 1, status=1)
    said = re.findall(r"^Error: .*$", runs.errors, re.MULTILINE)
    assert len(said) == 1 and "training.batch_size: 1 chunks cannot be shared among 2 processes" in said[0]
