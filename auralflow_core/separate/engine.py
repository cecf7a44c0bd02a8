"""Separation of streams by one model."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, tee
from typing import Any

import numpy as np
import torch

from auralflow_core.audio import StreamResampler
from auralflow_core.config import SeparationConfig, validate
from auralflow_core.errors import ConfigError
from auralflow_core.model import SeparationModel
from auralflow_core.model.separation import variant
from auralflow_core.separate.base import Audio, BaseSeparator, Notify
from auralflow_core.separate.lockstep import in_step, without_first
from auralflow_core.separate.members import Member, members_of
from auralflow_core.separate.mixture import summing_to_mixture
from auralflow_core.separate.pipeline import mapped, threads
from auralflow_core.separate.runner import Runner, default_threads, one_core_threads
from auralflow_core.separate.segments import Cutter, Reach, mirrored, overlap_add

MAX_SHIFT = 0.5
DEFAULT_BATCH_SIZE = 4


class Separator(BaseSeparator):
    """Separates audio of any length, rate and channel count with the memory of a few segments.

    The audio is cut into segments that overlap, each is estimated alone, and the estimates are joined by a weighted
    mean. On a CPU the result depends on the audio and the settings, to the bit: not on blocks, threads or batches.
    Several threads may use one separator at once.

    Args:
        model: The model.
        batch_size: Segments that go through the network together, on an accelerator; less if its memory asks for it.
        threads: Segments that are estimated at the same time, on a CPU, each on one core; memory grows with it. By
            default as many as torch has threads, up to 4.
        changes: Settings of the group `separation`, such as `segment` or `overlap`, in place of the model's own; none
            leaves one as it is.

    Raises:
        ConfigError: A setting is unknown or out of range.
    """

    def __init__(
        self,
        model: SeparationModel,
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        threads: int | None = None,
        **changes: Any,
    ) -> None:
        given = {name: value for name, value in changes.items() if value is not None}
        own = model.config.separation.model_dump()
        self.model = model
        self.settings = validate(SeparationConfig, {**own, **given}, prefix="separation")
        self._batch_size = _at_least_one("batch_size", batch_size)
        self._threads = default_threads() if threads is None else _at_least_one("threads", threads)
        model.check_separation(self.settings)
        self._variant = variant(model, self.settings)
        self._members = members_of(self._variant)
        self._cutters = [self._cutter(member.model) for member in self._members]
        self._cpu_lock = threading.Lock()
        self._cpu_members: list[Member] = []

    @property
    def targets(self) -> list[str]:
        """Names of the estimated targets, in the order of the target axis."""
        return list(self.model.targets)

    @property
    def sample_rate(self) -> int:
        """The model's rate in Hz."""
        return self.model.sample_rate

    def stream(
        self, blocks: Iterable[Audio], channels: int, sample_rate: int, *, on_fallback: Notify | None = None
    ) -> Iterator[Audio]:
        """Separate a stream; see `BaseSeparator.stream`."""
        separate = partial(self._at_any_rate, channels=channels, sample_rate=sample_rate, on_fallback=on_fallback)
        return summing_to_mixture(blocks, separate) if self.settings.sum_to_mixture else separate(blocks)

    def _at_any_rate(
        self, blocks: Iterable[Audio], channels: int, sample_rate: int, on_fallback: Notify | None
    ) -> Iterator[Audio]:
        if sample_rate == self.sample_rate:
            yield from self._within_margins(blocks, channels, on_fallback)
            return
        count = _Counter()
        there = _resampled(count.each(blocks), channels, sample_rate, self.sample_rate)
        rows = len(self.targets) * channels
        estimates = self._within_margins(there, channels, on_fallback)
        flat = (block.reshape(rows, -1) for block in estimates)
        done = 0
        for block in count.limited(_resampled(flat, rows, self.sample_rate, sample_rate)):
            done += block.shape[1]
            yield block.reshape(len(self.targets), channels, -1)
        if done < count.frames:  # rounding there and back may lose a frame
            yield np.zeros((len(self.targets), channels, count.frames - done), np.float32)

    def _within_margins(self, blocks: Iterable[Audio], channels: int, on_fallback: Notify | None) -> Iterator[Audio]:
        """Separate a stream at the model's rate with silence at its ends; of the estimates these parts are left out."""
        silence = np.zeros((channels, round(self.settings.margin * self.sample_rate)), np.float32)
        count = _Counter()
        estimates = self._averaged(chain([silence], count.each(blocks), [silence]), channels, on_fallback)
        return count.limited(without_first(estimates, silence.shape[1]))

    def _averaged(self, blocks: Iterable[Audio], channels: int, on_fallback: Notify | None) -> Iterator[Audio]:
        """Separate a stream at the model's rate: once, or the mean of several passes."""
        settings = self.settings
        runners = [
            Runner(member.model, partial(self._on_cpu, number), self._batch_size, tta=settings.tta, notify=on_fallback)
            for number, member in enumerate(self._members)
        ]
        with self._workers() as pool:
            separate = partial(self._separated, channels=channels, runners=runners, pool=pool)
            if not settings.shifts:
                yield from separate(blocks)
                return
            draw = random.Random(settings.shift_seed)
            delays = [draw.randint(0, int(MAX_SHIFT * self.sample_rate)) for _ in range(settings.shifts)]
            passes = [
                _delayed(separate, copy, delay, channels)
                for copy, delay in zip(tee(blocks, settings.shifts), delays, strict=True)
            ]
            for estimates in in_step(passes):
                yield sum(estimates[1:], start=estimates[0]) / np.float32(settings.shifts)

    def _separated(
        self, blocks: Iterable[Audio], channels: int, runners: Sequence[Runner], pool: ThreadPoolExecutor
    ) -> Iterator[Audio]:
        """Separate a stream in one pass: by the only network, or as the weighted mean of several."""
        streams = [
            self._estimated(copy, channels, cutter, run, pool)
            for copy, cutter, run in zip(tee(blocks, len(runners)), self._cutters, runners, strict=True)
        ]
        return _mean(streams, self._members) if len(streams) > 1 else streams[0]

    def _estimated(
        self, blocks: Iterable[Audio], channels: int, cutter: Cutter, run: Runner, pool: ThreadPoolExecutor
    ) -> Iterator[Audio]:
        # While the first of these batches is waited for, and until the next one is cut, no thread may run dry.
        ahead = self._threads // (max(1, self.settings.shifts) * len(self._members)) + 1
        count = _Counter()
        extended = mirrored(count.each(blocks), cutter.context) if cutter.context else count.each(blocks)
        batches = run.batches(cutter.cut(extended, channels))
        estimates = overlap_add(chain.from_iterable(mapped(run, batches, pool, ahead)), cutter.weights)
        return count.limited(without_first(estimates, cutter.context))

    def _cutter(self, model: SeparationModel) -> Cutter:
        settings, network = self.settings, model.network
        segment = min(settings.segment, getattr(network, "longest_segment", None) or settings.segment)
        settings = settings.model_copy(update={"segment": segment})
        return Cutter(settings, model.sample_rate, reach_of(model, settings), getattr(network, "valid_length", None))

    def _workers(self) -> Any:
        return one_core_threads(self._threads) if self.model.device.type == "cpu" else threads(1, "separate")

    def _on_cpu(self, number: int) -> SeparationModel:
        """Return a copy of a member on the CPU."""
        with self._cpu_lock:
            if not self._cpu_members:
                plain = self.settings.model_copy(update={"dtype": "float32"})
                self._cpu_members = members_of(variant(self._variant, plain, torch.device("cpu")))
            return self._cpu_members[number].model


