"""Train model types with several rates and batch sizes for the same CPU time, and score them: how defaults are chosen.

    python benchmarks/defaults.py SONGS --types UNet UNetAudio --minutes 3
    python benchmarks/defaults.py SONGS --types OpenUnmix --lr 1e-3 3e-3 --batch_size 4 8 --hidden_size 256

SONGS has train/ and test/ in the MUSDB18-HQ layout; take others than those on which the defaults are compared with
anything. Each training has a process of one thread and begins with what `auralflow config NAME TYPE` writes; its budget
is that process' CPU time from the first step on, validation included. Printed is the median over songs of the SDR that
`auralflow test` prints; the first row of a type is that of its present defaults.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from cpu_time import ENDLESS, configured, scores, settings_of, train

from auralflow_core.processes import end_with_parent


def measure(type_: str, songs: Path, minutes: float, settings: dict[str, str]) -> tuple[int, float, float]:
    """Return the steps of one training, the SDR of the test songs, and that of their mixtures."""
    import torch

    from auralflow_core.build import load_model
    from auralflow_core.separate import Separator

    torch.set_num_threads(1)
    config = configured(type_, ENDLESS, {"device": "cpu"}, settings)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        spent = train(config, folder, songs, minutes)
        sdr, mixture = scores(Separator(load_model(folder)), songs, config)
    return spent.steps, statistics.median(sdr), statistics.median(mixture)


def main() -> None:
    """Print a row for each training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path)
    parser.add_argument("--types", nargs="+", required=True)
    parser.add_argument("--minutes", type=float, default=3.0, help="CPU minutes of each training (3)")
    parser.add_argument("--lr", nargs="*", default=["3e-4", "3e-3"])
    parser.add_argument("--batch_size", nargs="*", default=[], help="batch sizes (the default alone)")
    options, words = parser.parse_known_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch loads, in the processes that are started
    for type_ in options.types:
        usual = configured(type_).training
        rates = {float(rate): rate for rate in (str(usual.lr), *options.lr)}
        sizes = dict.fromkeys((str(usual.batch_size), *options.batch_size))
        for size, rate in itertools.product(sizes, rates.values()):
            settings = {"lr": rate, "batch_size": size, **settings_of(words)}
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent) as process:
                steps, sdr, mixture = process.submit(measure, type_, options.songs, options.minutes, settings).result()
            print(
                f"{type_:22} lr {rate:>7} batch {size:>3}  {steps:5} steps  SDR {sdr:6.2f}  (mixture {mixture:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
