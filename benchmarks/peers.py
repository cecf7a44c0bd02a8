"""Ours beside the packages that published the systems: the same song, the same random weights, in one run.

Imported by `separate.py`. The song comes from a file. Ours is what `auralflow separate` does, with stems of 32 bit
floats; the peer reads the file and estimates, and its writing is not counted. Memory is the peak above that of the
process with the libraries loaded, so the weights count.
"""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 44100
CHANNELS = 2
STEMS = {"OpenUnmix": ("vocals", "drums", "bass", "other"), "HTDemucs": ("drums", "bass", "other", "vocals")}
UMXHQ = {"hidden_size": 512, "max_bin": 1487}
HTDEMUCS = {"bottom_channels": 512, "dconv_mode": 3, "segment": 7.8}
DIFFERENCE_LIMIT = 1e-4

Work = Callable[[], Callable[[], object] | None]


@dataclass(frozen=True)
class Comparison:
    """One system.

    Attributes:
        package: The peer's package, as it is imported.
        type: Our model type of the same network.
        seconds: Lengths of the songs.
        time_limit: What share of the peer's time ours may take.
        memory_limit: Of its memory.
        save_weights: Writes the peer's random weights.
        peer: Prepares the peer: of weights, song and output.
        costs: CPU seconds for a second of song, ours and the peer's, roughly.
    """

    package: str
    type: str
    seconds: int
    time_limit: float
    memory_limit: float
    save_weights: Callable[[Path], None]
    peer: Callable[[Path, Path, Path], Work]
    costs: tuple[float, float]


def libraries(package: str, *, is_ours: bool) -> None:
    """Load torch, both packages and what they load later, ours as the command does it."""
    if is_ours:
        from auralflow_core.processes import tune_memory

        tune_memory()
    from auralflow_core.torchaudio_cpu import import_torchaudio

    import_torchaudio()  # openunmix imports it, and its plain import may fail
    importlib.import_module(package)
    importlib.import_module({"openunmix": "openunmix.model", "demucs": "demucs.apply"}[package])
    for name in ("build", "separate", "audio"):
        importlib.import_module(f"auralflow_core.{name}")


def ours(type_: str, weights: Path, song: Path, output: Path, threads: int) -> Work:
    """Separate a file as the command does, with the peer's weights and settings."""
    import torch

    from auralflow_core.build import build_model
    from auralflow_core.config import Config, validate
    from auralflow_core.separate import Options, Separator, StemFormat, separate_song

    model = build_model(validate(Config, _config(type_, soundfile.info(song).duration)))
    state = torch.load(weights, weights_only=True)
    if type_ == "OpenUnmix":
        targets = enumerate(STEMS[type_])
        state = {f"targets.{number}.{key}": value for number, name in targets for key, value in state[name].items()}
    model.network.load_state_dict(state)
    del state
    model.eval()
    separator = Separator(model, threads=threads)
    outputs = {name: output / f"{name}.wav" for name in separator.targets}

    def work() -> None:
        separate_song(separator, song, outputs, Options(format=StemFormat("wav", "32f")))

    return work


def _config(type_: str, seconds: float) -> dict[str, Any]:
    dataset: dict[str, Any] = {"targets": list(STEMS[type_]), "num_channels": CHANNELS, "sample_rate": RATE}
    separation: dict[str, Any] = {"segment": 7.8, "overlap": 0.25, "window": "triangle", "final_segment": "padded"}
    if type_ == "OpenUnmix":
        dataset |= {"num_fft": 4096, "window_size": 4096, "hop_length": 1024, "stft_padding": "reflect"}
        separation = {"segment": seconds, "overlap": 0, "wiener": 1}
    return {
        "model": {"type": type_, "params": UMXHQ if type_ == "OpenUnmix" else HTDEMUCS},
        "dataset": dataset,
        "training": {"device": "cpu"},
        "separation": separation,
    }


