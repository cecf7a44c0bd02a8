"""Spleeter's configuration files through `auralflow config --from`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from auralflow_core.build import build_network, convert_config
from auralflow_core.cli import main
from auralflow_core.config import Config, load_config, validate
from auralflow_core.errors import ConfigError
from auralflow_spleeter.base_config import convert, detects

# The published files differ in these.
STEMS: dict[str, dict[str, Any]] = {
    "2stems": {
        "instrument_list": ["vocals", "accompaniment"],
        "train_max_steps": 1000000,
        "random_seed": 0,
        "model": {"type": "unet.unet", "params": {}},
    },
    "4stems": {
        "instrument_list": ["vocals", "drums", "bass", "other"],
        "train_max_steps": 1500000,
        "random_seed": 3,
        "model": {"type": "unet.unet", "params": {"conv_activation": "ELU", "deconv_activation": "ELU"}},
    },
    "5stems": {
        "instrument_list": ["vocals", "piano", "drums", "bass", "other"],
        "train_max_steps": 2500000,
        "random_seed": 8,
        "model": {"type": "unet.softmax_unet", "params": {"conv_activation": "ELU", "deconv_activation": "ELU"}},
    },
}
SHARED: dict[str, Any] = {
    "train_csv": "path/to/train.csv",
    "validation_csv": "path/to/test.csv",
    "model_dir": "4stems",
    "mix_name": "mix",
    "sample_rate": 44100,
    "frame_length": 4096,
    "frame_step": 1024,
    "T": 512,
    "F": 1024,
    "n_channels": 2,
    "n_chunks_per_song": 40,
    "separation_exponent": 2,
    "mask_extension": "zeros",
    "learning_rate": 1e-4,
    "batch_size": 4,
    "training_cache": "training_cache",
    "validation_cache": "validation_cache",
    "throttle_secs": 600,
    "save_checkpoints_steps": 300,
    "save_summary_steps": 5,
}
FOUR = {**SHARED, **STEMS["4stems"]}


def run(*words: object, status: int = 0) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result.output


def configured(theirs: dict[str, Any], folder: Path, *words: object, status: int = 0) -> tuple[Config | None, str]:
    (folder / "base_config.json").write_text(json.dumps(theirs))
    printed = run("config", "m", "--from", folder / "base_config.json", "--save", folder, *words, status=status)
    return (load_config(folder / "m") if status == 0 else None), printed


# Every key that Spleeter documents, or reads without saying so, with a value that has a counterpart where there is one.
EVERY_KEY: dict[str, Any] = {
    **FOUR,
    "train_csv": "a/train.csv",
    "validation_csv": "a/validation.csv",
    "chunk_duration": 20.0,
    "loss_type": "L1_mask",
    "optimizer": "Adam",
    "stft_backend": "auto",
    "audio_adapter": None,
    "model": {
        "type": "unet.unet",
        "params": {**STEMS["4stems"]["model"]["params"], "conv_n_filters": [16, 32, 64, 128, 256, 512]},
    },
}


def test_the_readme_says_what_becomes_of_each_key() -> None:
    readme = Path(__file__).parents[1].joinpath("README.md").read_text()
    table = dict(
        re.findall(r"^\| `([\w.]+)` \| (.*?) \|$", readme[readme.index("| key of Spleeter |") :], re.MULTILINE)
    )
    with_masks, with_filter = convert(EVERY_KEY), convert({**EVERY_KEY, "MWF": True})
    taken = {**with_masks.taken, "MWF": with_filter.taken["MWF"]}
    assert set(table) == {*with_masks.taken, *with_masks.left, "MWF"}
    for key, text in table.items():
        said = re.findall(r"`([\w.]+)`", text.split(";")[0])
        assert (said == taken[key].split(", ")) if key in taken else text.startswith("nothing"), key
    assert {"mask_extension", "separation_exponent"} <= set(with_filter.left)
    validate(Config, with_masks.data)
    validate(Config, with_filter.data)


@pytest.mark.parametrize("stems", STEMS)
def test_the_published_files(stems: str, tmp_path: Path) -> None:
    theirs = {**SHARED, **STEMS[stems]}
    config, printed = configured(theirs, tmp_path)
    assert config is not None
    data, model = config.dataset, config.model
    assert (model.type, data.targets) == (theirs["model"]["type"], theirs["instrument_list"])
    assert (data.num_fft, data.window_size, data.hop_length, data.num_channels) == (4096, 4096, 1024, 2)
    assert (model.params["T"], model.params["F"], data.num_frames) == (512, 1024, 512)
    assert model.params["conv_activation"] == theirs["model"]["params"].get("conv_activation", "LeakyReLU")
    assert (config.training.lr, config.training.batch_size) == (1e-4, 4)
    assert config.training.random_seed == theirs["random_seed"]
    assert config.training.max_steps == config.training.max_epochs == theirs["train_max_steps"]
    assert (data.n_chunks_per_song, data.training_cache) == (40, "training_cache")
    assert data.validation_cache == "validation_cache"
    assert (config.separation.separation_exponent, config.separation.mask_extension) == (2, "zeros")
    lines = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    named = {*theirs, "model.type", *(f"model.params.{name}" for name in theirs["model"]["params"])} - {"model"}
    assert named <= set(lines)
    assert (config.training.checkpointing.save_every_n_steps, config.visuals.save_summary_steps) == (300, 5)
    assert config.training.validation.throttle_secs == 600 and "placeholder" in lines["train_csv"]


def test_a_segment_of_a_song_is_one_piece(tmp_path: Path) -> None:
    config, _ = configured({**FOUR, "sample_rate": 16000, "frame_step": 333}, tmp_path)
    assert config is not None
    samples = -(-config.separation.segment * config.dataset.sample_rate // 1)
    assert config.dataset.num_frames == -(-samples // 333) + 1 == 512


def test_tables_make_it_a_csv_data_set(tmp_path: Path) -> None:
    config, printed = configured({**FOUR, "train_csv": "a/train.csv", "validation_csv": "a/val.csv"}, tmp_path)
    assert config is not None
    data = config.dataset
    assert (data.type, data.train_csv, data.validation_csv, data.mix_name) == ("csv", "a/train.csv", "a/val.csv", "mix")
    assert data.other_channels == "discard" and "placeholder" not in printed


def test_norberts_filter_has_an_exponent_of_its_own(tmp_path: Path) -> None:
    config, printed = configured({**FOUR, "MWF": True}, tmp_path)
    assert config is not None
    assert (config.separation.wiener, config.separation.separation_exponent) == (1, 1)
    assert "MWF, or a single instrument, has no use for it" in printed
    assert validate(Config, convert({**FOUR, "MWF": False}).data).separation.wiener == 0


def test_one_instrument_has_no_ratio_mask() -> None:
    config = validate(Config, convert({**FOUR, "instrument_list": ["vocals"]}).data)
    assert config.separation.separation_exponent is None


def test_what_is_left_out_has_spleeters_value() -> None:
    data = validate(Config, convert({"instrument_list": ["vocals", "rest"], "mix_name": "mixture"}).data)
    assert (data.model.type, data.dataset.num_fft, data.dataset.num_channels) == ("unet.unet", 4096, 2)
    assert data.separation.separation_exponent == 2


def test_unknown_keys_are_named(tmp_path: Path) -> None:
    theirs = {**FOUR, "sampel_rate": 1, "model": {"type": "blstm.blstm", "params": {"lstm_unit": 3, "lstm_units": 9}}}
    config, printed = configured(theirs, tmp_path)
    assert config is not None and config.model.params["lstm_units"] == 9
    assert "unknown to Spleeter; did you mean sample_rate?" in printed
    assert "unknown to Spleeter; did you mean model.params.lstm_units" in printed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"F": 3000}, "F: 3000 is above the 2049 bins"),
        ({"T": 100}, "model.params.T: 100 must be a multiple of 64"),
        ({"T": "many"}, "T: 'many' must be a whole number"),
        ({"frame_step": 0}, "frame_step: 0"),
        ({"frame_step": 4096}, "hop_length 4096"),
        ({"n_channels": 6}, "dataset.num_channels: 6"),
        ({"mask_extension": "mean"}, "separation.mask_extension: 'mean'"),
        ({"instrument_list": "vocals"}, "instrument_list: 'vocals' must be a list"),
        ({"model": {"type": "unet.unett"}}, "model.type: 'unet.unett' is none of"),
        ({"model": {"type": "unet.unet", "params": {"conv_activation": "Swish"}}}, "conv_activation: 'Swish'"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    _, printed = configured({**FOUR, **change}, tmp_path, status=1)
    assert printed.startswith("Error: ") and words in printed and printed.count("\n") == 1
    assert "base_config.json" in printed and not (tmp_path / "m").exists()


def test_settings_of_the_command_line_go_last(tmp_path: Path) -> None:
    config, _ = configured(FOUR, tmp_path, "--lr", "0.5", "--conv_n_filters", "[2,2,2,2,2,2]")
    assert config is not None and config.training.lr == 0.5
    assert sum(value.numel() for value in build_network(config).parameters()) < 20_000


def test_our_own_files_are_ours(tmp_path: Path) -> None:
    configured(FOUR, tmp_path)
    own = json.loads((tmp_path / "m" / "config.json").read_text())
    assert not detects(own) and convert_config(own) is None
    assert "taken as" not in run("config", "n", "--from", tmp_path / "m" / "config.json", "--save", tmp_path)


@given(
    theirs=st.dictionaries(
        st.sampled_from([*FOUR, "MWF", "loss_type", "optimizer", "model.params"]),
        st.one_of(st.integers(-5, 5000), st.text(max_size=5), st.none(), st.booleans(), st.lists(st.text(max_size=3))),
        max_size=5,
    )
)
@settings(max_examples=100, deadline=None)
def test_any_values_are_taken_or_refused(theirs: dict[str, Any]) -> None:
    try:
        conversion = convert({**FOUR, **theirs})
        validate(Config, conversion.data)
    except ConfigError:
        return
    assert {key.split(".")[0] for key in (*conversion.taken, *conversion.left)} == set(FOUR) | {
        key.split(".")[0] for key in theirs
    }
