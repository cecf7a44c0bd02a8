"""Checkpoints: whole or absent, never executed, and each fault told in one line."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auralflow_core.checkpoint import FORMAT_VERSION, CheckpointStore
from auralflow_core.errors import AuralflowError, CheckpointError

MODEL = {"layer.weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(3)}
OPTIMIZER = {"state": {0: {"step": torch.tensor(2.0), "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3}]}
META = {"model_type": "Toy", "params": {"width": 2}}


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoint")


def save(store: CheckpointStore, *steps: int) -> Path:
    """Save whole checkpoints; return the last one's folder."""
    paths = [store.save(step, META, {"model": MODEL, "optimizer": OPTIMIZER}) for step in steps]
    return paths[-1]


def one_line(error: BaseException) -> str:
    text = str(error)
    assert text and "\n" not in text
    return text


class TestSaveAndLoad:
    def test_states_come_back(self, store: CheckpointStore) -> None:
        save(store, 4)
        assert store.load(4, "model").keys() == MODEL.keys()
        assert all(torch.equal(store.load(4, "model")[name], MODEL[name]) for name in MODEL)
        found = store.load(4, "optimizer")
        assert found["param_groups"] == OPTIMIZER["param_groups"]
        assert torch.equal(found["state"][0]["exp_avg"], torch.ones(2))

    def test_folder_holds_what_the_format_says(self, store: CheckpointStore) -> None:
        folder = save(store, 140)
        assert folder.name == "step-00000140"
        assert {path.name for path in folder.iterdir()} == {"model.safetensors", "optimizer.pt", "meta.json"}
        assert store.meta(140) == {"format_version": FORMAT_VERSION, "step": 140, **META}

    def test_tensors_that_share_memory_are_saved_apart(self, store: CheckpointStore) -> None:
        tensor = torch.arange(4.0)
        store.save(
            1, META, {"model": {"a": tensor, "b": tensor, "part": tensor[:2], "turned": MODEL["layer.weight"].T}}
        )
        found = store.load(1, "model")
        assert torch.equal(found["b"], tensor) and torch.equal(found["part"], tensor[:2])
        assert torch.equal(found["turned"], MODEL["layer.weight"].T)

    def test_the_same_state_gives_the_same_bytes(self, store: CheckpointStore) -> None:
        first, second = (save(store, step) for step in (1, 2))
        assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()

    def test_a_part_joins_the_others(self, store: CheckpointStore) -> None:
        save(store, 1)
        store.save_part(1, META, "scheduler", {"reductions": 2})
        assert store.load(1, "scheduler") == {"reductions": 2}
        assert torch.equal(store.load(1, "model")["count"], MODEL["count"])

    def test_saving_a_step_again_replaces_it(self, store: CheckpointStore) -> None:
        save(store, 1)
        store.save(1, META, {"model": {"new": torch.zeros(1)}})
        assert store.load(1, "model").keys() == {"new"}
        with pytest.raises(CheckpointError):
            store.load(1, "optimizer")


class TestSteps:
    def test_nothing_there(self, store: CheckpointStore) -> None:
        assert store.steps() == []
        for ask in (store.latest, store.best):
            with pytest.raises(CheckpointError, match="auralflow train"):
                ask()

    def test_latest_and_best(self, store: CheckpointStore) -> None:
        save(store, 20, 3, 100)
        assert store.steps() == [3, 20, 100]
        assert store.latest() == store.best() == 100
        store.mark_best(3, 0.5)
        assert store.best() == 3
        assert json.loads((store.folder / "best.json").read_text()) == {"step": 3, "loss": 0.5}

    def test_keep_only(self, store: CheckpointStore) -> None:
        save(store, 1, 2, 3, 4)
        store.mark_best(2, 0.1)
        store.keep_only({2, 4, 77})
        assert store.steps() == [2, 4]
        assert store.best() == 2
        store.keep_only({4})
        assert store.best() == 4

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"step": null}', '{"step": "x"}', '{"step": 99}'])
    def test_a_damaged_mark_means_the_latest(self, store: CheckpointStore, text: str) -> None:
        save(store, 1, 2)
        (store.folder / "best.json").write_text(text)
        assert store.best() == 2

    def test_other_files_are_no_checkpoints(self, store: CheckpointStore) -> None:
        save(store, 5)
        for name in ("step-x", "notes", ".step-00000009.0123456789ab.part"):
            (store.folder / name).mkdir()
            (store.folder / name / "meta.json").write_text("{}")
        (store.folder / "step-00000008").mkdir()
        (store.folder / "step-00000007").write_text("a file")
        assert store.steps() == [5]


# Saves step 2 beside step 1 in a store for each place, and is killed there, with no chance to clean up.
KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from auralflow_core import checkpoint, files

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