def _openunmix_networks() -> dict[str, Any]:
    import torch

    model: Any = importlib.import_module("openunmix.model")
    torch.manual_seed(0)
    sizes = {"hidden_size": UMXHQ["hidden_size"], "max_bin": UMXHQ["max_bin"]}
    return {name: model.OpenUnmix(4096 // 2 + 1, CHANNELS, **sizes) for name in STEMS["OpenUnmix"]}


def _save_openunmix(path: Path) -> None:
    import torch

    torch.save({name: network.state_dict() for name, network in _openunmix_networks().items()}, path)


def _openunmix(weights: Path, song: Path, output: Path) -> Work:
    import torch

    model: Any = importlib.import_module("openunmix.model")
    networks, state = _openunmix_networks(), torch.load(weights, weights_only=True)
    for name, network in networks.items():
        network.load_state_dict(state[name])
    del state
    separator = model.Separator(networks, niter=1, sample_rate=RATE, n_fft=4096, n_hop=1024, nb_channels=CHANNELS)
    separator.eval()

    def work() -> Callable[[], object]:
        with torch.no_grad():
            return partial(np.save, output, separator(_mixture(song))[0].numpy())

    return work


def _htdemucs() -> Any:
    import torch

    htdemucs: Any = importlib.import_module("demucs.htdemucs")
    torch.manual_seed(0)
    return htdemucs.HTDemucs(list(STEMS["HTDemucs"]), **HTDEMUCS)


def _save_htdemucs(path: Path) -> None:
    import torch

    torch.save(_htdemucs().state_dict(), path)


def _demucs(weights: Path, song: Path, output: Path) -> Work:
    import torch

    apply: Any = importlib.import_module("demucs.apply")
    network = _htdemucs()
    network.load_state_dict(torch.load(weights, weights_only=True))

    def work() -> Callable[[], object]:
        estimates = apply.apply_model(network.eval(), _mixture(song), shifts=0, split=True, overlap=0.25)
        return partial(np.save, output, estimates[0].numpy())

    return work


def _mixture(song: Path) -> Any:
    import torch

    audio, _ = soundfile.read(song, dtype="float32")
    return torch.from_numpy(np.ascontiguousarray(audio.T))[None]


COMPARISONS: Mapping[str, Comparison] = {
    "openunmix": Comparison("openunmix", "OpenUnmix", 600, 0.5, 0.2, _save_openunmix, _openunmix, (0.12, 0.42)),
    "demucs": Comparison("demucs", "HTDemucs", 180, 0.7, 0.5, _save_htdemucs, _demucs, (0.95, 1.3)),
}


def comparison_table(setup: Any, comparison: Comparison, seconds: int) -> None:
    """Print time and memory of ours and of a peer, run in turn, and how far their estimates are apart."""
    package = comparison.package
    song, weights = setup.song(seconds), setup.folder / f"{package}.pt"
    outputs = setup.folder / f"{package}-stems", setup.folder / f"{package}.npy"
    setup.once(_saving, comparison.save_weights, weights, libraries=partial(libraries, package, is_ours=False))
    mine = comparison.type, weights, song, outputs[0], setup.threads
    sides = {
        "ours": (partial(libraries, package, is_ours=True), ours, mine),
        package: (partial(libraries, package, is_ours=False), comparison.peer, (weights, song, outputs[1])),
    }
    runs: dict[str, list[Any]] = {side: [] for side in sides}
    print(f"\n{comparison.type}, {seconds} s of audio, {setup.threads} threads, same weights")
    print(f"{'':16}{'seconds':>10}{'CPU s':>10}{'MB':>10}")
    for _ in range(setup.repeats):
        for side, run in setup.all(sides).items():
            runs[side].append(run)
            print(f"  {side:14}{_figures(run.seconds, run.cpu_seconds, run.memory)}", flush=True)
    print("medians")
    medians = {side: _medians(found) for side, found in runs.items()}
    for side, found in medians.items():
        print(f"{side:16}{_figures(*found)}")
    time, cpu, memory = (mine / theirs for mine, theirs in zip(medians["ours"], medians[package], strict=True))
    limit = f"(limit {comparison.time_limit:g})"
    print(*(() if setup.in_turns else (f"{time:.2f} x the time {limit},",)), f"{cpu:.2f} x the CPU time {limit}")
    print(f"{memory:.2f} x the memory (limit {comparison.memory_limit:g})")
    difference = _difference(comparison.type, *outputs)
    print(f"largest difference of the estimates {difference:.1e} (limit {DIFFERENCE_LIMIT:g})", flush=True)


def estimate(comparison: Comparison, seconds: int, repeats: int, threads: int) -> float:
    """Return about how many seconds `comparison_table` takes."""
    return repeats * sum(comparison.costs) * seconds / threads


def _saving(save: Callable[[Path], None], path: Path) -> Callable[[], None]:
    return partial(save, path)


def _medians(runs: list[Any]) -> tuple[float, float, float]:
    seconds, cpu, memory = ([getattr(run, name) for run in runs] for name in ("seconds", "cpu_seconds", "memory"))
    return statistics.median(seconds), statistics.median(cpu), statistics.median(memory)


def _figures(seconds: float, cpu_seconds: float, memory: float) -> str:
    return f"{seconds:10.1f}{cpu_seconds:10.1f}{memory / 1e6:10.0f}"


def _difference(type_: str, stems: Path, peer: Path) -> float:
    """Return the largest difference of a sample between our stems and the peer's array."""
    expected = np.load(peer, mmap_mode="r")
    largest = 0.0
    for number, name in enumerate(STEMS[type_]):
        found, _ = soundfile.read(stems / f"{name}.wav", dtype="float32")
        assert found.shape == expected[number].T.shape
        largest = max(largest, float(np.abs(found - expected[number].T).max()))
    return largest
