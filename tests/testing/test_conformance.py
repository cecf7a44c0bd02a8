"""The kit passes a good model and catches each fault, with a message about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from auralflow_core.testing import ConformanceError, ModelConformance

HERE = Path(__file__).parent
CHECKS = [name for name in dir(ModelConformance) if name.startswith("test_")]


@pytest.fixture(autouse=True)
def _plugins_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(HERE)
    yield


class TestGood(ModelConformance):
    plugin = "faulty_plugin"
    model_type = "Good"
    params: ClassVar = {"width": 6}
    config: ClassVar = {"dataset": {"num_fft": 64, "window_size": 64, "hop_length": 32}}


class TestGoodWithLossTerm(ModelConformance):
    plugin = "faulty_plugin"
    model_type = "DeclaredTerm"


class TestGoodWaveform(ModelConformance):
    plugin = "faulty_plugin"
    model_type = "Waveform"


class TestGoodComplex(ModelConformance):
    plugin = "faulty_plugin"
    model_type = "Complex"


def kit(model_type: str, plugin: str = "faulty_plugin", **attributes: object) -> ModelConformance:
    made = type(model_type, (ModelConformance,), {"plugin": plugin, "model_type": model_type, **attributes})
    return made()


FAULTS = [
    ("TimeReversed", "test_estimates_keep_their_time", "same time"),
    ("Shifted", "test_estimates_keep_their_time", "1 eighths of the signal away"),
    ("CutAndPadded", "test_estimates_keep_their_time", "do not depend on the input"),
    ("WaveformReversed", "test_estimates_keep_their_time", "same time"),
    ("ComplexReversed", "test_estimates_keep_their_time", "same time"),
    ("WaveformShortened", "test_any_length", "input's length"),
    ("ComplexNanOnSilence", "test_silence_separates_into_finite_estimates", "NaN"),
    ("Shortened", "test_any_length", "input's length"),
    ("FixedLength", "test_any_length", "any length"),
    ("BatchMean", "test_batch_items_do_not_leak", "batch axis"),
    ("BatchMean", "test_no_gradient_between_batch_items", "batch axis"),
    ("BatchRecurrence", "test_batch_items_do_not_leak", "recurrence"),
    ("BatchRecurrence", "test_no_gradient_between_batch_items", "batch_first"),
    ("BatchRecurrence", "test_order_of_the_batch_does_not_matter", "batch_first"),
    ("SamplesInEvaluation", "test_evaluation_is_deterministic", "self.training"),
    ("SamplesInEvaluation", "test_evaluation_ignores_global_random_state", "global random generators"),
    ("DependsOnGlobalSeed", "test_evaluation_ignores_global_random_state", "global random generators"),
    ("DependsOnPythonRandom", "test_evaluation_ignores_global_random_state", "global random generators"),
    ("DrawsInEvaluation", "test_evaluation_ignores_global_random_state", "resumed training"),
    ("UnusedLayer", "test_gradients_reach_every_parameter", "forgotten.weight, forgotten.bias"),
    ("DetachedEncoder", "test_gradients_reach_every_parameter", "encoder.weight"),
    ("NanOnSilence", "test_silence_separates_into_finite_estimates", "NaN"),
    ("NanGradientOnSilence", "test_silence_trains_with_finite_gradients", "gain"),
    ("OverflowsWhenLoud", "test_loud_audio_stays_finite", "loud noise"),
    ("PlainTensor", "test_no_tensor_stays_behind", r"constants\['scale'\].*register_buffer"),
    ("SingleMatrix", "test_network_moves_to_double", "register_buffer"),
    ("SingleMatrix", "test_no_tensor_stays_behind", "rotation"),
    ("StubbornBuffer", "test_network_moves_to_double", "scale"),
    ("CastsToSingle", "test_network_moves_to_double", "float32"),
    ("WritesIntoInput", "test_input_is_left_unchanged", "in place"),
    ("IgnoresTargets", "test_number_of_targets_is_respected", "shape"),
    ("NoStereo", "test_mono_and_stereo_with_one_or_two_targets", "mono only"),
    ("CountsInEvaluation", "test_evaluation_changes_no_state", "calls"),
    ("NoAutocast", "test_separation_in_lower_precision", "cannot separate in bfloat16"),
    ("DifferenceOfNearNumbers", "test_separation_in_lower_precision", "differ by"),
    ("Warns", "test_no_warnings", "old layer"),
    ("NumpyWeights", "test_random_seed_decides_the_weights", "encoder.bias"),
    ("GrowingState", "test_state_names_are_stable", "late"),
    ("ForgottenState", "test_checkpoint_round_trip", "persistent"),
    ("Uncopyable", "test_network_can_be_copied", "cannot be deep-copied"),
    ("SharedState", "test_seeded_training_is_exact", "same seed"),
    ("DoesNotLearn", "test_training_lowers_the_loss", "only"),
    ("NeedsTwoItems", "test_training_on_a_batch_of_one", "fails"),
    ("NoAutocast", "test_training_with_mixed_precision", "BFloat16"),
    ("KeepsInferenceTensor", "test_training_after_separating", "[Ii]nference"),
    ("UndeclaredTerm", "test_loss_terms_are_there_in_training_only", "loss_term_names"),
    ("VectorTerm", "test_loss_terms_are_there_in_training_only", "training step"),
    ("OneItemOnly", "test_any_batch_size", "any batch size"),
    ("OneItemOnly", "test_any_number_of_audio_channels", "cannot separate"),
    ("NoStereo", "test_audio_without_batch_or_channel_axis", "mono only"),
    ("TupleParams", "test_params_survive_json", "width change"),
    ("InfiniteParams", "test_params_survive_json", "JSON"),
    ("ObjectParams", "test_params_survive_json", "plain types"),
    ("ObjectParams", "test_configuration_file_round_trip", "cannot be saved"),
    ("LocalParams", "test_params_survive_pickle", "importable module"),
    ("DriftingParams", "test_params_survive_json", "network_arguments"),
    ("LaxParams", "test_unknown_params_are_refused", "no_such_parameter"),
    ("BareParams", "test_every_param_has_default_and_description", "width"),
    ("RequiredParams", "test_every_param_has_default_and_description", "width"),
    ("RequiredParams", "test_network_builds_with_default_params", "is missing"),
    ("WrongDefaultParams", "test_network_builds_with_default_params", "depth"),
    ("NoSummary", "test_summary_is_one_line", "one line"),
    ("NoSchema", "test_unknown_params_are_refused", "ModelParams"),
    ("ClaimsAlias", "test_plugin_registers_the_model_type", "Good"),
]


@pytest.mark.parametrize(("model_type", "check", "message"), FAULTS)
def test_fault_is_caught(model_type: str, check: str, message: str) -> None:
    with pytest.raises(ConformanceError, match=message):
        getattr(kit(model_type), check)()


def test_every_check_catches_a_fault() -> None:
    """The one that is missing has a test of its own."""
    assert set(CHECKS) - {check for _, check, _ in FAULTS} == {"test_registration_does_not_import_torch"}


def test_there_are_many_checks_each_with_one_line_about_it() -> None:
    assert len(CHECKS) >= 25
    for name in CHECKS:
        doc = getattr(ModelConformance, name).__doc__
        assert doc and doc.splitlines()[0].endswith("."), name


def test_import_of_torch_at_registration_is_caught_and_located() -> None:
    with pytest.raises(ConformanceError, match=r"faulty_networks\.py:\d+; move the network"):
        kit("Heavy", "heavy_plugin").test_registration_does_not_import_torch()


def test_plugin_that_is_missing_or_raises_is_explained() -> None:
    with pytest.raises(ConformanceError, match=r"no_such_plugin.*pip install"):
        kit("Good", "no_such_plugin").test_plugin_registers_the_model_type()
    with pytest.raises(ConformanceError, match="no codec"):
        kit("Good", "raising_plugin").test_plugin_registers_the_model_type()
    with pytest.raises(ConformanceError, match="did you mean Good"):
        kit("Goood").test_plugin_registers_the_model_type()
    with pytest.raises(ConformanceError, match="plugin = "):
        kit("", "").test_plugin_registers_the_model_type()


def test_settings_of_the_author_are_kept() -> None:
    config = kit("Good", config={"training": {"lr": 0.5}}, params={"width": 3}).settings(num_targets=2, random_seed=4)
    assert (config.training.lr, config.training.random_seed, config.training.device) == (0.5, 4, "cpu")
    assert config.model.params == {"width": 3} and len(config.dataset.targets) == 2


def test_params_of_the_author_reach_the_network() -> None:
    assert kit("Good", params={"width": 3}).build().network.encoder.out_channels == 3
    with pytest.raises(ConformanceError, match=r"model\.params\.widht: unknown.*did you mean width"):
        kit("Good", params={"widht": 3}).test_any_length()


def test_four_lines_of_a_third_party_run_under_pytest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The public way: a file of theirs, collected and judged by pytest."""
    file = tmp_path / "test_theirs.py"
    file.write_text(
        "from auralflow_core.testing import ModelConformance\n"
        "class TestTheirs(ModelConformance):\n"
        "    plugin = 'faulty_plugin'\n"
        "    model_type = 'BatchRecurrence'\n"
    )
    names = "leak or no_gradient or order_of or any_batch or summary"
    status = pytest.main(["-p", "no:cacheprovider", "-q", "-k", names, "--rootdir", str(tmp_path), str(file)])
    shown = capsys.readouterr().out
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "3 failed, 2 passed" in shown
    assert "ConformanceError" in shown and "batch_first=True" in shown