for owner, name in ((torch, "save"), (checkpoint, "_write_meta"), (files, "_replace_folder")):
    store = checkpoint.CheckpointStore(Path(sys.argv[1], name))
    store.save(1, {}, {"model": {"w": torch.ones(3)}, "optimizer": {"x": 1}})
    child = os.fork()
    if child == 0:
        setattr(owner, name, die)
        store.save(2, {}, {"model": {"w": torch.zeros(3)}, "optimizer": {"x": 2}})
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
"""


class TestCrash:
    def test_kill_while_saving_leaves_the_old_one_and_nothing_new(self, tmp_path: Path) -> None:
        subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=True)
        for name in ("save", "_write_meta", "_replace_folder"):
            store = CheckpointStore(tmp_path / name)
            assert store.steps() == [1]
            assert store.latest() == 1
            assert not (store.folder / "step-00000002").exists()
            assert torch.equal(store.load(1, "model")["w"], torch.ones(3))
            save(store, 2)
            assert store.latest() == 2

    @pytest.mark.parametrize("broken", ["a part", "the meta file"])
    def test_an_exception_leaves_nothing(
        self, store: CheckpointStore, broken: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save(store, 1)
        before = {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}
        meta: dict[str, Any] = META
        if broken == "a part":
            monkeypatch.setattr(torch, "save", _raise(RuntimeError("PytorchStreamWriter failed writing file")))
        else:
            meta = {"not json": object()}
        for step in (1, 2):
            with pytest.raises((AuralflowError, TypeError)):
                store.save(step, meta, {"model": MODEL, "optimizer": OPTIMIZER})
        assert {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()} == before

    def test_a_full_disk_says_so(self, store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
        save(store, 1)
        monkeypatch.setattr(torch, "save", _raise(OSError(28, "No space left on device")))
        with pytest.raises(AuralflowError, match="disk is full") as caught:
            save(store, 2)
        one_line(caught.value)
        assert store.steps() == [1]

    def test_a_part_that_fails_leaves_the_old_part(
        self, store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save(store, 1)
        monkeypatch.setattr(torch, "save", _raise(OSError(28, "No space left on device")))
        with pytest.raises(AuralflowError):
            store.save_part(1, META, "optimizer", {"x": 1})
        assert store.load(1, "optimizer")["param_groups"] == OPTIMIZER["param_groups"]


def _raise(error: Exception) -> Callable[..., None]:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    return fail


class Malicious:
    """Unpickled, it runs a command that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return (os.system, (f"touch '{self.path}'",))


class TestNothingIsExecuted:
    @pytest.mark.parametrize("way", ["torch", "torch legacy", "pickle"])
    def test_a_pickle_that_runs_code_is_refused(self, store: CheckpointStore, tmp_path: Path, way: str) -> None:
        path = save(store, 1) / "optimizer.pt"
        evil = {"state": Malicious(tmp_path / "executed")}
        if way == "pickle":
            path.write_bytes(pickle.dumps(evil, protocol=2))
        else:
            torch.save(evil, path, _use_new_zipfile_serialization=way == "torch")
        with pytest.raises(CheckpointError) as caught:
            store.load(1, "optimizer")
        one_line(caught.value)
        assert not (tmp_path / "executed").exists()
        # The file is what it is said to be: unprotected, it runs.
        torch.load(path, weights_only=False) if way != "pickle" else pickle.loads(path.read_bytes())
        assert (tmp_path / "executed").exists()

    def test_a_pickle_in_place_of_weights_is_refused(self, store: CheckpointStore, tmp_path: Path) -> None:
        path = save(store, 1) / "model.safetensors"
        torch.save({"w": Malicious(tmp_path / "executed")}, path)
        with pytest.raises(CheckpointError):
            store.load(1, "model")
        assert not (tmp_path / "executed").exists()


# torch speaks of an unusual protocol before it refuses; some damage looks like one.
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
class TestDamage:
    @pytest.mark.parametrize("name", ["model", "optimizer"])
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_a_damaged_file_is_read_or_refused(self, store: CheckpointStore, name: str, data: st.DataObject) -> None:
        folder = save(store, 1)
        path = folder / ("model.safetensors" if name == "model" else "optimizer.pt")
        content = bytearray(path.read_bytes())
        kind = data.draw(st.sampled_from(["cut", "flip", "random"]))
        if kind == "cut":
            content = content[: data.draw(st.integers(0, len(content) - 1))]
        elif kind == "flip":
            for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
                content[place] ^= 1 << data.draw(st.integers(0, 7))
        else:
            content = bytearray(data.draw(st.binary(max_size=200)))
        path.write_bytes(content)
        try:
            assert isinstance(store.load(1, name), dict)
        except CheckpointError as error:
            assert str(path) in one_line(error)

    @pytest.mark.parametrize("content", [5, None, torch.ones(2), [1, 2], "text"])
    def test_a_file_that_holds_something_else_is_refused(self, store: CheckpointStore, content: object) -> None:
        torch.save(content, save(store, 1) / "optimizer.pt")
        with pytest.raises(CheckpointError) as caught:
            store.load(1, "optimizer")
        one_line(caught.value)

    @pytest.mark.parametrize("text", ["", "{", "\ufffe", "[1]", "null", "5", '"text"', '{"format_version": "new"}'])
    def test_damaged_facts_are_refused(self, store: CheckpointStore, text: str) -> None:
        (save(store, 1) / "meta.json").write_text(text, encoding="utf-16" if text == "\ufffe" else "utf-8")
        with pytest.raises(CheckpointError, match=r"meta\.json") as caught:
            store.meta(1)
        one_line(caught.value)

    def test_a_newer_format_is_refused_with_the_way_out(self, store: CheckpointStore) -> None:
        path = save(store, 1) / "meta.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": FORMAT_VERSION + 1}))
        with pytest.raises(CheckpointError, match=f"version {FORMAT_VERSION + 1}.*pip install --upgrade auralflow"):
            store.meta(1)