def reach_of(model: SeparationModel, settings: SeparationConfig) -> Reach | None:
    """Return how far in samples estimates depend on the input, if the network declares it and segments may be cut hard.

    A network's `receptive_field` is in samples in the waveform domain, else in frames; to these come the windows of
    the transform there and of the one back. Wiener filtering looks at whole windows, however far the network sees.
    """
    field = getattr(model.network, "receptive_field", None)
    if field is None or settings.window != "auto" or settings.wiener:
        return None
    if model.domain == "waveform":
        return Reach(field // 2, 1)
    return Reach(model.stft.num_fft + field // 2 * model.stft.hop_length, model.stft.hop_length)


def _delayed(
    separate: Callable[[Iterable[Audio]], Iterator[Audio]], blocks: Iterable[Audio], delay: int, channels: int
) -> Iterator[Audio]:
    """Separate a stream with silence before it; of the estimates that part is left out."""
    silence = np.zeros((channels, delay), np.float32)
    return without_first(separate(chain([silence], blocks)), delay)


def _mean(streams: Sequence[Iterator[Audio]], members: Sequence[Member]) -> Iterator[Audio]:
    """Yield the members' weighted mean."""
    for estimates in in_step(streams):
        weighted = [estimate * member.shares for estimate, member in zip(estimates, members, strict=True)]
        yield sum(weighted[1:], start=weighted[0])


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise ConfigError(f"{name}: {value} is below 1; 1 is the least")
    return value


class _Counter:
    """Counts the frames that pass."""

    frames = 0

    def each(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        for block in blocks:
            self.frames += block.shape[1]
            yield block

    def limited(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """Yield no more frames than passed, of blocks that are made of those."""
        done = 0
        for block in blocks:
            audio = block[..., : self.frames - done]
            done += audio.shape[-1]
            if audio.shape[-1]:
                yield audio


def _resampled(blocks: Iterable[Audio], channels: int, from_rate: int, to_rate: int) -> Iterator[Audio]:
    resampler = StreamResampler(channels, from_rate, to_rate)
    for block in blocks:
        yield resampler.process(block)
    yield resampler.process(np.zeros((channels, 0), np.float32), last=True)
