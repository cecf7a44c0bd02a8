"""`auralflow config` and `auralflow create`, as the documents write them."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from auralflow_core.config import load_config
from auralflow_core.layout import ModelFolder

TYPE = "SpectrogramNetSimple"


def names_in(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(path: str) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


@pytest.fixture
def tone(install_plugin: Any) -> None:
    """Install an architecture that shares one parameter with the others."""
    install_plugin(
        "auralflow-tone",
        "from auralflow_core import ModelParams, hookimpl\n"
        "class Params(ModelParams):\n    dropout_p: float = 0.0\n    width: int = 5\n"
        "@hookimpl\ndef register_models(register):\n"
        "    register('Tone', network='a.b:C', params=Params, domain='magnitude', summary='')\n",
    )


def make(invoke: Any, *words: str) -> Path:
    invoke("config", "m", TYPE, *words)
    return Path("m")


class TestNewModel:
    def test_as_documented(self, invoke: Any) -> None:
        result = invoke("config", "my_model", TYPE, "--save", "to/this/directory")
        path = "to/this/directory/my_model/config.json"
        assert result.stdout == f"Created {path}\n" and not result.stderr
        data = read(path)
        assert list(data) == ["model", "dataset", "training", "separation", "visuals"]
        assert (data["model"]["type"], data["model"]["name"]) == (TYPE, "my_model")
        assert data["model"]["params"]["mask_activation"] == "sigmoid"
        assert names_in("to/this/directory/my_model") == ["config.json"]

    def test_by_options(self, invoke: Any) -> None:
        invoke("config", "--model", TYPE, "--name", "m")
        assert read("m/config.json")["model"]["name"] == "m"

    def test_with_settings_at_once(self, invoke: Any) -> None:
        folder = make(
            invoke, "--hidden_channels", "4", "--training.lr=1e-4", "--pin-memory", "--targets", "vocals", "bass"
        )
        config = load_config(folder)
        assert config.model.params["hidden_channels"] == 4
        assert (config.training.lr, config.training.pin_memory) == (1e-4, True)
        assert config.dataset.targets == ["vocals", "bass"]

    def test_in_yaml(self, invoke: Any) -> None:
        assert invoke("config", "m", TYPE, "--format", "yaml").stdout == "Created m/config.yaml\n"
        assert yaml.safe_load(Path("m/config.yaml").read_text())["model"]["type"] == TYPE
        invoke("config", "m", "--lr", "0.5")
        assert names_in("m") == ["config.yaml"] and load_config("m").training.lr == 0.5

    def test_existing_one_is_not_overwritten(self, invoke: Any, refused: Callable[..., str]) -> None:
        path = make(invoke, "--lr", "0.5") / "config.json"
        before = path.read_bytes()
        text = refused("config", "m", TYPE)
        assert f"--model_type {TYPE}" in text and "--force" in text
        assert "another NAME" in refused("config", "m", "--from", str(path))
        assert path.read_bytes() == before
        invoke("config", "m", TYPE, "--force")
        assert load_config("m").training.lr == 1e-3

    def test_force_replaces_the_other_format_too(self, invoke: Any) -> None:
        make(invoke)
        invoke("config", "m", TYPE, "--force", "--format", "yaml")
        assert names_in("m") == ["config.yaml"]

    @pytest.mark.parametrize("is_flat", [True, False], ids=["flat", "grouped"])
    @pytest.mark.parametrize("suffix", ["json", "yaml"])
    def test_from_a_file(self, is_flat: bool, suffix: str, invoke: Any) -> None:
        flat = {"model_type": TYPE, "hidden_channels": 4, "lr": 0.5, "epochs": 7}
        nested = {
            "model": {"type": TYPE, "name": "other", "params": {"hidden_channels": 4}},
            "training": {"lr": 0.5, "max_epochs": 7},
        }
        data = flat if is_flat else nested
        Path(f"source.{suffix}").write_text(json.dumps(data) if suffix == "json" else yaml.safe_dump(data))
        invoke("config", "m", "--from", f"source.{suffix}", "--batch_size", "3")
        config = load_config("m")
        assert config.model.name == "m" and config.model.params["hidden_channels"] == 4
        assert (config.training.lr, config.training.max_epochs, config.training.batch_size) == (0.5, 7, 3)

    @pytest.mark.parametrize("words", [("Tone",), ("--model", "Tone"), ("--model.type", "Tone"), ("--base", "Tone")])
    def test_from_a_model_of_another_type(self, words: tuple[str, ...], invoke: Any, tone: None) -> None:
        make(invoke, "--dropout_p", "0.3", "--lr", "0.5", "--leak_factor", "0.1")
        told = invoke("config", "other", *words, "--width", "6", "--from", "m").stdout
        [line] = [line for line in told.splitlines() if line.startswith("Left out, ")]
        assert line.startswith(f"Left out, as Tone does not have these parameters of {TYPE}: ")
        left_out = line.partition(f"{TYPE}: ")[2].split(", ")
        assert sorted([*left_out, "dropout_p"]) == sorted(load_config("m").model.params)
        config = load_config("other")
        assert (config.model.type, config.model.params) == ("Tone", {"dropout_p": 0.3, "width": 6})
        assert config.training.lr == 0.5

    def test_from_a_file_that_is_wrong_for_its_own_type(self, refused: Callable[..., str], tone: None) -> None:
        for type_ in (TYPE, "UNetSpec"):
            Path("source.json").write_text(json.dumps({"model_type": type_, "hiden_channels": 4}))
            assert "did you mean hidden_channels" in refused("config", "m", TYPE, "--from", "source.json")
        Path("source.json").write_text(json.dumps({"hidden_channels": 4}))
        assert "model.params.hidden_channels: unknown" in refused("config", "m", "Tone", "--from", "source.json")
        assert not Path("m").exists()

    def test_from_a_type_that_is_not_installed(self, invoke: Any, refused: Callable[..., str], tone: None) -> None:
        Path("source.json").write_text(json.dumps({"model_type": "Gone", "width": 6, "depth": 2}))
        new = ("config", "m", "Tone", "--from", "source.json")
        assert refused(*new, "--lr", "0") == "Error: training.lr: '0' must be greater than 0\n"
        assert "Tone does not have these parameters of Gone: depth\n" in invoke(*new).stdout
        assert load_config("m").model.params == {"dropout_p": 0.0, "width": 6}

    def test_from_a_file_without_a_type(self, invoke: Any, refused: Callable[..., str]) -> None:
        Path("source.json").write_text('{"lr": 0.5}')
        assert "source.json" in refused("config", "m", "--from", "source.json")
        invoke("config", "m", TYPE, "--from", "source.json")
        assert load_config("m").training.lr == 0.5

    def test_refusal_makes_nothing(self, refused: Callable[..., str]) -> None:
        Path("bad.json").write_text('{"lr": 1,\n "b" 2}')
        Path("wrong.json").write_text(json.dumps({"model_type": TYPE, "lr": -1}))
        for words, expected in {
            ("m", "SpectrogramNetSimpel"): f"did you mean {TYPE}",
            ("m", TYPE, "--device", "gpu"): "training.device: 'gpu' must be cpu, cuda, cuda:N, mps, or auto",
            ("m", TYPE, "--lr", "0"): "training.lr: '0' must be greater than 0",
            ("m", TYPE, "--lrr", "1"): "lrr: unknown setting",
            ("m", TYPE, "--criterion", "l3"): "training.criterion: criterion 'l3'",
            ("m", TYPE, "--dataset.type", "fodler"): "did you mean folder?",
            ("m", "--from", "bad.json"): "bad.json: syntax error at line 2, column 6",
            ("m", "--from", "none.json"): "none.json: no such file",
            ("m", "--from", "wrong.json"): "training.lr: -1 must be greater than 0",
            ("m", "--lr", "1"): "no such model folder",
        }.items():
            assert expected in refused("config", *words)
            assert not Path("m").exists()

    def test_refusal_of_a_file_names_the_file(self, refused: Callable[..., str]) -> None:
        Path("wrong.json").write_text(json.dumps({"model_type": TYPE, "lr": -1}))
        assert "wrong.json" in refused("config", "m", "--from", "wrong.json")

    @pytest.mark.parametrize(
        "words",
        [
            (),
            ("m", TYPE, "more"),
            ("m", TYPE, "--model", TYPE),
            ("m", TYPE, "--format", "xml"),
            ("m", "-x", "3"),
            ("", TYPE),
        ],
    )
    def test_wrong_usage_has_status_2(self, words: tuple[str, ...], invoke: Any) -> None:
        assert "Usage: " in invoke("config", *words, status=2).stderr

    def test_place_that_cannot_be_written(self, refused: Callable[..., str]) -> None:
        Path("file").write_text("")
        assert "file" in refused("config", "m", TYPE, "--save", "file")


class TestChange:
    def test_as_documented(self, invoke: Any) -> None:
        make(invoke)
        result = invoke("config", "m", "--mask_activation", "relu", "--dropout_p", "0.3", "--display")
        assert result.stdout.startswith("Changed m/config.json\n")
        lines = [line.split() for line in result.stdout.splitlines()]
        assert ["*", "model.params.mask_activation", "relu"] in lines
        assert ["*", "model.params.dropout_p", "0.3"] in lines
        assert ["training.lr", "0.001"] in lines
        assert sum(line[:1] == ["*"] for line in lines) == 2
        params = read("m/config.json")["model"]["params"]
        assert (params["mask_activation"], params["dropout_p"]) == ("relu", 0.3)

    def test_in_the_folder_where_it_was_saved(self, invoke: Any) -> None:
        invoke("config", "m", TYPE, "--save", "deep/down")
        invoke("config", "m", "--save", "deep/down", "--lr", "0.5")
        invoke("config", "deep/down/m", "--batch_size", "3")
        config = load_config("deep/down/m")
        assert (config.training.lr, config.training.batch_size) == (0.5, 3)

    @pytest.mark.parametrize("spelling", ["--lr", "--training.lr", "--learning_rate", "--learning-rate"])
    @pytest.mark.parametrize("joint", [" ", "="])
    def test_every_spelling(self, spelling: str, joint: str, invoke: Any) -> None:
        make(invoke)
        invoke("config", "m", *f"{spelling}{joint}1e-4".split())
        assert load_config("m").training.lr == 1e-4

    @pytest.mark.parametrize(
        ("setting", "older", "newer"),
        [("mask_activation", "leak_relu", "leaky_relu"), ("criterion", "component_loss", "component")],
    )
    def test_values_of_older_documents(self, setting: str, older: str, newer: str, invoke: Any) -> None:
        from auralflow_core.build import build_model

        make(invoke, f"--{setting}", older)
        built = build_model(load_config("m"))
        invoke("config", "m", f"--{setting}", newer)
        expected = build_model(load_config("m"))
        assert repr(built.network) == repr(expected.network)
        assert type(built.criterion) is type(expected.criterion)

    def test_a_list_needs_no_brackets(self, invoke: Any, refused: Any) -> None:
        assert "conv_n_filters" in refused("config", "u", "unet.unet", "--conv_n_filters", "2,2]")
        invoke("config", "u", "unet.unet", "--conv_n_filters", "2,2,4,4,8,8", "--targets", "vocals,drums")
        assert read("u/config.json")["model"]["params"]["conv_n_filters"] == [2, 2, 4, 4, 8, 8]

    @pytest.mark.parametrize(
        "words",
        [
            ("--lr", "0"),
            ("--lr", "0.5", "--batch_size", "0"),
            ("--lr", "0.5", "--nothing", "3"),
            ("--dropout_p", "2"),
            ("--criterion", "l3"),
            ("--window_size", "2048"),
            ("--model_type", "Nothing"),
            ("--lr",),
            ("--targets", "a,a"),
        ],
    )
    def test_refused_change_leaves_the_bytes(self, words: tuple[str, ...], invoke: Any, refused: Any) -> None:
        path = make(invoke) / "config.json"
        # A file that a person laid out by hand.
        path.write_text(path.read_text().replace("  ", "\t"))
        before = (path.read_bytes(), path.stat().st_mtime_ns)
        refused("config", "m", *words)
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_full_disk_leaves_the_bytes(
        self, call: str, invoke: Any, refused: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = make(invoke) / "config.json"
        before = path.read_bytes()

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, call, fail)
        assert "disk is full" in refused("config", "m", "--lr", "0.5")
        assert path.read_bytes() == before and names_in("m") == ["config.json"]

    def test_change_of_format(self, invoke: Any) -> None:
        make(invoke, "--lr", "1e-4")
        assert invoke("config", "m", "--format", "yaml").stdout == "Changed m/config.yaml\n"
        assert names_in("m") == ["config.yaml"] and load_config("m").training.lr == 1e-4
        invoke("config", "m", "--format", "json")
        assert names_in("m") == ["config.json"] and load_config("m").training.lr == 1e-4

    def test_display_alone_changes_nothing(self, invoke: Any) -> None:
        path = make(invoke) / "config.json"
        before = path.stat().st_mtime_ns
        result = invoke("config", "m", "--display")
        assert "Changed" not in result.stdout and "training.lr" in result.stdout
        assert path.stat().st_mtime_ns == before

    def test_value_out_of_range_in_the_file_can_be_mended(self, invoke: Any, refused: Any) -> None:
        path = make(invoke) / "config.json"
        path.write_text(path.read_text().replace('"lr": 0.001', '"lr": 99'))
        assert "config.json: training.lr: 99" in refused("config", "m", "--batch_size", "3")
        invoke("config", "m", "--lr", "0.5")
        assert load_config("m").training.lr == 0.5

    def test_syntax_error_in_the_file(self, invoke: Any, refused: Any) -> None:
        path = make(invoke) / "config.json"
        path.write_text('{"model": {"type": "SpectrogramNetSimple",\n  "name" "m"}}')
        before = path.read_bytes()
        assert "m/config.json: syntax error at line 2, column 10" in refused("config", "m", "--lr", "1")
        assert path.read_bytes() == before

    @pytest.mark.parametrize("name", ["model_type", "model.type", "base_model"])
    def test_change_of_the_type_keeps_what_fits(self, name: str, invoke: Any, tone: None) -> None:
        make(invoke, "--dropout_p", "0.3", "--lr", "0.5")
        told = invoke("config", "m", f"--{name}", "Tone", "--width", "6").stdout
        assert f"Tone does not have these parameters of {TYPE}: " in told and "hidden_channels" in told
        config = load_config("m")
        assert (config.model.type, config.model.params) == ("Tone", {"dropout_p": 0.3, "width": 6})
        assert config.training.lr == 0.5

    @pytest.mark.parametrize("words", [(), ("--quiet",), ("--json",)])
    def test_training_tells_what_gives_way(self, words: tuple[str, ...], invoke: Any, tone: None) -> None:
        make(invoke)
        result = invoke("train", "m", "no songs", "--model.type", "Tone", *words, status=1)
        assert ("Left out, as Tone does not have" in result.stdout) == (not words)
        assert load_config("m").model.type == TYPE

    def test_alias_is_kept_under_its_own_name(self, invoke: Any) -> None:
        invoke("config", "m", "UNetSpec")
        assert load_config("m").model.type == TYPE


class TestSession:
    def test_models_share_their_runs(self, invoke: Any) -> None:
        assert "--save here/s" in invoke("create", "s", "--save", "here").stdout
        invoke("config", "a", TYPE, "--save", "here/s")
        invoke("config", "b", TYPE)
        assert ModelFolder(Path("here/s/a")).runs.resolve() == Path("here/s/runs/a").resolve()
        assert ModelFolder(Path("b")).runs == Path("b/runs")
        assert names_in("here/s") == ["a", "runs", "session.json"]
        assert read("here/s/session.json") == {"name": "s"}

    def test_existing_folder_is_not_taken(self, invoke: Any, refused: Any) -> None:
        invoke("create", "s")
        assert "session already" in refused("create", "s")
        Path("full").mkdir()
        Path("full/file").write_text("")
        assert "not empty" in refused("create", "full")
        assert names_in("full") == ["file"]
        Path("empty").mkdir()
        invoke("create", "empty")
