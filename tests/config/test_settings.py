"""Every setting: its default, its names, its text, and what is said about one that does not fit."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args, get_origin

import annotated_types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from pydantic.fields import FieldInfo

from auralflow_core.config import Config, ModelParams, Setting, apply_settings, setting_paths, validate
from auralflow_core.config.group import Count, Group
from auralflow_core.config.settings import OLDER_NAMES, grouped
from auralflow_core.config.yaml import dump_yaml, parse_yaml
from auralflow_core.errors import ConfigError
from auralflow_core.registry import default_registry

Params = default_registry().models.get("SpectrogramNetSimple").load_params()

# As the document of the settings gives them; training has names there, but no defaults.
DOCUMENTED = {
    "model.params": {
        "normalize_input": False,
        "normalize_output": False,
        "mask_activation": "sigmoid",
        "hidden_channels": 16,
        "dropout_p": 0.4,
        "leak_factor": 0.2,
    },
    "dataset": {
        "targets": ["vocals"],
        "max_num_tracks": 80,
        "max_num_samples": 1e5,
        "num_channels": 1,
        "sample_length": 3,
        "sample_rate": 44100,
        "num_fft": 1024,
        "window_size": 1024,
        "hop_length": 512,
    },
}
DOCUMENTED_TRAINING = {
    "max_epochs": int,
    "batch_size": int,
    "lr": float,
    "stop_patience": int,
    "max_lr_steps": int,
    "criterion": str,
    "num_workers": int,
    "pin_memory": bool,
    "use_mixed_precision": bool,
    "silent_checkpoint": bool,
    "alpha_constant": float,
    "beta_constant": float,
}

BASE = {"model": {"type": "SpectrogramNetSimple", "name": "m"}}
ALL_PATHS = sorted(path for paths in setting_paths(Params).values() for path in paths)
NESTED = [path for path in ALL_PATHS if path.count(".") > 1 and not path.startswith("model.")]
PATHS = [path for path in ALL_PATHS if path not in NESTED]


def whole(config: Config) -> dict[str, Any]:
    data = config.model_dump(mode="json")
    data["model"]["params"] = validate(Params, data["model"]["params"]).model_dump(mode="json")
    return data


def value_at(data: Any, path: str) -> Any:
    for part in path.split("."):
        data = data[part]
    return data


def change(*settings: Setting) -> dict[str, Any]:
    return whole(validate(Config, apply_settings(BASE, settings, Params)))


def field_at(path: str) -> FieldInfo:
    *groups, last = path.removeprefix("model.params.").split(".")
    schema: Any = Params if path.startswith("model.params.") else Config
    for group in groups:
        annotation = schema.model_fields[group].annotation
        choices = [choice for choice in (annotation, *get_args(annotation)) if isinstance(choice, type)]
        schema = next(choice for choice in choices if issubclass(choice, Group))
    return schema.model_fields[last]  # type: ignore[no-any-return]


class TestDefaults:
    @pytest.mark.parametrize("group", DOCUMENTED)
    def test_are_those_of_the_document(self, group: str) -> None:
        defaults = value_at(whole(validate(Config, BASE)), group)
        assert {name: defaults[name] for name in DOCUMENTED[group]} == DOCUMENTED[group]

    @pytest.mark.parametrize("name", DOCUMENTED_TRAINING)
    def test_training_has_every_documented_setting(self, name: str) -> None:
        assert isinstance(value_at(change(), f"training.{name}"), DOCUMENTED_TRAINING[name])

    def test_model_is_named_by_type_and_name(self) -> None:
        with pytest.raises(ConfigError, match=r"model: is missing"):
            validate(Config, {})
        with pytest.raises(ConfigError, match=r"model.type: is missing"):
            validate(Config, {"model": {}})

    @pytest.mark.parametrize("path", ALL_PATHS)
    def test_every_setting_says_what_it_means(self, path: str) -> None:
        assert len(field_at(path).description or "") > 5


class TestNames:
    @pytest.mark.parametrize("path", PATHS)
    def test_every_setting_has_a_name_and_a_path_with_either_dash(self, path: str) -> None:
        name = next(name for name, paths in setting_paths(Params).items() if path in paths)
        text = text_of(value_at(change(), path))
        before = change(Setting(path, text))
        for spelling in (name, name.replace("_", "-"), path.replace("_", "-")):
            assert change(Setting(spelling, text)) == before

    @pytest.mark.parametrize("old", OLDER_NAMES)
    def test_older_names_lead_to_the_new_ones(self, old: str) -> None:
        text = text_of(value_at(change(), setting_paths(Params)[OLDER_NAMES[old]][0]))
        assert change(Setting(old, text)) == change(Setting(OLDER_NAMES[old], text))

    def test_architecture_with_a_setting_of_an_older_name(self) -> None:
        class Own(ModelParams):
            dropout: float = 0.1
            dropout_p: float = 0.2

        params = apply_settings(BASE, [Setting("dropout", "0.5")], Own)["model"]["params"]
        assert validate(Own, params) == Own(dropout=0.5)

    def test_name_that_stands_for_two_settings(self) -> None:
        class Own(ModelParams):
            lr: float = 0.1

        with pytest.raises(ConfigError, match=r"lr: .*training\.lr and model\.params\.lr"):
            apply_settings(BASE, [Setting("lr", "1")], Own)
        params = apply_settings(BASE, [Setting("model.params.lr", "1")], Own)["model"]["params"]
        assert validate(Own, params) == Own(lr=1)

    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("hiden_channels", "hidden_channels"),
            ("batchsize", "batch_size"),
            ("training.lrr", "training.lr"),
            ("Mask-Activation", "mask_activation"),
            ("nothing_like_it_at_all", "--display"),
            ("", "--display"),
            ("model", "model_"),
            ("model.params", "model.params."),
        ],
    )
    def test_unknown_name(self, name: str, near: str) -> None:
        with pytest.raises(ConfigError) as caught:
            change(Setting(name, "1"))
        assert str(caught.value).startswith(f"{name}: unknown setting") and near in str(caught.value)

    def test_later_setting_goes_before_an_earlier_one(self) -> None:
        assert value_at(change(Setting("lr", "1"), Setting("training.lr", "2")), "training.lr") == 2

    def test_data_given_is_not_changed(self) -> None:
        data = {"model": {"type": "T"}, "training": {"lr": 1.0}}
        apply_settings(data, [Setting("lr", "2")], None)
        assert data == {"model": {"type": "T"}, "training": {"lr": 1.0}}


class TestValues:
    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("max_num_samples", "1e5", 100_000),
            ("max_num_samples", "2.5e3", 2500),
            ("lr", "1e-4", 1e-4),
            ("lr", "1E-4", 1e-4),
            ("lr", "1", 1.0),
            ("lr", ".5", 0.5),
            ("pin_memory", "true", True),
            ("pin_memory", "on", True),
            ("pin_memory", "0", False),
            ("pin_memory", "no", False),
            ("pin_memory", None, True),
            ("targets", "vocals,drums", ["vocals", "drums"]),
            ("targets", " vocals , drums ", ["vocals", "drums"]),
            ("targets", "on", ["on"]),
            ("targets", "[vocals, drums]", ["vocals", "drums"]),
            ("targets", '["vocals", "drums"]', ["vocals", "drums"]),
            ("max_minutes", "null", None),
            ("max_minutes", "2.5", 2.5),
            ("model_name", "on", "on"),
            ("model_name", "1e-4", "1e-4"),
            ("model_name", "007", "007"),
            ("model_name", "null", "null"),
            ("dropout_p", "0", 0.0),
            ("hidden_channels", "16", 16),
        ],
    )
    def test_text_is_read_in_the_type_of_the_setting(self, name: str, text: str | None, value: Any) -> None:
        found = value_at(change(Setting(name, text)), setting_paths(Params)[name][0])
        assert found == value and type(found) is type(value)

    def test_setting_without_a_value(self) -> None:
        with pytest.raises(ConfigError, match=r"lr: has no value; write --lr VALUE"):
            change(Setting("lr", None))

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("lr", "0", ("training.lr", "0", "greater than 0")),
            ("lr", "-1e-3", ("training.lr", "-1e-3", "greater than 0")),
            ("lr", "nan", ("training.lr", "nan")),
            ("lr", "inf", ("training.lr", "inf")),
            ("lr", "fast", ("training.lr", "fast", "number")),
            ("lr", "", ("training.lr", "number")),
            ("batch_size", "0", ("training.batch_size", "0", "greater than 0")),
            ("batch_size", "2.5", ("training.batch_size", "2.5", "integer")),
            ("batch_size", "1e999", ("training.batch_size", "inf")),
            ("max_num_samples", "many", ("dataset.max_num_samples", "many")),
            ("num_channels", "3", ("dataset.num_channels", "3", "2")),
            ("sample_rate", "0", ("dataset.sample_rate", "0", "1000")),
            ("dropout_p", "1", ("model.params.dropout_p", "1", "less than 1")),
            ("dropout_p", "1.5", ("model.params.dropout_p", "1.5", "less than 1")),
            ("mask_activation", "sigmod", ("model.params.mask_activation", "sigmod", "relu", "did you mean sigmoid")),
            ("pin_memory", "maybe", ("training.pin_memory", "maybe", "boolean")),
            ("targets", "vocals,vocals", ("dataset.targets", "vocals", "twice")),
            ("targets", "vocals,,", ("dataset.targets", "empty")),
            ("targets", "", ("dataset.targets", "empty")),
            ("window_size", "2048", ("window_size 2048", "num_fft 1024")),
            ("hop_length", "2048", ("hop_length 2048", "1024", "512")),
            ("sample_length", "0.001", ("sample_length 0.001", "44 samples", "window_size 1024", "0.023")),
            ("alpha_constant", "0.9", ("alpha_constant 0.9", "beta_constant 0.2")),
            ("overlap", "0.9", ("separation.overlap", "0.9", "0.5")),
            ("validation_split", "1", ("dataset.validation_split", "1", "less than 1")),
            ("random_seed", "4294967296", ("training.random_seed", "4294967296")),
            ("mixed_precision_dtype", "int8", ("training.mixed_precision_dtype", "int8", "bf16")),
            ("sample_length", "inf", ("dataset.sample_length", "inf")),
            ("segment", "inf", ("separation.segment", "inf")),
            ("snippet_length", "inf", ("visuals.snippet_length", "inf")),
            ("max_minutes", "inf", ("training.max_minutes", "inf")),
            ("sample_length", "1e300", ("dataset.sample_length", "1e300")),
            ("num_fft", "1000000000", ("dataset.num_fft", "1000000000")),
            ("hop_length", "1024", ("hop_length 1024", "512")),
            ("targets", "../drums", ("dataset.targets", "../drums")),
            ("device", "gpu", ("training.device", "gpu", "cuda")),
        ],
    )
    def test_refusal_names_path_value_and_limit(self, name: str, text: str, words: tuple[str, ...]) -> None:
        with pytest.raises(ConfigError) as caught:
            change_params(name, text)
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert "\n" not in str(caught.value)

    def test_several_faults_are_named_at_once(self) -> None:
        with pytest.raises(
            ConfigError, match=r"training.lr: .*; training.batch_size: |training.batch_size: .*; training"
        ):
            change(Setting("lr", "0"), Setting("batch_size", "0"))


def change_params(name: str, text: str) -> None:
    """Change a setting and validate the architecture's own settings as `build.resolve` does."""
    config = validate(Config, apply_settings(BASE, [Setting(name, text)], Params))
    validate(Params, config.model.params, prefix="model.params")


