"""What several processes need of each other, without starting any: shares of batches, settings that cannot work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auralflow_core.data.chunks import BatchSampler, ChunkKey
from auralflow_core.errors import ConfigError
from auralflow_core.trainer import Trainer
from auralflow_core.trainer.distributed import World, check_processes
from auralflow_core.trainer.passes import make_passes


class Two(World):
    size = 2


@given(chunks=st.integers(1, 40), batch_size=st.integers(1, 12), size=st.integers(1, 5))
def test_shares_are_the_batch_and_no_chunk_is_in_two(chunks: int, batch_size: int, size: int) -> None:
    data: Any = range(chunks)
    samplers = [BatchSampler(data, batch_size, rank, size) for rank in range(size)]
    for batch in range(len(samplers[0])):
        shares = [sampler.share(3, batch) for sampler in samplers]
        assert sorted(key for share in shares for key in share) == samplers[0].keys(3, batch)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for sampler in samplers:
        sampler.start_at(3)
        taken = list(sampler)
        assert len(taken) == -(-chunks // batch_size) and all(taken), "each process has something to do in each step"
        assert all(isinstance(key, ChunkKey) for batch in taken for key in batch)


@pytest.mark.parametrize(
    ("training", "reason"),
    [
        ({"batch_size": 1}, "training.batch_size: 1 chunks cannot be shared among 2 processes"),
        ({"distributed": {"sync_batch_norm": True}}, "training.distributed.sync_batch_norm: torch has it for GPUs"),
        ({"distributed": "fsdp2", "optimizer": "muon"}, "fsdp2 cuts matrices into pieces, and muon"),
    ],
)
def test_what_cannot_work_is_refused(
    make_trainer: Callable[..., Trainer], training: dict[str, Any], reason: str
) -> None:
    model = make_trainer("model", [], "plain", **training).model
    with pytest.raises(ConfigError, match=reason):
        check_processes(model, Two())
        make_passes(model, Two())


def test_one_process_needs_no_settings_of_several(make_trainer: Callable[..., Trainer]) -> None:
    training = {"batch_size": 1, "distributed": {"strategy": "fsdp2", "sync_batch_norm": True}}
    assert make_trainer("model", [], "plain", max_steps=1, **training).fit().steps == 1


def test_a_device_that_all_would_share_is_refused(make_trainer: Callable[..., Trainer]) -> None:
    model = make_trainer().model
    model.device = torch.device("meta")
    with pytest.raises(ConfigError, match="cpu is one device, and there are 2 processes"):
        check_processes(model, Two())


def test_one_process_forms_no_group(
    model_folder: Path, song_folder: Path, invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("torch.distributed.init_process_group")
    words = ["--save_images", "false", "--save_audio", "false", "--tensorboard", "false", "--max_steps", 1]
    invoke("train", model_folder, song_folder, "--quiet", *words)
