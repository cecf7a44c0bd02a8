"""What doctor measures of a trial, of the loader and of the disk is judged."""

from __future__ import annotations

import os
from typing import Any

import pytest

from auralflow_core.config import Config, TrainingConfig, validate
from auralflow_core.doctor.finding import Finding
from auralflow_core.doctor.loading import Loading, check_disk_speed, check_loader
from auralflow_core.doctor.trial import MOST_STEPS, Trial, check_memory, check_overfit, is_enough


def test_a_halt_is_no_reason_for_fewer_steps() -> None:
    halted = [0.5, 0.01, 0.01, 1200.0, 0.01]
    assert not is_enough(halted, 5.0)
    assert not is_enough([0.5, *[0.01] * (MOST_STEPS - 2)], 5.0)
    assert is_enough([0.5, *[0.01] * (MOST_STEPS - 1)], 5.0)
    assert not is_enough([600.0, 600.0], 5.0)
    assert is_enough([600.0, 600.0, 600.0], 5.0)
    assert is_enough([1.0] * 11, 5.0) and not is_enough([1.0] * 9, 5.0)


def trial(**facts: Any) -> Trial:
    usual = {"losses": [1.0] * 20, "step_seconds": 1.0, "loading": Loading(1.0, 1.0, 1.0, 1), "peak_bytes": 2**30}
    return Trial(**{**usual, **facts})


def first(found: Any) -> dict[str, Any]:
    finding: Finding = next(iter(found))
    return vars(finding)


def test_figures_of_a_trial_are_judged() -> None:
    config = validate(Config, {"model": {"type": "none"}})
    assert config.training.num_workers == 0
    assert first(check_overfit(trial()))["severity"] == "warning"
    assert first(check_overfit(trial(losses=[1.0, float("nan")])))["severity"] == "error"
    assert first(check_overfit(trial(losses=[-1.0, *[-1.5] * 20])))["severity"] == "info"
    # Fewer steps are made where each takes long.
    assert first(check_overfit(trial(losses=[1.0, *[0.995] * 19])))["severity"] == "info"
    assert first(check_overfit(trial(losses=[1.0, *[0.995] * 99])))["severity"] == "warning"
    assert first(check_memory(trial(peak_bytes=2**60), 0))["severity"] == "warning"
    assert first(check_memory(trial(peak_bytes=1), 0))["severity"] == "info"


@pytest.mark.parametrize(
    ("loaded", "workers", "severity", "next_step"),
    [
        (1000.0, 0, "info", ""),
        (40.0, 0, "warning", "set num_workers to 1"),
        (12.0, 2, "info", ""),
        (8.0, 2, "warning", "set num_workers to 3"),
        (1.0, 2, "warning", "22 workers on 4 cores would do"),
    ],
)
def test_a_loader_that_starves_training_is_found(
    monkeypatch: pytest.MonkeyPatch, loaded: float, workers: int, severity: str, next_step: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    training = TrainingConfig(batch_size=10, num_workers=workers)
    found = first(check_loader(Loading(loaded, 0, 1, 1), 1.0, training))
    assert (found["severity"], found["next_step"][: len(next_step)]) == (severity, next_step)


@pytest.mark.parametrize(
    ("from_disk", "gigabytes", "severity"), [(20.0, 100, "info"), (5.0, 1, "info"), (5.0, 100, "warning")]
)
def test_a_disk_that_starves_training_is_found(from_disk: float, gigabytes: int, severity: str) -> None:
    loading = Loading(100.0, from_disk, 1e6, gigabytes * 2**30)
    found = first(check_disk_speed(loading, 1.0, TrainingConfig(batch_size=10), 16 * 2**30))
    assert (found["severity"], found["value"]) == (severity, f"{from_disk} chunks/s, {from_disk:.0f} MB/s")