class TestFiles:
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ({"training": {"lrr": 1}}, ("training.lrr", "unknown", "lr")),
            ({"trainig": {}}, ("trainig", "unknown", "training")),
            ({"training": 3}, ("training", "3")),
            ({"training": {"lr": [1]}}, ("training.lr", "[1]")),
            ({"dataset": {"targets": []}}, ("dataset.targets", "at least 1")),
            ({"dataset": {"targets": [3]}}, ("dataset.targets", "3")),
            ({"dataset": {"targets": 3}}, ("dataset.targets", "3")),
            ({"training": {"lr": None}}, ("training.lr", "None")),
        ],
    )
    def test_refusal_names_the_path(self, data: dict[str, Any], words: tuple[str, ...]) -> None:
        with pytest.raises(ConfigError) as caught:
            validate(Config, BASE | data, source="my.json")
        assert str(caught.value).startswith("my.json: ")
        assert all(word in str(caught.value) for word in words), str(caught.value)

    def test_flat_data_is_sorted_into_groups(self) -> None:
        flat = {"model_type": "T", "name": "m", "hidden-channels": 4, "epochs": 3, "lr": 0.5, "segment": 2}
        assert grouped(flat) == {
            "model": {"type": "T", "name": "m", "params": {"hidden_channels": 4}},
            "training": {"max_epochs": 3, "lr": 0.5},
            "separation": {"segment": 2},
        }

    def test_grouped_data_stays(self) -> None:
        data = {**BASE, "training": {"lr": 1}, "odd": 1}
        assert grouped(data) == data

    def test_keys_that_are_no_words(self) -> None:
        with pytest.raises(ConfigError, match=r"^1: .*no name of a setting"):
            grouped({1: 2, "model_type": "T"})


