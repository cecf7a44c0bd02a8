"""Settings of speed that the trainer itself sees to: TF32, transfer ahead, workers, checkpoints written beside."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from auralflow_core.checkpoint import CheckpointStore
from auralflow_core.config import Config, validate
from auralflow_core.data.chunks import ChunkDataset, ChunkKey, chunk_loader
from auralflow_core.data.song import Song
from auralflow_core.device import moved_ahead
from auralflow_core.errors import AuralflowError
from auralflow_core.trainer import Callback, Step, Trainer

TrainerMaker = Callable[..., Trainer]


class Precision(Callback):
    """Keeps the precision of products at each step; may fail."""

    def __init__(self, fails: bool = False) -> None:
        self.seen: set[str] = set()
        self._fails = fails

    def on_step(self, trainer: Trainer, step: Step) -> None:
        self.seen.add(torch.get_float32_matmul_precision())
        if self._fails:
            raise ZeroDivisionError


class TestTF32:
    @pytest.mark.parametrize(("is_on", "expected"), [(False, "highest"), (True, "high")])
    def test_precision_while_training_and_afterwards(
        self, is_on: bool, expected: str, make_trainer: TrainerMaker
    ) -> None:
        precision = Precision()
        make_trainer("model", [precision], max_epochs=1, tf32=is_on).fit()
        assert precision.seen == {expected}
        assert torch.get_float32_matmul_precision() == "highest"

    def test_precision_comes_back_after_a_failure(self, make_trainer: TrainerMaker) -> None:
        with pytest.raises(ZeroDivisionError):
            make_trainer("model", [Precision(fails=True)], tf32=True).fit()
        assert torch.get_float32_matmul_precision() == "highest"


class TestMovedAhead:
    def groups(self, count: int = 3) -> list[list[tuple[Tensor, Tensor]]]:
        return [[(torch.full((2,), float(n)), torch.full((2, 2), float(n)))] for n in range(count)]

    def test_nothing_is_done_on_a_cpu(self) -> None:
        groups = self.groups()
        taken = moved_ahead(iter(groups), torch.device("cpu"))
        assert next(taken) is groups[0]
        assert list(taken) == groups[1:]

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    @pytest.mark.parametrize("count", [0, 1, 5])
    def test_one_group_ahead_on_a_gpu(self, count: int) -> None:
        asked = []

        def source() -> Any:
            for number, group in enumerate(self.groups(count)):
                asked.append(number)
                yield [tuple(part.pin_memory() for part in batch) for batch in group]

        for number, group in enumerate(moved_ahead(source(), torch.device("cuda"))):
            assert asked[-1] == min(number + 1, count - 1)
            assert all(part.is_cuda and (part == number).all() for part in group[0])
        assert len(asked) == count


class Counting:
    """A source that leaves a byte in a file for each read, whatever process reads."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, start: int, frames: int) -> Any:
        with self._path.open("ab") as file:
            file.write(b".")
        return np.zeros((1, frames), np.float32)


@pytest.mark.parametrize("ahead", [1, 3])
def test_workers_load_as_many_batches_ahead_as_is_set(ahead: int, tmp_path: Path) -> None:
    sizes = {"num_fft": 32, "window_size": 32, "hop_length": 16, "sample_rate": 1000, "sample_length": 0.1}
    training = {"batch_size": 1, "num_workers": 1, "prefetch_factor": ahead}
    config = validate(Config, {"model": {"type": "Toy"}, "dataset": sizes, "training": training})
    source = Counting(tmp_path / "reads")
    song = Song("song", {"vocals": source, "drums": source}, source, 1000, 1, 3000)
    data = ChunkDataset([song], config.dataset)
    reads_of_a_chunk = _reads(tmp_path, lambda: data[ChunkKey(0, 0)])
    loader, _ = chunk_loader(data, config.training)
    batches = iter(loader)
    next(batches)
    # The one that was taken, and those that are loaded meanwhile: `ahead` of them.
    expected = (1 + ahead) * reads_of_a_chunk
    patience = threading.Event()
    while (tmp_path / "reads").stat().st_size < expected:
        patience.wait(0.01)
    patience.wait(0.2)
    assert (tmp_path / "reads").stat().st_size == expected
    del batches


def _reads(folder: Path, read: Callable[[], object]) -> int:
    """Return how often the source is read for one chunk."""
    read()
    count = (folder / "reads").stat().st_size
    (folder / "reads").unlink()
    return count


class SlowStore(CheckpointStore):
    """Writes nothing before it is allowed to; keeps what it was given."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.may_write = threading.Event()
        self.threads: list[str] = []

    def save(self, step: int, meta: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> Path:
        self.threads.append(threading.current_thread().name)
        assert self.may_write.wait(60)
        return super().save(step, meta, parts)


class At(Callback):
    """Does something after a step."""

    def __init__(self, step: int, action: Callable[[Trainer], object]) -> None:
        self._step = step
        self._action = action

    def on_step(self, trainer: Trainer, step: Step) -> None:
        if step.step == self._step:
            self._action(trainer)


SAVING: dict[str, Any] = {"checkpointing": {"save_every_n_steps": 3, "keep": 9}, "max_steps": 7, "max_epochs": 1}


class TestCheckpointsBesideTraining:
    def test_steps_go_on_while_a_checkpoint_is_written(
        self, make_trainer: TrainerMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        digests: dict[int, Any] = {}
        look = At(3, lambda trainer: digests.setdefault(3, _weights(trainer)))
        trainer = make_trainer("model", [look], **SAVING)
        store = SlowStore(trainer.store.folder)
        monkeypatch.setattr(trainer._writer, "_store", store)

        # Steps 4 and 5 are done before the checkpoint of step 3 is written.
        def release(_: Trainer) -> None:
            digests[5] = store.steps()
            store.may_write.set()

        trainer._callbacks.append(At(5, release))
        trainer.fit()
        assert digests[5] == []
        assert store.threads[0].startswith("checkpoint") and store.threads[-1] == threading.current_thread().name
        assert store.steps() == [3, 6, 7]
        saved = store.load(3, "model")
        assert _digest(saved) == digests[3]

    def test_failure_is_told(self, make_trainer: TrainerMaker) -> None:
        def block(trainer: Trainer) -> None:
            trainer.store.folder.parent.mkdir(parents=True, exist_ok=True)
            trainer.store.folder.write_text("a file in the place of the folder")

        trainer = make_trainer("model", [At(1, block)], **SAVING)
        with pytest.raises(AuralflowError, match="cannot write"):
            trainer.fit()

    def test_resumed_from_one_is_exact(self, make_trainer: TrainerMaker) -> None:
        whole = make_trainer("whole", **SAVING)
        whole.fit()

        def crash(trainer: Trainer) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            make_trainer("broken", [At(5, crash)], **SAVING).fit()
        torch.manual_seed(77)
        again = make_trainer("broken", **SAVING)
        assert again.store.steps() == [3]
        again.resume()
        again.fit()
        assert _digest(again.store.load(7, "model")) == _digest(whole.store.load(7, "model"))


def _weights(trainer: Trainer) -> str:
    return _digest(trainer.model.network.state_dict())


def _digest(state: Mapping[str, Tensor]) -> str:
    data = b"".join(state[name].detach().contiguous().numpy().tobytes() for name in sorted(state))
    return hashlib.sha256(data).hexdigest()
