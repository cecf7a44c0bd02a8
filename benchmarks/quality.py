"""Train our Open-Unmix and the package openunmix for the same CPU time on the same songs, and score both.

    python benchmarks/quality.py SONGS --minutes 10
    python benchmarks/quality.py SONGS --minutes 3 --side ours --batch_size 4 --lr 2e-3

SONGS has train/ and test/ in the MUSDB18-HQ layout; the target is the vocals. Both sides train a network of the
published sizes on one thread, in a process of its own; the budget is that process' CPU time from the first step on,
validation included. Ours is what `auralflow train` does with the settings that `auralflow config NAME OpenUnmix`
writes, but for the sizes; settings may be added. The peer's side is the module `openunmix.model.OpenUnmix` with its
published recipe: chunks of 6 s, mixtures of four stems from anywhere in any songs with random gains and swapped
channels, batches of 16, the squared error of magnitudes, Adam with a rate of 1e-3 and a weight decay of 1e-5, a lower
rate at a plateau, inputs scaled by the songs' mean and deviation, which costs it none of its budget. Our reader reads
stems for both.

Each side separates the test songs its own way: ours as `auralflow separate` does, the peer with and without its Wiener
filter, of which the better counts. Printed are medians over songs of museval's SDR; ours must not be below.
"""

from __future__ import annotations

import argparse
import importlib
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpu_time import ENDLESS, Budget, configured, scores, settings_of, train

from auralflow_core.processes import end_with_parent

if TYPE_CHECKING:
    from torch import Tensor

    from auralflow_core.data.song import Song
    from auralflow_core.separate import BaseSeparator

RATE, FFT, HOP, TARGET = 44100, 4096, 1024, "vocals"
SIZES = {
    "targets": TARGET,
    "num_channels": "2",
    "sample_rate": str(RATE),
    "num_fft": str(FFT),
    "window_size": str(FFT),
    "hop_length": str(HOP),
    "hidden_size": "512",
    "max_bin": "1487",
}
STEMS = ["vocals", "drums", "bass", "other"]


@dataclass(frozen=True)
class Outcome:
    """What one side came to: its steps, CPU seconds, and SDR by way of separating, of each test song."""

    steps: int
    cpu_seconds: float
    sdr: dict[str, list[float]]
    mixture_sdr: list[float]

    @property
    def best(self) -> float:
        """The median over songs of the better way."""
        return max(map(statistics.median, self.sdr.values()))


def ours(songs: Path, minutes: float, seed: int, words: dict[str, str]) -> Outcome:
    """Train and score our side."""
    from auralflow_core.build import load_model
    from auralflow_core.separate import Separator

    config = configured("OpenUnmix", SIZES, ENDLESS, {"random_seed": str(seed), "device": "cpu"}, words)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        spent = train(config, folder, songs, minutes)
        sdr, mixture = scores(Separator(load_model(folder)), songs, config)
    return Outcome(spent.steps, spent.cpu_seconds, {"as configured": sdr}, mixture)


