"""Which distribution brings which of the project's own model types: for messages about one that is missing."""

from __future__ import annotations

from collections.abc import Mapping

PACKAGES: Mapping[str, str] = {
    "AdaptiveUNet": "auralflow-adaptive-unet",
    "SpectrogramNetLSTM": "auralflow-lstm",
    "SpectrogramNetSimple": "auralflow-simplenet",
    "SpectrogramNetVAE": "auralflow-vae",
    "UNet": "auralflow-adaptive-unet",
    "UNetAudio": "auralflow-audio-unet",
    "UNetRecurrentAudio": "auralflow-audio-unet",
    "UNetRecurrentSpec": "auralflow-lstm",
    "UNetSpec": "auralflow-simplenet",
    "UNetVAEAudio": "auralflow-audio-unet",
    "UNetVAESpec": "auralflow-vae",
}
