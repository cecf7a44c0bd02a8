"""What `optimizer`, `clip_value`, `backprop_every` and `freeze` do to the weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from auralflow_core.config import TrainingConfig
from auralflow_core.errors import CheckpointError, ConfigError
from auralflow_core.trainer import Trainer

TrainerMaker = Callable[..., Trainer]
RecorderMaker = Callable[[], Any]


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.network.state_dict().items()}


def trained(make_trainer: TrainerMaker, folder: str = "model", **training: Any) -> dict[str, Tensor]:
    trainer = make_trainer(folder, [], "plain", **{"max_steps": 3, **training})
    trainer.fit()
    return weights(trainer)


def by_hand(make_trainer: TrainerMaker, make: Callable[..., torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Train three steps with an optimizer of torch and nothing of ours but the model's loss."""
    trainer = make_trainer("by hand", [], "plain")
    model, parameters = trainer.model, list(trainer.model.network.parameters())
    optimizer = make(parameters)
    model.train()
    for batch, _ in zip(trainer.feed.groups(0, 0), range(3), strict=False):
        model.set_data(*batch[0])
        model.forward()
        model.compute_loss()
        optimizer.zero_grad()
        assert model.loss is not None
        model.loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return weights(trainer)


@pytest.mark.parametrize(
    ("settings", "make"),
    [
        ({}, lambda each: torch.optim.Adam(each, lr=0.01)),
        ({"optimizer": "adam", "lr": 0.1}, lambda each: torch.optim.Adam(each, lr=0.1)),
        (
            {"optimizer": {"name": "adamw", "args": {"lr": 0.02, "weight_decay": 0.3}}},
            lambda each: torch.optim.AdamW(each, lr=0.02, weight_decay=0.3),
        ),
        ({"optimizer": {"name": "radam"}}, lambda each: torch.optim.RAdam(each, lr=0.01)),
        (
            {"optimizer": {"name": "sgd", "args": {"momentum": 0.5}}},
            lambda each: torch.optim.SGD(each, lr=0.01, momentum=0.5),
        ),
        (
            {"optimizer": {"name": "adamw", "fused": True}},
            lambda each: torch.optim.AdamW(each, lr=0.01, fused=True),
        ),
    ],
)
def test_an_optimizer_is_torchs_with_its_arguments(
    make_trainer: TrainerMaker, settings: dict[str, Any], make: Callable[..., torch.optim.Optimizer]
) -> None:
    ours, theirs = trained(make_trainer, **settings), by_hand(make_trainer, make)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_muon_takes_matrices_and_adamw_the_rest(make_trainer: TrainerMaker) -> None:
    ours = trained(make_trainer, optimizer={"name": "muon", "args": {"weight_decay": 0.1}})

    class Both:
        def __init__(self, parameters: list[Tensor]) -> None:
            matrices = [each for each in parameters if each.dim() == 2]
            assert len(matrices) == 1
            others = [each for each in parameters if each.dim() != 2]
            self.parts = [
                torch.optim.Muon(matrices, lr=0.01, weight_decay=0.1),
                torch.optim.AdamW(others, lr=0.01, weight_decay=0.1),
            ]

        def zero_grad(self) -> None:
            for part in self.parts:
                part.zero_grad()

        def step(self) -> None:
            for part in self.parts:
                part.step()

    theirs = by_hand(make_trainer, Both)  # type: ignore[arg-type]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_network_without_matrices_is_refused_muon(make_trainer: TrainerMaker, stubborn: torch.nn.Module) -> None:
    with pytest.raises(ConfigError, match="has none; use adamw"):
        make_trainer("model", [], stubborn, optimizer="muon")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": {"name": "adm"}}, "did you mean adam"),
        ({"optimizer": {"name": "adam", "args": {"weight_decy": 1}}}, "adam refuses .*weight_decy"),
        ({"optimizer": {"name": "adam", "args": {"lr": -1}}}, r"args.lr: -1 is no learning rate"),
        ({"optimizer": {"name": "radam", "fused": True}}, "no fused radam"),
        (
            {"optimizer": {"lr_by_name": {"lost*": 0.1}}},
            "'lost\\*' fits the name of no parameter that is left .there are first.weight",
        ),
        ({"freeze": ["encoder*"]}, "training.freeze: 'encoder\\*' fits the name of no parameter"),
        ({"freeze": ["*"]}, "leaves no parameter to train"),
    ],
)
def test_mistakes_are_refused_before_the_first_step(
    make_trainer: TrainerMaker, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        make_trainer(**settings)


def test_parameters_have_rates_by_their_names(make_trainer: TrainerMaker, make_recorder: RecorderMaker) -> None:
    before = weights(make_trainer("before", [], "plain"))
    rates = {"last.*": 1e-12, "*.bias": 0.5}
    recorder = make_recorder()
    trainer = make_trainer("model", [recorder], "plain", max_steps=1, optimizer={"lr_by_name": rates})
    trainer.fit()
    moved = {name: float((tensor - before[name]).abs().max()) for name, tensor in weights(trainer).items()}
    assert recorder.rates[0] == [0.01, 1e-12, 0.5]
    # Adam's first step is as long as the learning rate.
    assert moved["first.weight"] == pytest.approx(0.01, rel=0.01) and moved["first.bias"] == pytest.approx(
        0.5, rel=0.01
    )
    assert moved["last.weight"] < 1e-6 and moved["last.bias"] < 1e-6  # the first pattern that fits counts


def test_frozen_parameters_stay(make_trainer: TrainerMaker) -> None:
    before = weights(make_trainer("before", [], "plain"))
    after = trained(make_trainer, freeze="first.*,bins.bias")
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {"first.weight", "first.bias", "bins.bias"}


def test_gradients_are_clipped_to_their_norm(make_trainer: TrainerMaker) -> None:
    before = weights(make_trainer("before", [], "plain"))
    sgd: dict[str, Any] = {"max_steps": 1, "optimizer": "sgd", "lr": 1.0}
    free, clipped = trained(make_trainer, **sgd), trained(make_trainer, "clipped", clip_value=1e-3, **sgd)

    def length(after: dict[str, Tensor]) -> float:
        return float(torch.cat([(after[name] - before[name]).flatten() for name in before]).norm())

    assert length(free) > 2e-3
    assert length(clipped) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("name", ["backprop_every", "backwards_every"])
def test_added_gradients_are_those_of_one_large_batch(
    make_trainer: TrainerMaker, make_recorder: RecorderMaker, name: str
) -> None:
    large, small = make_recorder(), make_recorder()
    # 30 chunks: the last step has 6 of 12, and its last batch 2 of 4.
    one = make_trainer("one", [large], "plain", batch_size=12, max_epochs=2)
    many = make_trainer("many", [small], "plain", batch_size=4, max_epochs=2, **{name: 3})
    assert one.steps_per_epoch == many.steps_per_epoch == 3
    one.fit()
    many.fit()
    assert [step.step for step in small.steps] == [1, 2, 3, 4, 5, 6]
    assert [step.loss for step in small.steps] == pytest.approx([step.loss for step in large.steps], rel=1e-5)
    assert small.epochs[-1].train_loss == pytest.approx(large.epochs[-1].train_loss, rel=1e-5)
    found, expected = weights(many), weights(one)
    assert all(torch.allclose(found[each], expected[each], atol=1e-5) for each in expected)


def test_one_setting_under_two_names_must_have_one_value() -> None:
    assert TrainingConfig.model_validate({"backprop_every": 2, "backwards_every": 2}).backprop_every == 2
    with pytest.raises(ValueError, match="backwards_every 3 and backprop_every 2 are one setting"):
        TrainingConfig.model_validate({"backprop_every": 2, "backwards_every": 3})


def test_another_optimizer_cannot_go_on(make_trainer: TrainerMaker) -> None:
    trained(make_trainer)
    with pytest.raises(CheckpointError, match=r"trained with adam, and training\.optimizer is sgd now; set it back"):
        make_trainer("model", [], "plain", optimizer="sgd").resume()


def test_changed_arguments_hold_after_a_resume(make_trainer: TrainerMaker) -> None:
    trained(make_trainer, optimizer={"name": "adamw", "args": {"weight_decay": 0.1}})
    trainer = make_trainer("model", [], "plain", optimizer={"name": "adamw", "args": {"weight_decay": 0.7}})
    trainer.resume()
    assert trainer.model.optimizer.param_groups[0]["weight_decay"] == 0.7


PLUGIN = """
import torch
from auralflow_core import hookimpl

class Pushed(torch.optim.SGD):
    def __init__(self, groups, lr, push=1.0):
        super().__init__([{**group, "lr": push * group["lr"]} for group in groups], lr=lr)

@hookimpl
def register_optimizers(register):
    register("pushed", optimizer=Pushed, summary="longer steps")
"""


@pytest.fixture
def pushed(install_plugin: Any) -> None:
    install_plugin("auralflow-pushed", PLUGIN)


class TestPlugins:
    def test_a_registered_optimizer_trains(
        self,
        pushed: None,
        invoke: Callable[..., Any],
        refused: Callable[..., str],
        model_folder: Path,
        song_folder: Path,
    ) -> None:
        plugins = json.loads(invoke("list-plugins", "--json").stdout)["plugins"]
        assert {plugin["name"]: plugin["optimizers"] for plugin in plugins}["auralflow-pushed"] == 1
        words = ("--optimizer.args.push", "2", "--lr", "0.001", "--tensorboard", "no", "--save_images", "no")
        quiet = ("--save_audio", "no", "--quiet", "--max_steps", "1")
        assert "pushed refuses {'pus': 2}" in refused(
            "train", model_folder, song_folder, "--optimizer.name", "pushed", "--optimizer.args.pus", "2", *quiet
        )
        invoke("train", model_folder, song_folder, "--optimizer.name", "pushed", *words, *quiet)
        [state] = model_folder.glob("checkpoint/step-*/optimizer.pt")
        assert torch.load(state, weights_only=True)["param_groups"][0]["lr"] == 0.002
        assert "did you mean pushed" in refused("config", model_folder, "--optimizer", "pusht")

    def test_a_model_separates_without_the_plugin_it_was_trained_with(
        self, trained_copy: Path, song_folder: Path, invoke: Callable[..., Any], tmp_path: Path
    ) -> None:
        path = trained_copy / "config.json"
        config = json.loads(path.read_text())
        config["training"]["optimizer"]["name"] = "not installed"
        path.write_text(json.dumps(config))
        song = song_folder / "test" / "test song 0" / "mixture.wav"
        invoke("separate", trained_copy, song, "--save", tmp_path / "stems", "--quiet")
        assert list((tmp_path / "stems").rglob("*vocals*"))


class TestMadgrad:
    """The package itself, where it is installed."""

    @pytest.mark.parametrize(("name", "class_name"), [("madgrad", "MADGRAD"), ("mirrormadgrad", "MirrorMADGRAD")])
    def test_it_is_the_packages(self, make_trainer: TrainerMaker, name: str, class_name: str) -> None:
        package = pytest.importorskip("madgrad")
        settings = {"optimizer": {"name": name, "args": {"momentum": 0.8, "weight_decay": 0.01}}}
        theirs = by_hand(
            make_trainer,
            lambda each: getattr(package, class_name)(each, lr=0.01, momentum=0.8, weight_decay=0.01),
        )
        ours = trained(make_trainer, **settings)
        assert all(torch.equal(ours[each], theirs[each]) for each in theirs)

    @pytest.mark.parametrize("name", ["madgrad", "mirrormadgrad"])
    def test_a_resume_changes_nothing(self, make_trainer: TrainerMaker, name: str) -> None:
        pytest.importorskip("madgrad")
        unbroken = trained(make_trainer, "unbroken", optimizer=name, max_steps=16)
        trained(make_trainer, "stopped", optimizer=name, max_steps=5)
        trainer = make_trainer("stopped", [], "plain", optimizer=name, max_steps=16)
        trainer.resume()
        trainer.fit()
        assert all(torch.equal(weights(trainer)[each], unbroken[each]) for each in unbroken)

    @pytest.mark.parametrize("name", ["madgrad", "mirrormadgrad"])
    def test_without_the_package_it_says_how_to_install_it(
        self, make_trainer: TrainerMaker, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "madgrad", None)
        with pytest.raises(ConfigError, match=r"is in the package madgrad.*`pip install madgrad`"):
            make_trainer(optimizer=name)
