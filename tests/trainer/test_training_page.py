"""Every example of docs/training.md is valid, and no group goes unmentioned."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from auralflow_core.config import TrainingConfig, validate
from auralflow_core.config.yaml import parse_yaml

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", PAGE, re.S))
def test_examples(example: str) -> None:
    settings = parse_yaml(example)
    config = validate(TrainingConfig, settings)
    assert settings.keys() <= config.model_fields_set


@pytest.mark.parametrize(
    "group",
    ["optimizer", "scheduler", "sequence_scheduler", "spec_augment", "validation", "checkpointing", "ema"],
)
def test_every_setting_of_a_group_is_shown(group: str) -> None:
    field = TrainingConfig.model_fields[group].annotation
    [schema] = [each for each in (field, *getattr(field, "__args__", ())) if hasattr(each, "model_fields")]
    for name in schema.model_fields:
        assert re.search(rf"\b{name}\b", PAGE), name
