"""Configuration files: formats, syntax errors with their place, atomic rewrites."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import yaml

from auralflow_core.config import Config, config_path, load_config, read_mapping, save_config, validate
from auralflow_core.errors import AuralflowError, ConfigError


def names_in(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


DATA = {"model": {"type": "T", "name": "grün", "params": {"size": 3}}, "training": {"lr": 1e-05}}


@pytest.mark.parametrize("name", ["config.json", "config.yaml", "config.yml"])
def test_saved_is_loaded_as_file_and_as_folder(name: str, tmp_path: Path) -> None:
    config = validate(Config, DATA)
    save_config(config, tmp_path / name)
    assert names_in(tmp_path) == [name]
    assert config_path(tmp_path) == tmp_path / name
    for path in (tmp_path, tmp_path / name, str(tmp_path)):
        loaded = load_config(path)
        assert loaded.model_dump() == config.model_dump()
        assert loaded.folder == tmp_path


def test_files_are_plain_json_and_yaml(tmp_path: Path) -> None:
    config = validate(Config, DATA)
    save_config(config, tmp_path / "a.json")
    save_config(config, tmp_path / "a.yaml")
    expected = config.model_dump(mode="json")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == expected
    assert list(yaml.safe_load((tmp_path / "a.yaml").read_text(encoding="utf-8"))) == list(expected)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", '{"lr": 1,\n "b" 2}', ("line 2", "column 6")),
        ("a.json", '{"lr": 1,\n}', ("line 2", "column 1")),
        ("a.json", "", ("line 1", "column 1")),
        ("a.yaml", "lr: 1\ntargets: [a\nb: c\n", ("line 3", "column 2")),
        ("a.yaml", "lr: 1\n\tb: 2\n", ("line 2", "column 1")),
        ("a.yaml", 'a: "x\n', ("line 2",)),
        ("a.yaml", "a: &x 1\nb: *y\n", ("line 2", "column 4")),
        ("a.yaml", "a: 1\nb: \x07\n", ("line 2", "column 4")),
    ],
)
def test_syntax_error_names_line_and_column(name: str, text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_mapping(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.json", b"[1, 2]", "list"),
        ("a.yaml", b"", "empty"),
        ("a.yaml", b"word", "str"),
        ("a.json", b"\xff\xfe\x00", "text"),
    ],
)
def test_file_that_holds_something_else(name: str, content: bytes, word: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name}.*{word}"):
        read_mapping(tmp_path / name)


def test_missing_file_and_folders_that_are_no_models(tmp_path: Path) -> None:
    for path, words in {
        tmp_path / "no.json": "no.json.*no such file",
        tmp_path / "no_folder": "no_folder.*no such model folder.*auralflow config no_folder",
        tmp_path: "not a model folder.*config.json",
    }.items():
        with pytest.raises(ConfigError, match=words):
            load_config(path)


def test_folder_with_a_dot_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "model.v2"
    folder.mkdir()
    save_config(validate(Config, DATA), folder / "config.json")
    assert load_config(folder).model.type == "T"


@pytest.mark.parametrize("text", ["1e-4", "0.0001", "1.0E-4"])
def test_numbers_in_yaml(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"model: {{type: T}}\ntraining: {{lr: {text}, max_epochs: 1e2}}\ndataset: {{targets: [on, off]}}\n")
    config = load_config(path)
    assert config.training.lr == 1e-4 and config.training.max_epochs == 100
    assert config.dataset.targets == ["on", "off"]


def test_flat_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "T", "lr": 0.5, "max-num-samples": "1e5", "size": 3}')
    config = load_config(path)
    assert (config.training.lr, config.dataset.max_num_samples) == (0.5, 100_000)
    assert config.model.params == {"size": 3}


def test_fault_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"model": {"type": "T"}, "training": {"lr": -1}}')
    with pytest.raises(ConfigError, match=r"config.json: training.lr: -1 must be greater than 0"):
        load_config(path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_leaves_the_file_as_it_was(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    save_config(validate(Config, DATA), path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(AuralflowError, match="disk is full"):
        save_config(validate(Config, {"model": {"type": "Other"}}), path)
    assert path.read_bytes() == before and names_in(tmp_path) == ["config.json"]


def test_configuration_is_frozen_and_knows_its_folder_only_if_it_was_read() -> None:
    config = validate(Config, DATA)
    assert config.folder is None
    with pytest.raises(ValueError, match="frozen"):
        config.training.lr = 2.0
