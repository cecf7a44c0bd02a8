"""Scores of validation songs during training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from auralflow_core.metrics import frame_sdr, si_sdr, usdr
from auralflow_core.separate import Separator
from auralflow_core.trainer import Callback, Trainer
from auralflow_core.trainer.scores import ValidationScores

TrainerMaker = Callable[..., Trainer]


class Listener(Callback):
    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []

    def on_scores(self, trainer: Trainer, scores: Mapping[str, float]) -> None:
        self.told.append((trainer.progress.epoch, dict(scores)))


@pytest.mark.parametrize(("every", "epochs"), [(1, [1, 2, 3]), (2, [2, 3]), (5, [3])])
def test_scores_are_told_every_few_epochs_and_of_the_last(
    every: int, epochs: list[int], make_trainer: TrainerMaker
) -> None:
    listener = Listener()
    trainer = make_trainer(
        callbacks=[ValidationScores(), listener], max_epochs=3, visuals={"metric_every_n_epochs": every}
    )
    trainer.fit()
    assert [epoch for epoch, _ in listener.told] == epochs


def test_scores_are_those_of_the_middle_of_the_song(make_trainer: TrainerMaker) -> None:
    listener = Listener()
    trainer = make_trainer(
        callbacks=[ValidationScores(), listener], max_epochs=1, visuals={"metric_length": 1.5, "metric_songs": 3}
    )
    trainer.fit()
    song = trainer.valid_data.songs[0]
    references = song.read_stems(["vocals"], 250, 1500)
    estimates = Separator(trainer.model)(torch.from_numpy(song.read_mixture(250, 1500)), 1000).numpy()
    [(_, scores)] = listener.told
    assert scores == {
        "SDR/vocals": pytest.approx(frame_sdr(references, estimates, window=1000, hop=1000).item(), abs=1e-3),
        "SI-SDR/vocals": pytest.approx(si_sdr(references, estimates)[0], abs=1e-3),
        "uSDR/vocals": pytest.approx(usdr(references, estimates)[0], abs=1e-3),
    }


@pytest.mark.parametrize(("length", "count"), [(0.04, 7), (0.1, 3), (100, 1)])
def test_short_epochs_score_fewer_songs(
    length: float, count: int, make_trainer: TrainerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from auralflow_core.trainer import scores

    scored: list[Any] = []

    def note(separator: Separator, song: Any, seconds: float) -> dict[str, float]:
        scored.append(song)
        return {"SDR": 0.0}

    monkeypatch.setattr(scores, "score_excerpt", note)
    # 30 chunks of 0.2 s, of which 6 % are 0.36 s.
    visuals = {"metric_length": length, "metric_songs": 7}
    trainer = make_trainer(callbacks=[ValidationScores()], max_epochs=1, visuals=visuals)
    trainer.valid_data.songs *= 9
    trainer.fit()
    assert len(scored) == count


def test_scoring_changes_nothing_in_the_training(make_trainer: TrainerMaker) -> None:
    with_scores, without = make_trainer("a", [ValidationScores()]), make_trainer("b")
    for trainer in (with_scores, without):
        trainer.fit()
    for one, other in zip(
        with_scores.model.network.state_dict().values(), without.model.network.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


# TensorBoard's own imports warn of what they use.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_shows_them(trained_folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(trained_folder / "runs"))
    found.Reload()
    tags = {tag for tag in found.Tags()["scalars"] if tag.startswith("scores/")}
    assert tags == {f"scores/{metric}/vocals" for metric in ("SDR", "SI-SDR", "uSDR")}
    assert [event.step for event in found.Scalars("scores/SDR/vocals")] == [8]


@pytest.mark.parametrize("setting", ["metric_songs", "tensorboard"])
def test_no_song_is_scored_where_nobody_asks(
    setting: str, invoke: Callable[..., Any], song_folder: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from auralflow_core.trainer import scores

    def fail(*args: object) -> None:
        raise AssertionError("scored")

    monkeypatch.setattr(scores, "score_excerpt", fail)
    words = ("--max_num_samples", "2", "--save_images", "no", "--save_audio", "no", f"--{setting}", "0", "--quiet")
    invoke("config", model_folder, "--tensorboard", "true")
    invoke("train", model_folder, song_folder, *words)