WORDS = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_ -]{0,6}[A-Za-z0-9_])?", fullmatch=True)
# Settings that others limit, with the others at their defaults.
LIMITED: dict[str, st.SearchStrategy[Any]] = {
    "dataset.num_fft": st.integers(1024, 2**15),
    "dataset.window_size": st.integers(1024, 1024),
    "dataset.hop_length": st.integers(1, 512),
    "dataset.sample_length": st.floats(0.03, 60),
    "dataset.train_csv": st.just(""),
    "dataset.validation_csv": st.just(""),
    "training.alpha_constant": st.floats(0, 0.79),
    "training.beta_constant": st.floats(0, 0.79),
    "training.criterion": WORDS
    | st.lists(
        st.fixed_dictionaries({"name": WORDS, "weight": st.just(0.5), "args": st.just({})}), min_size=1, max_size=2
    ),
    "training.device": st.sampled_from(["auto", "cpu", "cuda", "cuda:1", "mps"]),
    "separation.segment": st.floats(0.1, 600),
    "visuals.snippet_length": st.floats(0.1, 600),
}


def strategy(path: str, annotation: Any, field: FieldInfo) -> st.SearchStrategy[Any]:
    """Return the valid values of a setting, drawn from its schema."""
    if path in LIMITED:
        return LIMITED[path]
    if annotation is bool:
        return st.booleans()
    if annotation is int or annotation is float:
        low, high, open_low, open_high = limits(field)
        if annotation is int:
            return st.integers(low + open_low, min(high - open_high, 10**9))
        return st.floats(low, min(high, 1e4), exclude_min=open_low, exclude_max=open_high and high <= 1e4)
    if annotation is str:
        return WORDS
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if annotation == list[str]:
        return st.lists(WORDS, min_size=1, max_size=4, unique=True)
    choices = [choice for choice in get_args(annotation) if choice is not type(None)] or [annotation]
    if isinstance(choices[0], type) and issubclass(choices[0], Group):
        return st.just(value_at(change(), path))
    assert len(choices) == 1, f"{path}: no strategy for {annotation}"
    if choices[0] == Count:
        return st.none() | st.integers(1, 10**9)
    return st.none() | strategy(path, choices[0], field)


