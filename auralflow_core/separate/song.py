"""One song: read, separate, write its stems. The three work at the same time, and none holds more than some blocks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from auralflow_core.audio import AudioReader
from auralflow_core.errors import AudioError, did_you_mean
from auralflow_core.separate.base import Audio, BaseSeparator, Notify
from auralflow_core.separate.pipeline import background, prefetched
from auralflow_core.separate.stems import StemFormat, StemWriters
from auralflow_core.separate.tape import Tape

RESIDUAL = "residual"
WITHOUT = "no_"
_BLOCK_FRAMES = 1 << 16


@dataclass(frozen=True)
class Options:
    """What is written of a song.

    Attributes:
        stems: The targets to write; none given: all.
        karaoke: Write this target and the mixture without it (`no_vocals`), and no other.
        residual: Whether to write what is left of the mixture without the model's targets.
        start: Seconds to leave out at the start.
        duration: Seconds to separate; none given: all.
        format: How the stems are stored.
        name_template: Their paths by fields such as `{artist}/{track}_{stem}.{ext}` (`names.FIELDS`); none given:
            `SONG/STEM.FORMAT`, below the folders that the song was found in.
    """

    stems: tuple[str, ...] = ()
    karaoke: str | None = None
    residual: bool = False
    start: float = 0.0
    duration: float | None = None
    format: StemFormat = field(default_factory=StemFormat)
    name_template: str | None = None


@dataclass(frozen=True)
class SongReport:
    """What became of a song.

    Attributes:
        outputs: The files of its stems.
        sample_rate: In Hz.
        channels: Samples per frame.
        seconds: Length of the stems.
        gain: The factor that all stems were multiplied by so that none clips.
        clipped: Samples that were cut to full scale.
        notes: What else is worth knowing.
    """

    outputs: tuple[Path, ...]
    sample_rate: int
    channels: int
    seconds: float
    gain: float
    clipped: int
    notes: tuple[str, ...] = ()


def separate_song(
    separator: BaseSeparator,
    source: Path,
    outputs: Mapping[str, Path],
    options: Options | None = None,
    progress: Callable[[float], None] | None = None,
) -> SongReport:
    """Separate a file into stems of its own rate, channel count and length.

    The stems appear together, when all are whole.

    Args:
        separator: The separator.
        source: An audio file.
        outputs: The file of each stem that `wanted_stems` names.
        options: What to write.
        progress: Called with the seconds done so far.

    Raises:
        AudioError: The file is no audio, or a stem cannot be stored as asked.
    """
    options = options or Options()
    notes: list[str] = []
    done = 0
    with AudioReader(source) as reader:
        rate, channels = reader.sample_rate, reader.channels
        writers = StemWriters(outputs, source, rate, channels, options.format)
        blocks = _stems(separator, reader, outputs, options, notes.append)
        with writers, background(writers.write) as put, closing(blocks):
            for stems in blocks:
                put(stems)
                done += next(iter(stems.values())).shape[-1]
                if progress:
                    progress(done / rate)
            if done == 0:
                raise AudioError(f"{source}: holds no samples to separate{_where(options)}; leave it out")
    return SongReport(tuple(outputs.values()), rate, channels, done / rate, writers.gain, writers.clipped, tuple(notes))


def wanted_stems(targets: Sequence[str], options: Options) -> list[str]:
    """Return the names of the stems to write.

    Raises:
        AudioError: The model has no such target, or two stems would have one name.
    """
    if options.karaoke and options.stems:
        raise AudioError("--karaoke writes two stems, its target and the rest; leave out --stems")
    chosen = [options.karaoke] if options.karaoke else list(options.stems)
    for name in chosen:
        if name not in targets:
            raise AudioError(
                f"the model has no target {name!r}{did_you_mean(name, targets)} (it has {', '.join(targets)}); "
                "choose among these, or add --residual for the rest"
            )
    names = chosen or list(targets)
    if options.karaoke:
        names.append(WITHOUT + options.karaoke)
    if options.residual:
        names.append(RESIDUAL)
    for name in names:
        if names.count(name) > 1:
            raise AudioError(f"two stems would be called {name!r}; name each once, or leave out --residual")
    return names


def _stems(
    separator: BaseSeparator, reader: AudioReader, names: Iterable[str], options: Options, on_fallback: Notify
) -> Generator[dict[str, Audio]]:
    """Yield blocks of the wanted stems."""
    targets = separator.targets
    left_out = {RESIDUAL: targets, **{WITHOUT + target: [target] for target in targets}}
    # A target of the model comes first, whatever it is called.
    rests = [name for name in names if name not in targets]
    mixture, done = Tape(), 0
    with closing(prefetched(_part(reader, options))) as blocks:
        recorded = mixture.recording(blocks) if rests else blocks
        for estimates in separator.stream(recorded, reader.channels, reader.sample_rate, on_fallback=on_fallback):
            stems = dict(zip(targets, estimates, strict=True))
            for name in rests:
                stems[name] = np.empty_like(estimates[0])
                mixture.copy_to(stems[name], done)
                for target in left_out[name]:
                    stems[name] -= stems[target]
            done += estimates.shape[-1]
            mixture.forget(done)
            yield {name: stems[name] for name in names}


def _part(reader: AudioReader, options: Options) -> Iterator[Audio]:
    """Yield the blocks of the part that is asked for."""
    skip = round(options.start * reader.sample_rate)
    left = None if options.duration is None else round(options.duration * reader.sample_rate)
    for block in reader.blocks(_BLOCK_FRAMES):
        wanted = block[:, skip:][:, :left]
        skip = max(0, skip - block.shape[1])
        if wanted.shape[1]:
            yield wanted
        if left is not None:
            left -= wanted.shape[1]
            if left <= 0:
                return


def _where(options: Options) -> str:
    if options.start or options.duration is not None:
        length = "" if options.duration is None else f", {options.duration:g} s long"
        return f" in the part that starts at {options.start:g} s{length}"
    return ""
