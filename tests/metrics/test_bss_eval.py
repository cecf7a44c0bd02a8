"""BSSEval against museval itself, metric by metric and frame by frame."""

from __future__ import annotations

from typing import Any
from unittest import mock

import museval.metrics
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import firwin, lfilter

from auralflow_core.errors import DataError
from auralflow_core.metrics import BSSEval, BSSScores, bss_eval, frame_sdr

Array = NDArray[np.float64]

# Above this, in dB, only rounding errors are left of an estimate; other builds of numpy round otherwise.
ROUNDING_DB = 150.0
FIELDS = ("sdr", "isr", "sir", "sar")


def as_array(scores: BSSScores) -> Array:
    return np.stack([getattr(scores, name) for name in FIELDS])


def museval_scores(
    references: NDArray[Any], estimates: NDArray[Any], window: int, hop: int, filter_length: int, mode: str
) -> Array:
    # museval 0.4.1 looks for the error of a singular matrix where numpy 2.3 no longer has it.
    with mock.patch.object(np.linalg, "linalg", np.linalg, create=True):
        return _museval_scores(references, estimates, window, hop, filter_length, mode)


def _museval_scores(
    references: NDArray[Any], estimates: NDArray[Any], window: int, hop: int, filter_length: int, mode: str
) -> Array:
    by_time = [np.moveaxis(np.asarray(audio, dtype=np.float64), 1, 2) for audio in (references, estimates)]
    scores = museval.metrics.bss_eval(
        *by_time, window=window, hop=hop, filters_len=filter_length, framewise_filters=mode == "v3"
    )
    return np.array(scores[:4])


def assert_same(
    references: NDArray[Any],
    estimates: NDArray[Any],
    *,
    window: int = 1000,
    hop: int = 1000,
    filter_length: int = 32,
    mode: Any = "v4",
    tolerance: float = 1e-6,
) -> Array:
    ours = as_array(bss_eval(references, estimates, window=window, hop=hop, filter_length=filter_length, mode=mode))
    theirs = museval_scores(references, estimates, window, hop, filter_length, mode)
    clean = np.isfinite(theirs) & (theirs > ROUNDING_DB)
    assert (ours[clean] > ROUNDING_DB - 10).all()
    np.testing.assert_allclose(ours[~clean], theirs[~clean], rtol=0, atol=tolerance, equal_nan=True)
    return ours


