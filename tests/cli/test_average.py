"""`auralflow average`: the mean of checkpoints, as a model folder of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from torch.optim.swa_utils import update_bn

from auralflow_core.build import load_model
from auralflow_core.config import load_config
from auralflow_core.data.chunks import ChunkDataset, ChunkKey
from auralflow_core.trainer.average import mean_of
from auralflow_core.training import training_songs

QUICK = ("--tensorboard", "false", "--save_images", "false", "--save_audio", "false", "--quiet")


def weights(folder: Path, step: int | None = None) -> dict[str, Tensor]:
    [path] = folder.glob(f"checkpoint/step-{'*' if step is None else f'{step:08}'}/model.safetensors")
    return load_file(path)


def meta(folder: Path) -> dict[str, Any]:
    [path] = folder.glob("checkpoint/step-*/meta.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def is_mean(found: Mapping[str, Tensor], parts: list[dict[str, Tensor]], *, but: str = "no name has this") -> bool:
    return all(
        torch.allclose(tensor, torch.stack([part[name] for part in parts]).mean(0), rtol=1e-6, atol=1e-8)
        for name, tensor in found.items()
        if tensor.is_floating_point() and but not in name
    )


@pytest.fixture(scope="module")
def kept(
    invoke: Callable[..., Any], tiny_settings: list[str], song_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a model with the checkpoints of the steps 2, 4, 6 and 8."""
    parent = tmp_path_factory.mktemp("kept")
    words = ("--checkpointing.keep", "4", "--checkpointing.save_every_n_steps", "2", "--lr", "0.01", "--dropout_p", "0")
    invoke("config", "kept", "SpectrogramNetSimple", "--save", parent, *tiny_settings, *words)
    invoke("train", parent / "kept", song_folder, *QUICK)
    return parent / "kept"


@pytest.mark.parametrize(
    ("words", "steps"),
    [((), [2, 4, 6, 8]), (("--last", "3"), [4, 6, 8]), (("--steps", "8,2,2"), [2, 8])],
    ids=["all", "last", "steps"],
)
def test_checkpoints_of_one_model(
    invoke: Callable[..., Any], kept: Path, tmp_path: Path, words: tuple[str, ...], steps: list[int]
) -> None:
    result = invoke("average", kept, *words, "--save", tmp_path / "mean")
    assert f"{len(steps)} checkpoints" in result.stdout and "--data" in result.stderr
    found = weights(tmp_path / "mean")
    assert is_mean(found, [weights(kept, step) for step in steps])
    facts = meta(tmp_path / "mean")
    assert facts["averaged"] == [f"{kept} step {step}" for step in steps]
    assert facts["data"]["train"]["songs"] and load_config(tmp_path / "mean").model.name == "mean"


def test_statistics_of_batch_normalisation_are_measured_on_songs(
    invoke: Callable[..., Any], kept: Path, song_folder: Path, tmp_path: Path
) -> None:
    result = invoke("average", kept, "--save", tmp_path / "mean", "--data", song_folder, "--quiet")
    assert not result.stdout and not result.stderr
    found, parts = weights(tmp_path / "mean"), [weights(kept, step) for step in (2, 4, 6, 8)]
    assert is_mean(found, parts, but="running") and not is_mean(found, parts)
    config = load_config(tmp_path / "mean")
    chunks = ChunkDataset(training_songs(config, song_folder)[0], config.dataset, seed=config.training.random_seed)
    batches = [torch.stack([chunks.mixture(ChunkKey(0, 2 * number + item)) for item in (0, 1)]) for number in range(4)]
    model = load_model(tmp_path / "mean", device="cpu")
    update_bn([model.stft(batch).abs() for batch in batches], model.network)
    expected = model.network.state_dict()
    assert all(torch.allclose(found[name], expected[name], rtol=1e-4, atol=1e-6) for name in found)


