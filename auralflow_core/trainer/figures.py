"""Pictures of separated audio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from auralflow_core.trainer.snippets import Snippet
    from auralflow_core.transforms import STFT

_FLOOR_DB = -80.0


def snippet_figure(snippet: Snippet, target: str, stft: STFT) -> Figure:
    """Draw mixture, target and estimate: spectrograms in dB relative to the mixture's peak, and waveforms."""
    # Imported late: it takes a second, which a training need not wait for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = {
        "mixture": snippet.mixture,
        f"{target}, target": snippet.targets[target],
        f"{target}, estimate": snippet.estimates[target],
    }
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(snippet.song)
    axes = figure.subplots(len(rows), 2, sharex=True, squeeze=False)
    reference = float(spectrogram_magnitude(snippet.mixture, stft).max())
    for (title, audio), (left, right) in zip(rows.items(), axes, strict=True):
        _draw_spectrogram(left, title, audio, snippet.sample_rate, stft, reference)
        _draw_waveform(right, title, audio, snippet.sample_rate)
    axes[-1][0].set_xlabel("time (s)")
    axes[-1][1].set_xlabel("time (s)")
    return figure


def spectrogram_magnitude(audio: Tensor, stft: STFT) -> Tensor:
    """Return the magnitudes `(bin, frame)` of `(channel, time)`, averaged over channels."""
    spectrogram: Tensor = stft(audio.to(stft.window.device))
    return spectrogram.abs().mean(0).cpu()


def _draw_spectrogram(axes: Any, title: str, audio: Tensor, rate: int, stft: STFT, reference: float) -> None:
    magnitude = spectrogram_magnitude(audio, stft) / max(reference, 1e-8)
    decibels = (20 * torch.log10(magnitude.clamp_min(1e-8))).clamp_min(_FLOOR_DB)
    extent = (0, audio.shape[-1] / rate, 0, rate / 2000)
    axes.imshow(decibels.numpy(), origin="lower", aspect="auto", extent=extent, vmin=_FLOOR_DB, vmax=0, cmap="magma")
    axes.set_title(title)
    axes.set_ylabel("frequency (kHz)")


def _draw_waveform(axes: Any, title: str, audio: Tensor, rate: int) -> None:
    time = torch.arange(audio.shape[-1]) / rate
    axes.plot(time.numpy(), audio.mean(0).numpy(), linewidth=0.3)
    axes.set_ylim(-1, 1)
    axes.set_title(title)
    axes.set_ylabel("amplitude")
