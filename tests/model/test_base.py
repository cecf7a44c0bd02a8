"""Every method of a separation model, on networks that can be computed by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auralflow_core.errors import AuralflowError, CheckpointError, ConfigError
from auralflow_core.losses import KLDivergenceLoss, L1Loss, SISDRLoss
from auralflow_core.model import SeparationModel

ModelMaker = Callable[..., SeparationModel]
BatchMaker = Callable[..., tuple[Tensor, Tensor]]
Toys = dict[str, Callable[..., nn.Module]]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 0.5


def train_step(model: SeparationModel, data: tuple[Tensor, Tensor]) -> float:
    model.train()
    model.set_data(*data)
    model.forward()
    loss = model.compute_loss()
    model.backward()
    model.optimizer_step()
    return loss


def weights(model: SeparationModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class TestSetData:
    def test_a_single_target_needs_no_axis(self, make_model: ModelMaker, batch: BatchMaker) -> None:
        mixture, target = batch()
        losses = []
        for shaped in (target, target[:, 0]):
            model = make_model()
            model.set_data(mixture, shaped)
            model.test()
            losses.append(model.compute_loss())
        assert losses[0] == losses[1]

    def test_a_mixture_alone_can_be_estimated(self, make_model: ModelMaker, batch: BatchMaker) -> None:
        model = make_model()
        model.set_data(batch()[0])
        assert model.forward().shape == (2, 1, 1, 33, 33)

    @pytest.mark.parametrize(
        ("mixture", "target"),
        [
            ((2, 1, 500), (2, 1, 1, 500)),
            ((2, 1, 500), (2, 1, 500)),
            ((2, 1, 500), (2, 3, 1, 500)),
            # These would broadcast against the estimates into a wrong loss.
            ((2, 1, 500), (1, 2, 1, 500)),
            ((2, 1, 500), (2, 2, 2, 500)),
            ((2, 1, 500), (2, 2, 1, 499)),
            ((2, 2, 500), (2, 2, 2, 500)),
            ((1, 500), (2, 1, 500)),
        ],
    )
    def test_shapes_that_do_not_fit_are_refused(
        self, make_model: ModelMaker, mixture: tuple[int, ...], target: tuple[int, ...]
    ) -> None:
        model = make_model(targets=("vocals", "drums"))
        with pytest.raises(AuralflowError) as caught:
            model.set_data(noise(*mixture), noise(*target))
        assert "\n" not in str(caught.value)

    def test_nothing_is_refused(self, make_model: ModelMaker) -> None:
        with pytest.raises(AuralflowError):
            make_model().set_data()


class TestForwardAndLoss:
    @pytest.mark.parametrize(("targets", "channels"), [(1, 1), (1, 2), (3, 1), (3, 2)])
    def test_estimate_is_mask_times_mixture(
        self, make_model: ModelMaker, batch: BatchMaker, targets: int, channels: int
    ) -> None:
        model = make_model(targets=tuple("abc"[:targets]), channels=channels)
        mixture, target = batch(2, targets, channels)
        model.set_data(mixture, target)
        estimate = model.forward()
        magnitude = model.stft(mixture).abs().unsqueeze(1)
        mask = model.network.get_parameter("weight").sigmoid()
        assert estimate.shape == (2, targets, channels, 33, 33)
        assert torch.allclose(estimate, mask * magnitude, atol=1e-6)
        assert model.compute_loss() == pytest.approx(
            float((mask * magnitude - model.stft(target).abs()).abs().mean().detach()), rel=1e-5
        )

    def test_loss_is_a_float(self, make_model: ModelMaker, batch: BatchMaker) -> None:
        model = make_model()
        model.set_data(*batch())
        model.forward()
        assert type(model.compute_loss()) is float

    def test_a_step_changes_the_weights_and_lowers_the_loss(self, make_model: ModelMaker, batch: BatchMaker) -> None:
        model = make_model(lr=0.05)
        losses = [train_step(model, batch()) for _ in range(20)]
        assert losses[-1] < 0.9 * losses[0]

    def test_gradients_do_not_add_up_over_steps(self, make_model: ModelMaker, batch: BatchMaker) -> None:
        model = make_model()
        gradients = []
        for _ in range(2):
            model.set_data(*batch())
            model.forward()
            model.compute_loss()
            model.backward()
            gradient = model.network.get_parameter("weight").grad
            assert gradient is not None
            gradients.append(gradient.clone())
        assert torch.equal(*gradients)

    def test_without_a_criterion_says_so(self, make_model: ModelMaker, batch: BatchMaker) -> None:
        model = make_model()
        model.criterion = None
        model.set_data(*batch())
        model.forward()
        with pytest.raises(ConfigError, match="no criterion"):
            model.compute_loss()


class TestOwnTerms:
    def test_kl_div_is_refused_without_a_kl_term(self, make_model: ModelMaker) -> None:
        with pytest.raises(ConfigError, match=r"training\.criterion: 'kl_div' .*loss term 'kl'"):
            make_model(None, KLDivergenceLoss(), loss="kl_div")

    def test_kl_div_is_l1_plus_the_networks_term(self, make_model: ModelMaker, batch: BatchMaker, toys: Toys) -> None:
        model = make_model(toys["variational"](1, 33), KLDivergenceLoss())
        plain = make_model()
        found = []
        for each in (model, plain):
            each.set_data(*batch())
            each.forward()
            found.append(each.compute_loss())
        assert model.prediction is not None
        term = float(model.prediction.terms["kl"].detach())
        assert term > 0
        assert found[0] == pytest.approx(found[1] + term, rel=1e-5)

    def test_the_term_is_trained(self, make_model: ModelMaker, batch: BatchMaker, toys: Toys) -> None:
        model = make_model(toys["variational"](1, 33), KLDivergenceLoss(), lr=0.05)
        losses = [train_step(model, batch()) for _ in range(30)]
        assert losses[-1] < losses[0]

    def test_validation_looks_at_the_criterion_alone(
        self, make_model: ModelMaker, batch: BatchMaker, toys: Toys
    ) -> None:
        model = make_model(toys["variational"](1, 33), KLDivergenceLoss())
        plain = make_model()
        train_step(copy.copy(model), batch())
        plain.network.load_state_dict(model.network.state_dict())
        found = []
        for each in (model, plain):
            each.set_data(*batch())
            each.test()
            found.append(each.compute_loss())
        assert found[0] == pytest.approx(found[1])


class TestModes:
    def test_train_and_eval_switch_dropout_and_batch_norm(
        self, make_model: ModelMaker, batch: BatchMaker, toys: Toys
    ) -> None:
        model = make_model(toys["mask"](1, 33, dropout=0.5))
        model.set_data(*batch())
        model.eval()
        before = weights(model)
        assert torch.equal(model.forward(), model.forward())
        assert same(weights(model), before)
        assert not model.training
        model.train()
        assert model.training
        assert not torch.equal(model.forward(), model.forward())
        assert not same(weights(model), before)

    def test_test_runs_in_evaluation_mode_without_gradients(
        self, make_model: ModelMaker, batch: BatchMaker, toys: Toys
    ) -> None:
        model = make_model(toys["mask"](1, 33, dropout=0.5))
        model.train()
        model.set_data(*batch())
        estimate = model.test()
        assert not model.training
        assert not estimate.requires_grad
        model.compute_loss()
        assert model.loss is not None
        assert not model.loss.requires_grad


class TestSeparate:
    @pytest.mark.parametrize("channels", [1, 2])
    @pytest.mark.parametrize("shape", [(700,), (1, 700), (2, 700), (3, 700), (6, 700), (2, 1, 700), (2, 5, 701)])
    @pytest.mark.parametrize("targets", [1, 2])
    def test_any_shape_comes_back_with_a_target_axis(
        self, make_model: ModelMaker, toys: Toys, channels: int, shape: tuple[int, ...], targets: int
    ) -> None:
        model = make_model(toys["identity"](targets), targets=("vocals", "drums")[:targets], channels=channels)
        audio = noise(*shape)
        estimates = model.separate(audio)
        where = 0 if len(shape) < 3 else 1
        assert estimates.shape == (*shape[:where], targets, *shape[where:])
        assert estimates.dtype == torch.float32
        assert (estimates - audio.unsqueeze(where)).abs().max() < 1e-5

    @pytest.mark.parametrize("length", [1, 2, 31, 63, 64, 65, 1001])
    def test_any_length(self, make_model: ModelMaker, toys: Toys, length: int) -> None:
        audio = noise(1, length)
        assert (make_model(toys["identity"](1)).separate(audio)[0] - audio).abs().max() < 1e-5

    def test_channels_of_one_group_are_not_mixed_with_another(self, make_model: ModelMaker) -> None:
        model = make_model(channels=2, targets=("vocals", "drums"))
        audio = noise(6, 900)
        whole = model.separate(audio)
        for first in (0, 2, 4):
            assert torch.allclose(whole[:, first : first + 2], model.separate(audio[first : first + 2]), atol=1e-6)

    def test_restores_the_mode_and_leaves_no_trace(self, make_model: ModelMaker, batch: BatchMaker, toys: Toys) -> None:
        model = make_model(toys["mask"](1, 33, dropout=0.5))
        model.train()
        before = weights(model)
        assert torch.equal(model.separate(noise(1, 500)), model.separate(noise(1, 500)))
        assert model.training
        assert same(weights(model), before)

    def test_restores_the_mode_after_a_failure(self, make_model: ModelMaker) -> None:
        class Broken(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.zeros(1))

            def forward(self, magnitude: Tensor) -> Tensor:
                raise RuntimeError("no")

        model = make_model(Broken())
        model.train()
        with pytest.raises(RuntimeError, match="no"):
            model.separate(noise(1, 500))
        assert model.training

    def test_the_result_is_the_callers_to_change(self, make_model: ModelMaker) -> None:
        # Not an inference tensor, which cannot be edited or trained with.
        estimates = make_model().separate(noise(1, 500))
        estimates *= 0.5
        torch.autograd.backward((estimates * torch.ones(1, requires_grad=True)).sum())

    @pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1, 1, 2, 100), (0, 100), (0, 1, 100)])
    def test_what_is_no_audio_is_refused(self, make_model: ModelMaker, shape: tuple[int, ...]) -> None:
        with pytest.raises(AuralflowError, match="shape"):
            make_model().separate(torch.zeros(shape))

    def test_other_numbers_become_float32(self, make_model: ModelMaker) -> None:
        model = make_model()
        audio = noise(1, 500)
        assert torch.equal(model.separate(audio.double()), model.separate(audio))


class TestSchedulerStep:
    """Reductions and the stop, for sequences of validation losses that were worked out by hand."""

    @pytest.mark.parametrize(
        ("patience", "reductions", "losses", "expected"),
        [
            # Two epochs without improvement: halve. After the last reduction the next plateau stops.
            (2, 1, [5, 5, 5, 5, 5], "1 1 .5 .5 stop"),
            (1, 2, [5, 5, 5, 5], "1 .5 .25 stop"),
            (1, 0, [5, 4, 4], "1 1 stop"),
            (3, 1, [5, 6, 6, 4, 6, 6, 6, 6, 6, 6], "1 1 1 1 1 1 .5 .5 .5 stop"),
            # Less than 0.01 % is no improvement.
            (2, 1, [5, 4.9999, 4.9998], "1 1 .5"),
            (2, 1, [5, 4.99, 4.98], "1 1 1"),
            (1, 1, [0.0, 0.0, 0.0], "1 .5 stop"),
            # Losses below zero, such as SI-SDR's, where a relative threshold must not turn round.
            (2, 1, [-5, -5, -5, -5, -5], "1 1 .5 .5 stop"),
            (1, 1, [-5, -4.9999, -4.9998], "1 .5 stop"),
            (1, 1, [-5, -6, -7], "1 1 1"),
        ],
    )
    def test_sequence(
        self, make_model: ModelMaker, patience: int, reductions: int, losses: list[float], expected: str
    ) -> None:
        model = make_model(lr=1.0, stop_patience=patience, max_lr_steps=reductions)
        found = []
        for loss in losses:
            stop = model.scheduler_step(loss)
            found.append("stop" if stop else f"{model.optimizer.param_groups[0]['lr']:g}".replace("0.", "."))
        assert " ".join(found) == expected

    def test_the_rate_stays_at_the_stop(self, make_model: ModelMaker) -> None:
        model = make_model(lr=1.0, stop_patience=1, max_lr_steps=0)
        assert [model.scheduler_step(5.0), model.scheduler_step(5.0)] == [False, True]
        assert model.optimizer.param_groups[0]["lr"] == 1.0

    def test_takes_the_mean_of_the_losses_since_the_last_call(self, make_model: ModelMaker, batch: BatchMaker) -> None:
        model = make_model(lr=1.0, stop_patience=1, max_lr_steps=5)
        for seeds in ((0, 0), (0, 0), (0, 1)):
            for seed in seeds:
                mixture, target = batch()
                model.set_data(mixture, (0.5 if seed else 1.0) * target)
                model.test()
                model.compute_loss()
            model.scheduler_step()
        assert model.optimizer.param_groups[0]["lr"] in (0.5, 0.25)
        with pytest.raises(AuralflowError, match="no loss"):
            model.scheduler_step()

    def test_losses_in_training_mode_do_not_count(self, make_model: ModelMaker, batch: BatchMaker) -> None:
        model = make_model()
        train_step(model, batch())
        with pytest.raises(AuralflowError, match="no loss"):
            model.scheduler_step()


PARTS = {
    "model": (SeparationModel.save_model, SeparationModel.load_model),
    "optimizer": (SeparationModel.save_optim, SeparationModel.load_optim),
    "scheduler": (SeparationModel.save_scheduler, SeparationModel.load_scheduler),
    "grad_scaler": (SeparationModel.save_grad_scaler, SeparationModel.load_grad_scaler),
}


def states(model: SeparationModel) -> dict[str, Any]:
    return {
        "model": weights(model),
        "optimizer": copy.deepcopy(model.optimizer.state_dict()),
        "scheduler": copy.deepcopy(model.scheduler.state_dict()),
        "grad_scaler": copy.deepcopy(model.grad_scaler.state_dict()),
    }


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@pytest.fixture
def trained(make_model: ModelMaker, batch: BatchMaker) -> SeparationModel:
    """A model whose every part has moved from where it began, fp16 with a gradient scaler included."""
    model = make_model(lr=0.1, stop_patience=1, use_mixed_precision=True, mixed_precision_dtype="fp16")
    model.grad_scaler.scale(torch.ones(()))  # made when first used
    for _ in range(3):
        train_step(model, batch())
        model.scheduler_step(1.0)
    return model


def fresh(make_model: ModelMaker) -> SeparationModel:
    return make_model(lr=0.1, stop_patience=1, use_mixed_precision=True, mixed_precision_dtype="fp16")


class TestSaveAndLoad:
    @pytest.mark.parametrize("part", PARTS)
    def test_each_part_alone(self, trained: SeparationModel, make_model: ModelMaker, part: str) -> None:
        save, load = PARTS[part]
        save(trained, 7)
        other = fresh(make_model)
        before = states(other)
        load(other, 7)
        after, wanted = states(other), states(trained)
        assert equal(after[part], wanted[part])
        assert not equal(before[part], wanted[part]) or part == "grad_scaler"
        for name in PARTS:
            # The learning rate lives in the optimizer.
            if name != part:
                assert equal(after[name], before[name]), name

    def test_parts_of_one_step_gather_in_one_checkpoint(
        self, trained: SeparationModel, make_model: ModelMaker, tmp_path: Path
    ) -> None:
        for save, _ in PARTS.values():
            save(trained, 3)
        other = fresh(make_model)
        other.load(3)
        assert equal(states(other), states(trained))
        assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["step-00000003"]

    def test_whole(self, trained: SeparationModel, make_model: ModelMaker, batch: BatchMaker) -> None:
        trained.save(9)
        other = fresh(make_model)
        other.load(9)
        assert equal(states(other), states(trained))
        assert train_step(other, batch()) == train_step(trained, batch())
        assert equal(states(other), states(trained))

    def test_save_leaves_out_what_is_not_wanted(
        self, trained: SeparationModel, make_model: ModelMaker, tmp_path: Path
    ) -> None:
        folder = trained.save(1, optim=False, grad_scaler=False)
        assert {path.name for path in folder.iterdir()} == {"model.safetensors", "scheduler.pt", "meta.json"}
        other = fresh(make_model)
        other.load_model(1)
        with pytest.raises(CheckpointError, match=r"optimizer\.pt"):
            other.load_optim(1)

    def test_load_takes_everything_that_a_checkpoint_holds(
        self, trained: SeparationModel, make_model: ModelMaker
    ) -> None:
        trained.save(1, grad_scaler=False)
        other = fresh(make_model)
        other.load(1)
        assert equal(states(other)["optimizer"], states(trained)["optimizer"])

    def test_missing_step_names_those_that_are_there(self, trained: SeparationModel) -> None:
        trained.save(3)
        with pytest.raises(CheckpointError, match="3") as caught:
            trained.load_model(4)
        assert "\n" not in str(caught.value)

    def test_without_a_folder_says_so(self, make_model: ModelMaker) -> None:
        model = make_model()
        model.folder = None
        with pytest.raises(CheckpointError, match="folder"):
            model.save_model(1)

    def test_another_shape_is_refused_in_one_line(self, trained: SeparationModel, make_model: ModelMaker) -> None:
        trained.save(1)
        other = make_model(targets=("vocals", "drums"))
        before = weights(other)
        with pytest.raises(CheckpointError, match=r"do not fit the settings .*targets was") as caught:
            other.load_model(1)
        assert "\n" not in str(caught.value)
        assert same(weights(other), before)

    def test_another_architecture_is_refused(self, trained: SeparationModel, make_model: ModelMaker) -> None:
        trained.save(1)
        other = make_model()
        renamed = other.config.model.model_copy(update={"type": "Other"})
        other.config = other.config.model_copy(update={"model": renamed})
        with pytest.raises(CheckpointError, match=r"trained as Toy, but config\.json says Other"):
            other.load_model(1)

    def test_meta_tells_what_was_saved(self, trained: SeparationModel) -> None:
        from auralflow_core.checkpoint import CheckpointStore

        trained.origin, trained.data_facts = (
            {"plugin": "toy-plugin", "plugin_version": "1.2"},
            {"train": {"sha256": "x"}},
        )
        trained.save(5)
        assert trained.folder is not None
        meta = CheckpointStore(trained.folder / "checkpoint").meta(5)
        assert meta["step"] == 5
        assert (meta["model_type"], meta["plugin"], meta["plugin_version"]) == ("Toy", "toy-plugin", "1.2")
        assert meta["config"] == trained.config.model_dump(mode="json")
        assert meta["data"] == {"train": {"sha256": "x"}}


class TestMixedPrecision:
    @pytest.mark.parametrize(("choice", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
    def test_the_network_runs_in_it_and_losses_do_not(
        self, make_model: ModelMaker, batch: BatchMaker, toys: Toys, choice: str, dtype: torch.dtype
    ) -> None:
        network = toys["linear"]()
        model = make_model(network, use_mixed_precision=True, mixed_precision_dtype=choice, lr=0.01)
        losses = [train_step(model, batch()) for _ in range(30)]
        assert network.seen == dtype
        assert model.loss is not None
        assert model.loss.dtype == torch.float32
        assert losses[-1] < losses[0]
        assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
        assert model.grad_scaler.is_enabled() == (choice == "fp16")
        estimates = model.separate(batch()[0])
        assert estimates.dtype == torch.float32

    def test_is_off_by_default(self, make_model: ModelMaker, batch: BatchMaker, toys: Toys) -> None:
        network = toys["linear"]()
        model = make_model(network)
        train_step(model, batch())
        assert network.seen == torch.float32
        assert not model.grad_scaler.is_enabled()

    def test_a_step_with_infinite_gradients_is_left_out(
        self, make_model: ModelMaker, batch: BatchMaker, toys: Toys
    ) -> None:
        model = make_model(toys["linear"](), use_mixed_precision=True, mixed_precision_dtype="fp16")
        model.train()
        model.set_data(*batch())
        model.forward()
        model.compute_loss()
        model.backward()
        before = weights(model)
        for parameter in model.network.parameters():
            assert parameter.grad is not None
            parameter.grad.fill_(float("inf"))
        scale = model.grad_scaler.get_scale()
        model.optimizer_step()
        assert same(weights(model), before)
        assert model.grad_scaler.get_scale() == scale / 2


class TestConfig:
    def test_plain_data_is_validated(self, make_model: ModelMaker, toys: Toys) -> None:
        from auralflow_core.model import SpectrogramMaskModel

        with pytest.raises(ConfigError, match=r"training\.lr"):
            SpectrogramMaskModel({"model": {"type": "Toy"}, "training": {"lr": -1}}, toys["identity"](1))

    def test_the_base_class_is_abstract(self) -> None:
        with pytest.raises(TypeError, match="abstract"):
            SeparationModel({"model": {"type": "Toy"}}, nn.Identity())  # type: ignore[abstract]

    @pytest.mark.parametrize("criterion", [L1Loss, SISDRLoss])
    def test_any_fitting_criterion_trains(
        self, make_model: ModelMaker, batch: BatchMaker, toys: Toys, criterion: Callable[[], Any]
    ) -> None:
        model = make_model(toys["mask"](2, 33), criterion(), targets=("a", "b"), channels=2, lr=0.05)
        losses = [train_step(model, batch(2, 2, 2)) for _ in range(15)]
        assert losses[-1] < losses[0]