def test_the_result_separates_and_goes_on(
    invoke: Callable[..., Any], kept: Path, song_folder: Path, tmp_path: Path
) -> None:
    invoke("average", kept, "--save", tmp_path / "mean", "--data", song_folder)
    song = song_folder / "test" / "test song 0" / "mixture.wav"
    invoke("separate", tmp_path / "mean", song, "--save", tmp_path / "stems", "--quiet")
    assert list((tmp_path / "stems").rglob("*vocals*"))
    assert (
        "weights only"
        in invoke("train", tmp_path / "mean", song_folder, "--resume", "--max_steps", "1", *QUICK[:-1]).stdout
    )


def test_best_checkpoints_of_several_models(
    invoke: Callable[..., Any], kept: Path, trained_folder: Path, tmp_path: Path
) -> None:
    invoke("average", kept, trained_folder, "--save", tmp_path / "mean")
    best = json.loads((kept / "checkpoint" / "best.json").read_text())["step"]
    assert is_mean(weights(tmp_path / "mean"), [weights(kept, best), weights(trained_folder, 8)])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--hidden_channels", "4"), "model.params.hidden_channels is 4, and 2 in "),
        (("--mask_activation", "relu"), "model.params.mask_activation is 'relu', and 'sigmoid' in "),
        (("--hop_length", "32"), "dataset.hop_length is 32, and 64 in "),
    ],
)
def test_models_that_differ_are_refused(
    invoke: Callable[..., Any],
    refused: Callable[..., str],
    kept: Path,
    model_folder: Path,
    song_folder: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    said: str,
) -> None:
    invoke("train", model_folder, song_folder, "--max_steps", "1", *words, *QUICK)
    assert said in refused("average", kept, model_folder, "--save", tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--last", "5"), "steps 2, 4, 6, 8: 4, and 5 are"),
        (("--steps", "2,3"), "steps 2, 4, 6, 8: none of step 3"),
        (("--steps", "2"), "1, and 2 are to be averaged; train with a larger checkpointing.keep"),
    ],
)
def test_checkpoints_that_are_not_there(
    refused: Callable[..., str], kept: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    assert said in refused("average", kept, *words, "--save", tmp_path / "mean")


def test_wrong_words(invoke: Callable[..., Any], refused: Callable[..., str], kept: Path, tmp_path: Path) -> None:
    save = ("--save", tmp_path / "mean")
    assert "one MODEL with --last or --steps" in invoke("average", kept, kept, "--last", "2", *save, status=2).stderr
    assert "no numbers with commas" in invoke("average", kept, "--steps", "two", *save, status=2).stderr
    assert "no such model folder" in refused("average", tmp_path / "none", *save)
    (tmp_path / "mean").mkdir()
    assert "exists already" in refused("average", kept, *save)


def test_a_model_that_was_never_trained(refused: Callable[..., str], model_folder: Path, tmp_path: Path) -> None:
    assert "steps (none): 0, and 2 are" in refused("average", model_folder, "--save", tmp_path / "mean")


def test_songs_of_all_trainings_are_known(
    invoke: Callable[..., Any], kept: Path, trained_folder: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(trained_folder, tmp_path / "other"))
    [path] = other.glob("checkpoint/step-*/meta.json")
    facts = json.loads(path.read_text())
    facts["data"]["train"] = {"songs": ["elsewhere"], "audio": ["0" * 32]}
    path.write_text(json.dumps(facts))
    invoke("average", kept, other, "--save", tmp_path / "mean")
    found = meta(tmp_path / "mean")["data"]
    assert set(found["train"]["songs"]) == {f"train song {number}" for number in range(4)} | {"elsewhere"}
    assert found["valid"] == facts["data"]["valid"]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**31), st.sampled_from([torch.float32, torch.float16, torch.complex64]))
def test_the_mean_is_torchs(count: int, seed: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    states = [
        {"weight": torch.randn(3, 2, generator=generator).to(dtype), "count": torch.tensor(number)}
        for number in range(count)
    ]
    found = mean_of(iter(states))
    wide = torch.complex128 if dtype.is_complex else torch.float64
    expected = torch.stack([state["weight"] for state in states]).to(wide).mean(0).to(dtype)
    assert found["weight"].dtype == dtype and torch.allclose(found["weight"], expected, rtol=1e-3)
    assert int(found["count"]) == count - 1
