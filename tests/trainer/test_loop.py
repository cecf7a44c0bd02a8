"""The training loop: what it learns, keeps, tells and how it stops."""

from __future__ import annotations

import json
import math
import re
import signal
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from auralflow_core.checkpoint import CheckpointStore
from auralflow_core.data.chunks import ChunkKey
from auralflow_core.errors import CheckpointError, TrainingError
from auralflow_core.trainer import Callback, Epoch, Step, Summary, Trainer
from auralflow_core.trainer import loop as loop_module
from auralflow_core.trainer.validation import Validated

TrainerMaker = Callable[..., Trainer]


class Recorder(Callback):
    """Keeps all that it is told, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.steps: list[Step] = []
        self.epochs: list[Epoch] = []
        self.summary: Summary | None = None

    def on_start(self, trainer: Trainer) -> None:
        self.events.append("start")

    def on_step(self, trainer: Trainer, step: Step) -> None:
        self.events.append("step")
        self.steps.append(step)

    def on_validation(self, trainer: Trainer, done: int, total: int) -> None:
        self.events.append(f"valid {done}/{total}")

    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        self.events.append("epoch")
        self.epochs.append(epoch)
        # What a listener is told of is on the disk already.
        assert trainer.store.latest() == epoch.step

    def on_end(self, trainer: Trainer, summary: Summary) -> None:
        self.events.append("end")
        self.summary = summary


class At(Callback):
    """Does something after a step."""

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self.step, self.action = step, action

    def on_step(self, trainer: Trainer, step: Step) -> None:
        if step.step == self.step:
            self.action()


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


class TestLearning:
    def test_the_loss_falls(self, make_trainer: TrainerMaker) -> None:
        recorder = Recorder()
        summary = make_trainer(callbacks=[recorder], max_epochs=8, lr=0.03).fit()
        losses = [epoch.valid_loss for epoch in recorder.epochs]
        assert losses[-1] < 0.7 * losses[0]
        assert recorder.epochs[-1].train_loss < 0.8 * recorder.epochs[0].train_loss
        assert summary.best_loss == min(losses)

    def test_what_it_tells(self, make_trainer: TrainerMaker) -> None:
        recorder = Recorder()
        trainer = make_trainer(callbacks=[recorder], max_epochs=2)
        assert trainer.steps_per_epoch == 8
        summary = trainer.fit()
        one_epoch = ["step"] * 8 + ["valid 1/3", "valid 2/3", "valid 3/3", "epoch"]
        assert recorder.events == ["start", *one_epoch, *one_epoch, "end"]
        assert [step.step for step in recorder.steps] == list(range(1, 17))
        assert [(step.epoch, step.batch) for step in recorder.steps][7:9] == [(1, 8), (2, 1)]
        assert [(epoch.epoch, epoch.step) for epoch in recorder.epochs] == [(1, 8), (2, 16)]
        assert recorder.summary == summary
        assert (summary.reason, summary.epochs, summary.steps) == ("max_epochs", 2, 16)
        assert summary.seconds > 0

    def test_the_train_loss_is_the_mean_over_chunks(self, make_trainer: TrainerMaker) -> None:
        recorder = Recorder()
        trainer = make_trainer(callbacks=[recorder], max_epochs=1)
        trainer.fit()
        sizes = [4] * 7 + [2]
        losses = [step.loss for step in recorder.steps]
        expected = sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / 30
        assert recorder.epochs[0].train_loss == pytest.approx(expected)

    def test_the_validation_loss_is_that_of_the_saved_weights(self, make_trainer: TrainerMaker) -> None:
        recorder = Recorder()
        make_trainer(callbacks=[recorder], max_epochs=2).fit()
        other = make_trainer()
        other.model.load_model(other.store.latest())
        losses = []
        other.model.eval()
        for chunk in range(len(other.valid_data)):
            mixture, target = other.valid_data[ChunkKey(0, chunk)]
            other.model.set_data(mixture[None], target[None])
            other.model.test()
            losses.append(other.model.compute_loss())
        assert recorder.epochs[-1].valid_loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)


class TestCheckpoints:
    def test_best_and_latest_are_kept(self, make_trainer: TrainerMaker, monkeypatch: pytest.MonkeyPatch) -> None:
        losses = iter([5.0, 3.0, 4.0, 4.5])
        trainer = make_trainer(max_epochs=4)
        monkeypatch.setattr(trainer, "_validate", lambda: Validated(next(losses)))
        summary = trainer.fit()
        assert trainer.store.steps() == [16, 32]
        assert (trainer.store.best(), trainer.store.latest()) == (16, 32)
        assert (summary.best_step, summary.best_loss) == (16, 3.0)
        assert json.loads((trainer.store.folder / "best.json").read_text()) == {"step": 16, "loss": 3.0}

    def test_a_checkpoint_reads_without_pickle(self, make_trainer: TrainerMaker) -> None:
        trainer = make_trainer(max_epochs=1)
        trainer.fit()
        folder = trainer.store.path(8)
        assert {path.name for path in folder.iterdir()} == {
            "model.safetensors",
            "optimizer.pt",
            "scheduler.pt",
            "grad_scaler.pt",
            "trainer.pt",
            "meta.json",
        }
        for path in folder.glob("*.pt"):
            torch.load(path, weights_only=True)

    def test_nothing_to_resume(self, make_trainer: TrainerMaker) -> None:
        with pytest.raises(CheckpointError, match="no checkpoint"):
            make_trainer().resume()

    @pytest.mark.parametrize("part", ["model.safetensors", "optimizer.pt", "scheduler.pt", "trainer.pt"])
    def test_an_incomplete_checkpoint_is_not_resumed(self, make_trainer: TrainerMaker, part: str) -> None:
        trainer = make_trainer(max_epochs=1)
        trainer.fit()
        (trainer.store.path(8) / part).unlink()
        with pytest.raises(CheckpointError, match=re.escape(part)):
            make_trainer().resume()

    def test_another_batch_size_inside_an_epoch_is_refused(self, make_trainer: TrainerMaker) -> None:
        make_trainer(callbacks=[At(3, interrupt)]).fit()
        with pytest.raises(CheckpointError, match="batch_size was 4 and is 5") as caught:
            make_trainer(batch_size=5).resume()
        assert "\n" not in str(caught.value)

    def test_other_data_inside_an_epoch_are_refused(self, make_trainer: TrainerMaker) -> None:
        make_trainer(callbacks=[At(3, interrupt)]).fit()
        with pytest.raises(CheckpointError, match="chunks_per_epoch was 30 and is 20"):
            make_trainer(songs=2).resume()

    def test_between_epochs_both_may_change(self, make_trainer: TrainerMaker) -> None:
        make_trainer(max_epochs=1).fit()
        trainer = make_trainer(max_epochs=2, batch_size=10, songs=2)
        trainer.resume()
        assert trainer.fit().steps == 8 + 2

    # The message for a loss of NaN names this remedy: a lower lr, and --resume.
    def test_a_learning_rate_that_was_changed_holds_after_a_resume(self, make_trainer: TrainerMaker) -> None:
        make_trainer(max_epochs=1).fit()
        recorder = Recorder()
        trainer = make_trainer(callbacks=[recorder], max_epochs=2, lr=0.001)
        trainer.resume()
        trainer.fit()
        assert recorder.epochs[0].lr == 0.001

    def test_a_learning_rate_that_was_reduced_stays_so_after_a_resume(
        self, make_trainer: TrainerMaker, stubborn: nn.Module
    ) -> None:
        settings = {"stop_patience": 1, "max_lr_steps": 9}
        make_trainer("model", [], stubborn, max_epochs=2, **settings).fit()
        recorder = Recorder()
        trainer = make_trainer("model", [recorder], stubborn, max_epochs=3, **settings)
        trainer.resume()
        trainer.fit()
        assert recorder.epochs[0].lr == 0.005

    def test_a_patience_that_was_changed_holds_after_a_resume(
        self, make_trainer: TrainerMaker, stubborn: nn.Module
    ) -> None:
        make_trainer("model", [], stubborn, max_epochs=1, stop_patience=10).fit()
        trainer = make_trainer("model", [], stubborn, max_epochs=9, stop_patience=1, max_lr_steps=0)
        trainer.resume()
        summary = trainer.fit()
        assert (summary.reason, summary.epochs) == ("plateau", 2)


class TestStopping:
    def test_plateau(self, make_trainer: TrainerMaker, stubborn: nn.Module) -> None:
        recorder = Recorder()
        settings = {"max_epochs": 50, "stop_patience": 2, "max_lr_steps": 1, "lr": 0.01}
        summary = make_trainer("model", [recorder], stubborn, **settings).fit()
        assert (summary.reason, summary.epochs) == ("plateau", 5)
        assert [epoch.lr for epoch in recorder.epochs] == [0.01, 0.01, 0.01, 0.005, 0.005]
        again = make_trainer("model", [], stubborn, **settings)
        again.resume()
        summary = again.fit()
        assert (summary.reason, summary.epochs) == ("plateau", 5)

    def test_all_epochs_done_is_done_after_a_resume(self, make_trainer: TrainerMaker) -> None:
        first = make_trainer(max_epochs=1).fit()
        trainer = make_trainer(max_epochs=1)
        trainer.resume()
        assert trainer.fit().steps == first.steps

    def test_max_minutes(self, make_trainer: TrainerMaker, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [1000.0]
        monkeypatch.setattr(loop_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        recorder = Recorder()

        def pass_two_minutes() -> None:
            clock[0] += 120

        trainer = make_trainer(callbacks=[recorder, At(11, pass_two_minutes)], max_epochs=5, max_minutes=1.5)
        summary = trainer.fit()
        assert (summary.reason, summary.steps, summary.epochs) == ("max_minutes", 11, 1)
        # What there is by then is validated and saved.
        assert trainer.store.latest() == 11
        assert [epoch.step for epoch in recorder.epochs] == [8, 11]
        again = make_trainer(max_epochs=5, max_minutes=1.5)
        again.resume()
        assert again.progress.seconds == pytest.approx(120)
        assert again.fit().steps == 40

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_first_signal_saves_and_stops(self, make_trainer: TrainerMaker, number: signal.Signals) -> None:
        before = signal.getsignal(number)
        trainer = make_trainer(callbacks=[At(5, lambda: signal.raise_signal(number))])
        summary = trainer.fit()
        assert (summary.reason, summary.steps) == ("interrupted", 5)
        assert trainer.store.steps() == [5]
        assert signal.getsignal(number) is before

    def test_the_second_ctrl_c_ends_at_once(self, make_trainer: TrainerMaker) -> None:
        def twice() -> None:
            interrupt()
            interrupt()

        before = signal.getsignal(signal.SIGINT)
        trainer = make_trainer(callbacks=[At(5, twice)])
        with pytest.raises(KeyboardInterrupt):
            trainer.fit()
        assert trainer.store.steps() == []
        assert signal.getsignal(signal.SIGINT) is before

    def test_runs_outside_the_main_thread(self, make_trainer: TrainerMaker) -> None:
        trainer = make_trainer(max_epochs=1)
        thread = threading.Thread(target=trainer.fit)
        thread.start()
        thread.join()
        assert trainer.store.latest() == 8


class Exploding(nn.Module):
    """Its mask is NaN from a number of passes in training, or in evaluation, on."""

    def __init__(self, *, passes: int, training: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.left, self.when = passes, training

    def forward(self, magnitude: Tensor) -> Tensor:
        if self.training == self.when:
            self.left -= 1
        value = math.nan if self.left < 0 else 1.0
        return self.weight.sigmoid() * torch.full_like(magnitude, value)


class TestDivergence:
    def test_a_loss_that_is_no_number_ends_training_and_keeps_the_last_good_checkpoint(
        self, make_trainer: TrainerMaker
    ) -> None:
        trainer = make_trainer(network=Exploding(passes=10, training=True))
        with pytest.raises(TrainingError, match=r"nan at step 11 \(epoch 2, batch 3\); lower training\.lr") as caught:
            trainer.fit()
        assert "\n" not in str(caught.value)
        assert trainer.store.steps() == [8]
        assert all(torch.isfinite(tensor).all() for tensor in trainer.store.load(8, "model").values())

    def test_so_does_a_validation_loss(self, make_trainer: TrainerMaker) -> None:
        trainer = make_trainer(network=Exploding(passes=0, training=False))
        with pytest.raises(TrainingError, match="validation loss is nan after step 8"):
            trainer.fit()
        assert CheckpointStore(trainer.store.folder).steps() == []
