"""The document's YAML, and the configurations that come with the plugin, through `auralflow config --from`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from auralflow_conformer.__main__ import FOLDER
from auralflow_conformer.config_format import convert, detects
from auralflow_conformer.params import ConformerParams
from auralflow_core.build import build_network
from auralflow_core.cli import main
from auralflow_core.config import Config, load_config, read_mapping, validate

README = Path(__file__).parents[1] / "README.md"
PAGE = Path(__file__).parents[3] / "docs/models/conformer.md"


def run(*words: object, status: int = 0) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result.output


def configured(source: Path, *words: object) -> tuple[Config, str]:
    printed = run("config", "m", "--from", source, "--save", source.parent, *words)
    return load_config(source.parent / "m"), printed


def paths(data: dict[str, Any], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in data.items():
        found |= paths(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
    return found


def test_the_document(document: Path) -> None:
    config, printed = configured(document)
    theirs = read_mapping(document)
    assert config.model.type == "Conformer"
    assert {name: config.model.params[name] for name in theirs["model"]} == theirs["model"]
    training = config.training
    assert (training.optimizer.name, training.optimizer.args, training.lr) == ("madgrad", {}, 2.5e-3)
    assert (training.scheduler.name, training.scheduler.warmup_steps) == ("cosine", 4000)
    grown = training.sequence_scheduler
    assert grown is not None
    assert (grown.increase_every, grown.start_after, grown.stop_after) == (5000, 0, 90000)
    assert (grown.increase_by_multiplier, grown.batch_size_multiplier) == (2, 0.5)
    assert (grown.max_sequence_length, config.dataset.sample_length) == (163.84, 5.12)
    assert config.dataset.num_frames == 512 + 1  # one more is centred on the last sample
    assert training.spec_augment is not None
    assert training.spec_augment.model_dump() == theirs["spec_augment"]
    assert training.checkpointing.save_every_n_steps == 2000
    for name in ("start_spec_augment_after_n_epochs", "max_epochs", "batch_size", "backprop_every", "clip_value"):
        assert getattr(training, name) == theirs["training"][name]
    assert (training.max_steps, config.separation.segment) == (90000, 163.84)
    lines = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    assert paths(theirs) <= set(lines)
    assert "training.max_steps" in lines["sequence_scheduler.stop_after"]
    assert config.visuals.wandb.model_dump() == theirs["wandb"]
    assert "visuals.wandb.use" in lines["wandb.use"] and "auralflow train" in lines["data.path"]


def test_every_key_is_accounted_for(document: Path) -> None:
    theirs = read_mapping(document)
    assert detects(theirs)
    conversion = convert(theirs)
    assert {*conversion.taken, *conversion.left} == paths(theirs)
    assert not any(text.startswith("unknown") for text in conversion.left.values())
    where = {key: text.replace(",", " ").split() for key, text in conversion.taken.items()}
    ours = paths(validate(Config, conversion.data).model_dump(mode="json")) | paths(
        {"model": {"params": conversion.data["model"]["params"]}}
    )
    named = {word for words in where.values() for word in words if "." in word and not word.startswith("(")}
    named = {word for word in named if not word.replace(".", "").isdigit()}
    assert named <= ours


def test_unknown_keys_are_named_with_the_nearest(document: Path) -> None:
    document.write_text(document.read_text().replace("n_heads:", "n_head:").replace("clip_value:", "clip_valu:"))
    _, printed = configured(document)
    assert "did you mean model.n_heads" in printed and "did you mean training.clip_value" in printed


def test_sections_may_be_left_out_or_empty(document: Path) -> None:
    text = document.read_text()
    model = text[: text.index("optimizer:")]
    document.write_text(
        model + "optimizer:\n  name: adam\n  args:\n    lr: 1e-4\n    weight_decay: 0.1\nspec_augment:\n"
    )
    config, printed = configured(document)
    training = config.training
    assert (training.lr, training.optimizer.args) == (1e-4, {"weight_decay": 0.1})
    assert training.sequence_scheduler is None and training.spec_augment is None and training.max_steps is None
    assert "an empty section" in printed


def test_backward_passes_are_no_steps(document: Path) -> None:
    document.write_text(document.read_text().replace("backprop_every: 1", "backprop_every: 4"))
    config, printed = configured(document)
    assert config.training.backprop_every == 4
    assert any("backwards_every" in line and "of its own" in line for line in printed.splitlines())


def test_a_sequence_scheduler_without_an_end_has_one(document: Path) -> None:
    text = document.read_text()
    kept = [line for line in text.splitlines() if not line.strip().startswith("stop_after")]
    document.write_text("\n".join(kept))
    config, _ = configured(document)
    assert config.training.max_steps == 90_000 and config.training.sequence_scheduler is not None
    assert config.training.sequence_scheduler.stop_after is None


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("size: 512", "size: 5.12", "audio_chunking.size: 5.12 must be a whole number of frames"),
        ("backprop_every: 1", "backprop_every: 0", "training.backprop_every"),
        ("d_model: 768", "d_model: wide", "model.params.d_model"),
        ("p: 0.5", "p: 1.5", "training.spec_augment.p"),
    ],
)
def test_values_that_make_no_sense_are_refused(document: Path, before: str, after: str, message: str) -> None:
    document.write_text(document.read_text().replace(before, after))
    printed = run("config", "m", "--from", document, "--save", document.parent, status=1)
    assert message in printed and not (document.parent / "m").exists()


def test_our_own_files_are_left_alone(tmp_path: Path) -> None:
    assert not detects({"model": {"type": "Conformer", "params": {"d_model": 8, "n_layers": 1}}})
    assert not detects({"model": {"params": {"d_model": 8, "n_layers": 1}}})
    assert not detects({"model": "Conformer", "d_model": 8, "n_layers": 2})


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configurations_that_come_along_build(path: Path, tmp_path: Path) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "auralflow_conformer", path.stem], capture_output=True, text=True, check=True
    )
    assert Path(printed.stdout.strip()) == path
    run("config", "m", "--from", path, "--save", tmp_path)
    config = load_config(tmp_path / "m")
    network = build_network(config)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    limits = {"document": (80, 100), "large": (38, 45), "small": (1, 3)}
    assert limits[path.stem][0] < millions < limits[path.stem][1]


def test_the_document_that_comes_along_is_the_document(document: Path) -> None:
    theirs, shipped = read_mapping(document), read_mapping(FOLDER / "document.yaml")
    for data in (theirs, shipped):
        data["checkpointing"]["dir"] = data["data"]["path"] = "elsewhere"
    assert theirs == shipped


def test_a_name_that_is_none() -> None:
    failed = subprocess.run([sys.executable, "-m", "auralflow_conformer", "smal"], capture_output=True, text=True)
    assert failed.returncode == 1 and not failed.stdout
    assert "did you mean small" in failed.stderr and "document,large,small" in failed.stderr


def test_the_examples_of_the_readme(tmp_path: Path) -> None:
    fences = dict(re.findall(r"```(python|yaml)\n(.*?)```", README.read_text(), re.S))
    names: dict[str, Any] = {}
    exec(fences["python"], names)
    assert names["masks"].shape == (1, 4, 2, 513, 300)
    source = tmp_path / "long.yaml"
    source.write_text("model: {type: Conformer}\n" + fences["yaml"])
    config, _ = configured(source, "--rotary_interpolation_factor", 2, "--attention_chunk", 256)
    assert config.training.sequence_scheduler is not None and config.training.spec_augment is not None
    assert (config.model.params["rotary_interpolation_factor"], config.model.params["attention_chunk"]) == (2, 256)


def test_the_page_describes_each_key_and_what_it_costs(document: Path) -> None:
    def first_cells(text: str) -> str:
        return "\n".join(re.findall(r"^\|([^|]*)\|", text, re.M))

    described, costs = (first_cells(part) for part in PAGE.read_text().split("## Files")[0].split("## What it costs"))
    defaults = dict(re.findall(r"`(\w+)`(?: \+)? \(([^)]+)\)", described))
    assert {name: yaml.safe_load(text) for name, text in defaults.items()} == {
        name: field.default for name, field in ConformerParams.model_fields.items()
    }
    assert set(read_mapping(document)["model"]) <= set(re.findall(r"`(\w+)`", costs))