def theirs(songs: Path, minutes: float, seed: int, words: dict[str, str]) -> Outcome:
    """Train and score the package's side."""
    import numpy as np
    import torch

    from auralflow_core.training import training_songs

    model, transforms = _openunmix()
    config = configured("OpenUnmix", SIZES, words)
    train, valid = training_songs(config, songs)
    torch.manual_seed(seed)
    encoder = torch.nn.Sequential(
        transforms.make_filterbanks(n_fft=FFT, n_hop=HOP, center=True, sample_rate=RATE)[0], transforms.ComplexNorm()
    )
    mean, scale = _statistics(encoder, train)
    network = model.OpenUnmix(FFT // 2 + 1, 2, 512, input_mean=mean, input_scale=scale, max_bin=1487)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=80, cooldown=10)
    batches = _remixed(train, np.random.default_rng(seed))
    budget, steps, best = Budget(minutes), 0, (math.inf, network.state_dict())
    while not budget.is_spent:
        network.train()
        for _ in range(64 * len(train) // 16):  # 64 chunks of each song are an epoch
            mixture, target = next(batches)
            optimizer.zero_grad()
            torch.autograd.backward(torch.nn.functional.mse_loss(network(encoder(mixture)), encoder(target)))
            optimizer.step()
            steps += 1
            if budget.is_spent:
                break
        cpu_seconds = budget.spent
        loss = _validation_loss(network, encoder, valid)
        schedule.step(loss)
        if loss < best[0]:
            best = loss, {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(best[1])
    sizes = {"sample_rate": RATE, "n_fft": FFT, "n_hop": HOP, "nb_channels": 2}
    ways = {
        "Wiener": model.Separator({TARGET: network}, niter=1, residual=True, **sizes),
        "mask": model.Separator({TARGET: network}, niter=0, **sizes),
    }
    found = {name: scores(_separator(way.eval()), songs, config) for name, way in ways.items()}
    return Outcome(steps, cpu_seconds, {name: sdr for name, (sdr, _) in found.items()}, found["mask"][1])


def _openunmix() -> tuple[Any, Any]:
    from auralflow_core.torchaudio_cpu import import_torchaudio

    import_torchaudio()  # the package imports it, and its plain import may fail
    return importlib.import_module("openunmix.model"), importlib.import_module("openunmix.transforms")


def _statistics(encoder: Any, songs: Iterable[Song]) -> tuple[Any, Any]:
    """Return mean and deviation of each bin over all frames of the mixtures, channels averaged."""
    import numpy as np
    import torch

    frames = torch.cat([encoder(_tensor(song.read_mixture())).mean(dim=(0, 1)).T for song in songs])  # (frame, bin)
    scale = frames.std(dim=0, unbiased=False).numpy()
    return frames.mean(dim=0).numpy(), np.maximum(scale, 1e-4 * scale.max())


def _remixed(songs: list[Song], rng: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of mixtures `(16, 2, time)` and their vocals, each stem from anywhere in any song."""
    import torch

    frames = 6 * RATE
    while True:
        items = []
        for _ in range(16):
            stems = []
            for name in STEMS:
                song = songs[rng.integers(len(songs))]
                stem = song.read_stems([name], int(rng.integers(song.frames - frames)), frames)[0]
                gained = stem * rng.uniform(0.25, 1.25)
                stems.append(_tensor(gained[::-1] if rng.random() < 0.5 else gained)[0])
            items.append(torch.stack(stems))
        batch = torch.stack(items)  # (batch, stem, channel, time)
        yield batch.sum(dim=1), batch[:, STEMS.index(TARGET)].contiguous()


def _validation_loss(network: Any, encoder: Any, songs: list[Song]) -> float:
    """Return the mean loss of whole songs."""
    import torch

    network.eval()
    with torch.no_grad():
        losses = [
            torch.nn.functional.mse_loss(
                network(encoder(_tensor(song.read_mixture()))), encoder(_tensor(song.read_stems([TARGET])[0]))
            )
            for song in songs
        ]
    return float(torch.stack(losses).mean())


def _tensor(audio: Any) -> Tensor:
    """Return `(1, channel, time)`."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(audio, np.float32, order="C"))[None]


def _separator(way: Any) -> BaseSeparator:
    """Return the package's separator as one of ours."""
    import numpy as np
    import torch

    from auralflow_core.separate import BaseSeparator

    class Peer(BaseSeparator):
        """Estimates the whole song at once."""

        targets = [TARGET]  # noqa: RUF012 - an attribute where the base has a property
        sample_rate = RATE

        def stream(self, blocks: Any, channels: int, sample_rate: int, **_: Any) -> Iterator[Any]:
            """Yield the whole estimate."""
            with torch.no_grad():
                yield way(_tensor(np.concatenate(list(blocks), axis=1)))[0, :1].numpy()

    return Peer()


SIDES = {"ours": ours, "openunmix": theirs}


def _run(side: str, *arguments: Any) -> Outcome:
    import torch

    torch.set_num_threads(1)
    return SIDES[side](*arguments)


def main() -> None:
    """Train the sides one after the other, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU minutes of each side (10)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and chunks (0)")
    parser.add_argument("--side", choices=SIDES, action="append", help="one side alone")
    options, words = parser.parse_known_args()
    settings = settings_of(words)
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch loads, in the processes that are started
    found = {}
    for side in options.side or SIDES:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent) as process:
            outcome = process.submit(_run, side, options.songs, options.minutes, options.seed, settings).result()
        found[side] = outcome
        print(f"{side:10} {outcome.steps} steps in {outcome.cpu_seconds / 60:.2f} CPU minutes", flush=True)
        for way, sdr in {**outcome.sdr, "the mixture itself": outcome.mixture_sdr}.items():
            each = ", ".join(f"{value:.2f}" for value in sdr)
            print(f"  {way:18} SDR {statistics.median(sdr):6.2f} dB  ({each})", flush=True)
    if len(found) == 2:
        difference = found["ours"].best - found["openunmix"].best
        print(f"ours is {difference:+.2f} dB")
        sys.exit(difference < 0)


if __name__ == "__main__":
    main()