def music(seed: int, *shape: int) -> NDArray[np.float32]:
    """Coloured noise in 16 bits, `(target, channel, time)`."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    coloured = lfilter([0.05], [1, -0.9], noise, axis=-1)
    return np.asarray(np.round(coloured * 2**15) / 2**15, dtype=np.float32)


def separated(references: NDArray[np.float32], seed: int = 1) -> NDArray[np.float32]:
    """The references with leaks from each other, another gain, an echo and artifacts."""
    leaks = references + 0.1 * references[::-1] + 0.02 * np.roll(references, 3, axis=-1)
    estimates = 0.9 * leaks + 0.1 * music(seed + 100, *references.shape)
    return np.asarray(estimates, dtype=np.float32)


@given(
    targets=st.integers(1, 6),
    channels=st.integers(1, 2),
    length=st.integers(40, 6000),
    window=st.integers(200, 3000),
    hop=st.integers(150, 3000),
    filter_length=st.integers(1, 40),
    mode=st.sampled_from(["v4", "v3"]),
    silences=st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 6000)), max_size=2),
    seed=st.integers(0, 99),
)
@example(4, 2, 3000, 10_000, 150, 16, "v4", [], 0)  # shorter than a window
@example(6, 2, 5000, 900, 900, 24, "v3", [(True, 3, 1000)], 0)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_frame_of_every_metric_is_musevals(
    targets: int,
    channels: int,
    length: int,
    window: int,
    hop: int,
    filter_length: int,
    mode: str,
    silences: list[tuple[bool, int, int]],
    seed: int,
) -> None:
    # Fewer samples than filter taps leave the filters undetermined.
    length = max(length, 2 * targets * channels * filter_length)
    window = max(window, 2 * targets * channels * filter_length)
    references = music(seed, targets, channels, length)
    estimates = separated(references, seed)
    for in_references, target, start in silences:
        audio = references if in_references else estimates
        if start > length // 4:
            audio[target % targets, :, start : start + 1500] = 0
    assert_same(references, estimates, window=window, hop=hop, filter_length=filter_length, mode=mode)


@pytest.mark.parametrize(("targets", "channels"), [(1, 1), (2, 2)])
def test_the_standard_filter_length_and_window(targets: int, channels: int) -> None:
    references = music(3, targets, channels, 100_000)
    scores = assert_same(references, separated(references), window=44100, hop=44100, filter_length=512)
    assert scores.shape == (4, targets, 2)


@pytest.mark.parametrize("mode", ["v4", "v3"])
def test_a_frame_with_any_silent_source_is_nan_for_all_targets(mode: str) -> None:
    references = music(0, 3, 2, 5000)
    estimates = separated(references)
    references[1, :, 1000:2000] = 0
    estimates[2, 0, 3000:4000] = -estimates[2, 1, 3000:4000]  # museval takes the sum of the channels
    scores = assert_same(references, estimates, mode=mode)
    assert np.isnan(scores).all(axis=(0, 1)).tolist() == [False, True, False, True, False]


def test_a_source_that_is_silent_throughout_makes_every_frame_nan() -> None:
    references = music(0, 2, 2, 3000)
    estimates = separated(references)
    estimates[0] = 0
    with pytest.raises(ValueError, match="non-silent"):
        museval_scores(references, estimates, 1000, 1000, 16, "v4")
    assert np.isnan(as_array(bss_eval(references, estimates, window=1000, hop=1000))).all()


def test_one_target_has_no_interference() -> None:
    references = music(0, 1, 2, 3000)
    assert np.isposinf(assert_same(references, separated(references))[2]).all()


def changed(name: str, references: NDArray[np.float32]) -> NDArray[np.float32]:
    match name:
        case "mono stems":
            references[:, 1] = references[:, 0]
        case "an empty channel":
            references[1, 1] = 0
        case "one reference the sum of others":
            references[2] = references[0] + references[1]
        case "one reference a delay of another":
            references[1, :, 5:] = references[0, :, :-5]
        case "one reference near another":
            references[1] = references[0] + 1e-3 * references[1]
        case "an empty band":
            return np.asarray(lfilter(firwin(255, 0.5), [1], references, axis=-1), dtype=np.float32)
        case "an empty band in double precision":
            return np.asarray(lfilter(firwin(1023, 0.3), [1], references.astype(np.float64), axis=-1))
    return references


@pytest.mark.parametrize("mode", ["v4", "v3"])
@pytest.mark.parametrize(
    "name",
    [
        "mono stems",
        "an empty channel",
        "one reference the sum of others",
        "one reference a delay of another",
        "one reference near another",
        "an empty band",
        "an empty band in double precision",
    ],
)
def test_references_that_predict_each_other_score_as_in_museval(name: str, mode: str) -> None:
    references = music(4, 3, 2, 6000)
    estimates = separated(references)
    assert_same(
        changed(name, references), estimates, window=3000, hop=3000, filter_length=64, mode=mode, tolerance=1e-4
    )


@pytest.mark.parametrize("mode", ["v4", "v3"])
@pytest.mark.parametrize("name", ["identical", "one identical", "gain", "mixture", "filtered"])
def test_estimates_of_which_only_rounding_is_left(name: str, mode: str) -> None:
    references = music(5, 3, 2, 4000)
    estimates = separated(references)
    match name:
        case "identical":
            estimates = references.copy()
        case "one identical":
            estimates[1] = references[1]
        case "gain":
            estimates = 0.5 * references
        case "mixture":
            estimates = np.broadcast_to(references.astype(np.float64).sum(axis=0), references.shape)
        case "filtered":
            estimates = lfilter([0.5, 0.2], [1], references.astype(np.float64), axis=-1)
    assert_same(references, estimates, mode=mode)


def test_rounding_can_be_left_unreproduced() -> None:
    references = music(6, 3, 2, 4000)
    mixture = np.broadcast_to(references.astype(np.float64).sum(axis=0), references.shape)
    exact = as_array(bss_eval(references, mixture, window=1000, hop=1000, filter_length=32))
    quick = as_array(bss_eval(references, mixture, window=1000, hop=1000, filter_length=32, reproduce_rounding=False))
    np.testing.assert_allclose(quick[:3], exact[:3], rtol=0, atol=1e-6)
    assert (quick[3] > 150).all()


def test_long_windows_are_scored_in_pieces() -> None:
    references = music(7, 2, 1, 70_000)
    assert_same(references, separated(references), window=60_000, hop=7_000, filter_length=100)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_score_as_arrays(dtype: torch.dtype) -> None:
    references = torch.from_numpy(music(8, 2, 2, 3000)).to(dtype)
    estimates = torch.from_numpy(separated(references.numpy())).to(dtype)
    arrays = bss_eval(references.numpy(), estimates.numpy(), window=1000, hop=500, filter_length=16)
    tensors = bss_eval(references, estimates.requires_grad_(), window=1000, hop=500, filter_length=16)
    np.testing.assert_array_equal(as_array(tensors), as_array(arrays))
    assert as_array(tensors).dtype == np.float64


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_scores_as_the_cpu() -> None:
    references = music(8, 4, 2, 100_000)
    estimates = separated(references)
    on_gpu = bss_eval(torch.from_numpy(references).cuda(), torch.from_numpy(estimates).cuda())
    np.testing.assert_allclose(as_array(on_gpu), as_array(bss_eval(references, estimates)), rtol=0, atol=1e-6)


def test_inputs_are_not_written_to_and_may_be_read_only() -> None:
    references = music(9, 2, 1, 3000)
    estimates = separated(references)
    before = references.copy(), estimates.copy()
    for audio in (references, estimates):
        audio.flags.writeable = False
    bss_eval(references, estimates, window=1000, hop=1000, filter_length=16)
    np.testing.assert_array_equal(references, before[0])
    np.testing.assert_array_equal(estimates, before[1])


def test_values_that_are_not_finite_make_their_targets_nan() -> None:
    references = music(10, 3, 1, 3000)
    estimates = separated(references)
    known = as_array(bss_eval(references, estimates, window=1000, hop=1000, filter_length=16))
    estimates[1, 0, 1500] = np.nan
    scores = as_array(bss_eval(references, estimates, window=1000, hop=1000, filter_length=16))
    assert np.isnan(scores[:, 1]).all()
    np.testing.assert_allclose(scores[:, [0, 2]], known[:, [0, 2]], rtol=0, atol=1e-9)
    framewise = as_array(bss_eval(references, estimates, window=1000, hop=1000, filter_length=16, mode="v3"))
    assert np.isnan(framewise[:, 1]).all(axis=0).tolist() == [False, True, False]
    references[0, 0, 5] = np.inf
    assert np.isnan(as_array(bss_eval(references, estimates, window=1000, hop=1000, filter_length=16))).all()


def test_frame_sdr_is_the_sdr_of_v4() -> None:
    references = music(11, 3, 2, 5000)
    estimates = separated(references)
    estimates[0, :, 1000:2000] = 0
    expected = museval_scores(references, estimates, 1000, 700, 16, "v4")[0]
    found = frame_sdr(references, estimates, window=1000, hop=700)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9, equal_nan=True)
    assert np.isposinf(frame_sdr(references, references)).all()


def test_wrong_shapes_and_settings_are_refused() -> None:
    audio = music(0, 2, 2, 100)
    with pytest.raises(DataError, match=r"\(2, 2, 100\).*\(2, 2, 99\).*trim or pad"):
        bss_eval(audio, audio[..., :99])
    with pytest.raises(DataError, match=r"\(2, 100\).*\(target, channel, time\)"):
        bss_eval(audio[0], audio[0])
    with pytest.raises(DataError, match="no audio"):
        bss_eval(audio[..., :0], audio[..., :0])
    with pytest.raises(DataError, match="hop is 0"):
        bss_eval(audio, audio, hop=0)
    with pytest.raises(DataError, match="window is -1"):
        frame_sdr(audio, audio, window=-1)
    with pytest.raises(DataError, match=r"'v5'.*v4 and v3"):
        bss_eval(audio, audio, mode="v5")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["v4", "v3"])
@pytest.mark.parametrize("hop", [400, 1000, 1700])
def test_one_scorer_scores_several_estimates_as_each_alone(hop: int, mode: Any) -> None:
    references = music(3, 3, 2, 9000)
    gap = separated(references, 2)
    gap[1, :, 2000:3000] = 0
    scorer = BSSEval(references, window=1000, hop=hop, filter_length=16, mode=mode)
    for estimates in (gap, separated(references, 7), gap, references.copy()):
        alone = bss_eval(references, estimates, window=1000, hop=hop, filter_length=16, mode=mode)
        np.testing.assert_allclose(as_array(scorer.score(estimates)), as_array(alone), rtol=0, atol=1e-9)