def limits(field: FieldInfo) -> tuple[Any, Any, bool, bool]:
    low, high, open_low, open_high = 0, 10**9, False, False
    for limit in field.metadata:
        if isinstance(limit, annotated_types.Ge):
            low = limit.ge
        elif isinstance(limit, annotated_types.Gt):
            low, open_low = limit.gt, True
        elif isinstance(limit, annotated_types.Le):
            high = limit.le
        elif isinstance(limit, annotated_types.Lt):
            high, open_high = limit.lt, True
    return low, high, open_low, open_high


def text_of(value: Any) -> str:
    """Return a value as a user would type it."""
    if isinstance(value, list):
        return ",".join(value) if all(isinstance(each, str) for each in value) else json.dumps(value)
    return json.dumps(value) if value is None or isinstance(value, (bool, dict)) else str(value)


STRATEGIES = {path: strategy(path, field_at(path).annotation, field_at(path)) for path in PATHS}


APART = (
    {"training.alpha_constant", "training.beta_constant"},
    {"training.compile", "training.gradient_checkpointing"},
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(PATHS), min_size=1, max_size=5, unique=True), st.data())
def test_any_valid_value_as_text_becomes_that_value(paths: list[str], data: st.DataObject) -> None:
    wanted = {
        path: data.draw(STRATEGIES[path], label=path)
        for path in paths
        # Two settings that limit each other are left out together.
        if not any(path in pair and pair <= set(paths) for pair in APART)
    }
    # A shorter window or a lower rate would limit the others in turn.
    if "dataset.sample_rate" in wanted:
        wanted["dataset.sample_length"] = 3.0
    changed = change(*(Setting(path, text_of(value)) for path, value in wanted.items()))
    assert {path: value_at(changed, path) for path in wanted} == wanted
    untouched = set(PATHS) - set(wanted)
    default = change()
    assert all(value_at(changed, path) == value_at(default, path) for path in untouched)
    for read in (json.loads(json.dumps(changed)), parse_yaml(dump_yaml(changed))):
        assert whole(validate(Config, read)) == changed


def test_schema_of_params_with_a_wrong_default_is_refused() -> None:
    # The base validates defaults too, so that a plugin's own mistake shows as soon as the class is used.
    class Wrong(ModelParams):
        size: int = Field(0, ge=1)

    with pytest.raises(ConfigError, match=r"model.params.size: 0 "):
        validate(Wrong, {}, prefix="model.params")


def test_params_are_frozen_and_handed_to_the_network() -> None:
    params = validate(Params, {"hidden_channels": 3})
    arguments = params.network_arguments()
    assert arguments["hidden_channels"] == 3 and arguments["mask_act_fn"] == "sigmoid"
    with pytest.raises(ValueError, match="frozen"):
        params.hidden_channels = 4  # type: ignore[attr-defined]
