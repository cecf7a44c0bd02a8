"""What each augmentation costs: CPU time on one thread for a stereo chunk, per stem.

python benchmarks/augment.py                     6 s of noise that fades in, 44.1 kHz
python benchmarks/augment.py --device cuda       beside the device, for what can run there
python benchmarks/augment.py --audio song.wav    the beginning of a file
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from auralflow_core.audio import match_channels, read_audio
from auralflow_core.config.augmentation_groups import AugmentationsConfig, StemAugmentations
from auralflow_core.data.augment import Augmenter
from auralflow_core.data.augment.effects import EFFECTS

SAMPLE_RATE = 44100
ROUNDS = 5
MILLI = 1000


def main() -> None:
    """Measure every augmentation with what is drawn for it by default, and print a table."""
    options = _parser().parse_args()
    torch.set_num_threads(1)
    audio = _audio(options.audio, round(options.seconds * SAMPLE_RATE))
    print(f"{options.seconds:g} s, {len(audio)} channels, {SAMPLE_RATE} Hz, median of {ROUNDS}")
    print(f"{'':16}{'CPU ms':>8}" + (f"{options.device + ' ms':>10}" if options.device else ""))
    for name in EFFECTS:
        row = f"{name:16}{_milliseconds(name, audio, time.process_time):8.1f}"
        if options.device and not EFFECTS[name].on_host:
            row += f"{_milliseconds(name, audio.to(options.device), time.perf_counter):10.2f}"
        print(row)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6, help="length of the chunk (6)")
    parser.add_argument("--audio", type=Path, help="audio file at 44.1 kHz; without: noise")
    parser.add_argument("--device", help="cuda or mps")
    return parser


def _audio(path: Path | None, frames: int) -> Tensor:
    """Return float32 `(2, frames)`."""
    if path is not None:
        return torch.from_numpy(match_channels(read_audio(path, 0, frames)[0], 2).copy())
    return torch.randn(2, frames, generator=torch.Generator().manual_seed(0)) * torch.linspace(0, 0.2, frames)


def _milliseconds(name: str, audio: Tensor, clock: Callable[[], float]) -> float:
    """Return the median time of an augmentation over several draws."""
    group = "stems" if name in StemAugmentations.model_fields else "song"
    config = AugmentationsConfig.model_validate({group: {name: {"p": 1}}})
    augmenter = Augmenter(config, SAMPLE_RATE, [], seed=0)
    spent = []
    for number in range(ROUNDS + 1):
        (drawn,) = augmenter.plan(0, number)["(rest)"]
        values = {key: value for key, value in drawn.items() if key != "effect"}
        began = clock()
        EFFECTS[name].apply(audio, SAMPLE_RATE, **values)
        if audio.is_cuda:
            torch.cuda.synchronize()
        spent.append(clock() - began)
    return MILLI * statistics.median(spent[1:])


if __name__ == "__main__":
    main()
