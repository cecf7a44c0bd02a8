"""`auralflow train --from`, and a training that begins with weights alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from auralflow_core.checkpoint import CheckpointStore
from auralflow_core.trainer import Callback, Step, Trainer

TrainerMaker = Callable[..., Trainer]
QUIET = ("--tensorboard", "false", "--save_images", "false", "--save_audio", "false")


def weights(folder: Path) -> dict[str, Tensor]:
    store = CheckpointStore(folder / "checkpoint")
    return store.load(store.latest(), "model")


class TestFrom:
    def test_weights_are_taken_and_told(
        self, invoke: Callable[..., Any], model_folder: Path, trained_folder: Path, song_folder: Path
    ) -> None:
        said = invoke(
            "train", model_folder, song_folder, "--from", trained_folder, *QUIET, "--lr", "1e-12", "--max_steps", "1"
        ).stdout
        given, found = weights(trained_folder), weights(model_folder)
        assert f"Taken from {trained_folder}: {len(given)} weights" in said and "missing" not in said
        parameters = [name for name in given if "running" not in name and "num_batches" not in name]
        assert all(torch.allclose(given[name], found[name], atol=1e-6) for name in parameters)
        store = CheckpointStore(model_folder / "checkpoint")
        assert store.meta(1)["started_from"] == str(trained_folder)

    def test_what_does_not_fit_is_named(
        self, invoke: Callable[..., Any], model_folder: Path, trained_folder: Path, song_folder: Path
    ) -> None:
        sizes = ("--targets", "vocals", "drums", "--normalize_input", "true", "--max_steps", "1")
        lines = invoke("train", model_folder, song_folder, "--from", trained_folder, *QUIET, *sizes).stdout.splitlines()
        [missing] = [line for line in lines if line.startswith("missing there, drawn at random: ")]
        [other] = [line for line in lines if line.startswith("of another shape, drawn at random: ")]
        given, found = weights(trained_folder), weights(model_folder)
        for name in set(found) - set(given):
            assert name in missing
        for name in set(found) & set(given):
            assert (given[name].shape != found[name].shape) == (f"{name} " in other), name
        assert set(found) - set(given) and "x" in other

    def test_a_model_with_nothing_in_common_is_refused(
        self, refused: Callable[..., str], invoke: Callable[..., Any], trained_folder: Path, song_folder: Path,
        tiny_settings: list[str], tmp_path: Path,
    ) -> None:  # fmt: skip
        settings = list(tiny_settings)
        settings[settings.index("--hidden_channels") + 1] = "3"
        invoke("config", "other", "UNetAudio", "--save", tmp_path, *settings)
        assert "none of its" in refused("train", tmp_path / "other", song_folder, "--from", trained_folder)
        assert "no such model folder" in refused("train", tmp_path / "other", song_folder, "--from", "nowhere")
        assert not (tmp_path / "other" / "checkpoint").exists()

    def test_it_is_no_resume(
        self, invoke: Callable[..., Any], trained_copy: Path, trained_folder: Path, song_folder: Path
    ) -> None:
        result = invoke("train", trained_copy, song_folder, "--from", trained_folder, "--resume", status=2)
        assert "leave out --from" in result.stderr


class TestWeightsAlone:
    def test_a_new_training_starts_from_them(
        self, invoke: Callable[..., Any], trained_copy: Path, song_folder: Path
    ) -> None:
        given = weights(trained_copy)
        store = CheckpointStore(trained_copy / "checkpoint")
        meta = store.meta(store.latest())
        shutil.rmtree(store.folder)
        store.save(0, meta, {"model": given})
        words = ("--lr", "1e-12", "--max_steps", "2", "--ema", "{decay: 0.5}", *QUIET)
        said = invoke("train", trained_copy, song_folder, "--resume", *words).stdout
        assert "The checkpoint of step 0 has weights only: a new training starts from them" in said
        assert store.steps() == [0, 2]  # what it began with stays
        found = weights(trained_copy)
        parameters = [name for name in given if "running" not in name and "num_batches" not in name]
        assert all(torch.allclose(given[name], found[name], atol=1e-6) for name in parameters)
        invoke("train", trained_copy, song_folder, "--resume", "--max_steps", "3")
        assert store.steps()[0] == 0 and store.latest() == 3

    def test_it_is_seeded(self, make_trainer: TrainerMaker) -> None:
        make_trainer("given").model.save(0, optim=False, scheduler=False, grad_scaler=False)
        losses = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            trainer = make_trainer("given", [], max_steps=3)
            trainer.resume()
            losses.append(trainer.fit().best_loss)
            for step in trainer.store.steps()[1:]:
                shutil.rmtree(trainer.store.path(step))
        assert losses[0] == losses[1]


def test_every_step_knows_its_times(make_trainer: TrainerMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    class Times(Callback):
        def __init__(self) -> None:
            self.steps: list[Step] = []

        def on_step(self, trainer: Trainer, step: Step) -> None:
            self.steps.append(step)

    clock = [0.0]
    from types import SimpleNamespace

    from auralflow_core.trainer import loop as loop_module

    monkeypatch.setattr(loop_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    times = Times()
    trainer = make_trainer(callbacks=[times], max_steps=4)
    read, update = type(trainer.train_data).__getitem__, trainer.model.optimizer_step

    def slow_read(self: Any, key: Any) -> Any:
        clock[0] += 0.25 if self is trainer.train_data else 0
        return read(self, key)

    def slow_update() -> bool:
        clock[0] += 3
        return update()

    monkeypatch.setattr(type(trainer.train_data), "__getitem__", slow_read)
    monkeypatch.setattr(trainer.model, "optimizer_step", slow_update)
    summary = trainer.fit()
    assert [(step.data_seconds, step.compute_seconds) for step in times.steps] == [(1.0, 3.0)] * 4
    assert (summary.data_seconds, summary.compute_seconds) == (4.0, 12.0)
