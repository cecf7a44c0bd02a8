"""What loggers are told, through the hook that TensorBoard uses too."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from auralflow_core.build import check_names
from auralflow_core.config import Config, load_config, validate
from auralflow_core.errors import ConfigError
from auralflow_core.registry import PluginSource, Registry, default_registry
from auralflow_core.trainer.logger import Logger
from auralflow_core.training import build_loggers

QUIET = ("--save_images", "false", "--save_audio", "false", "--quiet")

# A logger that a plugin registers: it keeps what it is told in a file of JSON lines.
PAPER = """
import json
from auralflow_core import hookimpl

@hookimpl
def register_loggers(register):
    register("paper", logger=f"{__name__}_logger:Paper", summary="a file of lines")
"""
PAPER_LOGGER = """
import json
from auralflow_core.trainer.logger import Logger

class Paper(Logger):
    def open(self, step):
        self.file = open(self.folder / "paper.jsonl", "a", encoding="utf-8")
        self.put("open", step)

    def put(self, kind, *facts):
        print(json.dumps([kind, *facts]), file=self.file)

    def write_numbers(self, numbers, step):
        self.put("numbers", step, dict(numbers))

    def write_snippet(self, snippet, target, stft, step):
        self.put("snippet", step, snippet.song, target, list(snippet.estimates[target].shape))

    def close(self):
        self.put("close")
        self.file.close()
"""


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """Return TensorBoard's curves by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "runs"), size_guidance={"scalars": 0})
    found.Reload()
    return {name: {event.step: event.value for event in found.Scalars(name)} for name in found.Tags()["scalars"]}


@pytest.fixture
def paper(install_plugin: Any, tmp_path: Path) -> None:
    module = install_plugin("auralflow-paper", PAPER)
    site = tmp_path / "site-packages" / module
    (site / f"{module}_logger.py").write_text(PAPER_LOGGER, encoding="utf-8")


# TensorBoard's own imports warn of what they use.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_plugins_logger_is_told_what_tensorboard_is(
    paper: None, invoke: Callable[..., Any], model_folder: Path, song_folder: Path
) -> None:
    words = ("--save_summary_steps", "2", "--every_n_epochs", "1", "--clip_value", "1", "--validation.metric", "usdr")
    invoke("train", model_folder, song_folder, *words, "--tensorboard", "true", *QUIET)
    lines = [json.loads(line) for line in (model_folder / "paper.jsonl").read_text().splitlines()]
    assert lines[0] == ["open", 0] and lines[-1] == ["close"]
    assert ["snippet", 8, "valid song 0", "vocals", [1, 4000]] in lines
    found: dict[str, dict[int, float]] = {}
    for step, numbers in (line[1:] for line in lines if line[0] == "numbers"):
        for name, value in numbers.items():
            found.setdefault(name, {})[step] = value
    theirs = curves(model_folder)
    assert set(found) == set(theirs)
    assert all(found[name] == pytest.approx(theirs[name], rel=1e-5) for name in found)
    by_step = {"loss/step", "lr/step", "seconds/data", "seconds/compute", "gradient/norm"}
    by_step |= {"sequence/seconds", "sequence/batch_size"}
    assert {name for name in found if set(found[name]) == {2, 4, 6, 8}} == by_step
    assert {"loss/train", "loss/validation", "lr", "score/usdr", "scores/SDR/vocals"} <= set(found)


class Kept(Logger):
    """Keeps numbers by their names."""

    def __init__(self, config: Config, folder: Path) -> None:
        super().__init__(config, folder)
        self.curves: dict[str, dict[int, float]] = {}

    def open(self, step: int) -> None: ...

    def write_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self.curves.setdefault(name, {})[step] = value

    def write_snippet(self, *facts: Any) -> None: ...

    def close(self) -> None: ...


def train(make_trainer: Callable[..., Any], tmp_path: Path, **settings: Any) -> dict[str, dict[int, float]]:
    visuals = {"save_summary_steps": settings.pop("save_summary_steps", 1)}
    logger = Kept(validate(Config, {"model": {"type": "T"}, "visuals": visuals}), tmp_path)
    make_trainer("model", [logger], "plain", visuals=visuals, **settings).fit()
    return logger.curves


def test_chunks_that_grow_show(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    grows = {"increase_every": 3, "max_sequence_length": 0.5}
    found = train(make_trainer, tmp_path, sequence_scheduler=grows, max_steps=8, max_epochs=9)
    assert found["sequence/batch_size"] == {1: 4, 2: 4, 3: 4, 4: 2, 5: 2, 6: 2, 7: 1, 8: 1}
    assert list(found["sequence/seconds"].values()) == pytest.approx([0.2] * 3 + [0.4] * 3 + [0.5] * 2)


def test_a_step_has_the_rate_that_it_was_done_with(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    found = train(make_trainer, tmp_path, scheduler={"warmup_steps": 4}, lr=0.1, max_steps=8, max_epochs=9)
    assert list(found["lr/step"].values())[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])


def test_the_norm_of_the_gradient_is_that_before_clipping(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    free = train(make_trainer, tmp_path, clip_value=1e9, max_steps=1)
    clipped = train(make_trainer, tmp_path, clip_value=1e-3, max_steps=1)
    assert free["gradient/norm"] == clipped["gradient/norm"] and free["gradient/norm"][1] > 1e-3
    assert "gradient/norm" not in train(make_trainer, tmp_path, max_steps=1)


@pytest.mark.parametrize(("every", "steps"), [(1, list(range(1, 17))), (5, [5, 10, 15]), (100, [])])
def test_curves_of_steps_have_a_point_every_n_steps(
    make_trainer: Callable[..., Any], tmp_path: Path, every: int, steps: list[int]
) -> None:
    found = train(make_trainer, tmp_path, save_summary_steps=every)
    assert list(found.get("loss/step", {})) == list(found.get("seconds/compute", {})) == steps
    assert list(found["loss/validation"]) == [8, 16]


class TestLoggersThatAreNotInstalled:
    def test_are_told_before_training_starts(
        self, refused: Callable[..., str], model_folder: Path, song_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AURALFLOW_PLUGINS", "simplenet")
        default_registry.cache_clear()
        try:
            text = refused("train", model_folder, song_folder, "--wandb.use", "true", *QUIET)
        finally:
            default_registry.cache_clear()
        assert "logger 'wandb' is not installed" in text and "`pip install auralflow-wandb` adds it" in text
        assert not (model_folder / "checkpoint").exists()
        assert not load_config(model_folder).visuals.wandb.use  # what cannot be trained is not written

    def test_a_configuration_may_name_them(self, tmp_path: Path) -> None:
        core = PluginSource("auralflow", lambda: __import__("auralflow_core.builtin").builtin)
        config = validate(Config, {"model": {"type": "T"}, "visuals": {"wandb": {"use": True}}})
        check_names(config, Registry([core]))
        with pytest.raises(ConfigError, match=r"visuals: logger 'wandb' is not installed.*or switch it off"):
            build_loggers(config, tmp_path, Registry([core]))

    def test_tensorboard_comes_through_the_hook(self, tmp_path: Path) -> None:
        config = validate(Config, {"model": {"type": "T"}})
        with pytest.raises(ConfigError, match="logger 'tensorboard' is not installed"):
            build_loggers(config, tmp_path, Registry())
        assert default_registry().loggers.get("tensorboard").plugin == "auralflow"
