"""Which distribution brings which of the project's own names: for messages about a missing one."""

from __future__ import annotations

from collections.abc import Mapping

PACKAGES: Mapping[str, str] = {
    "AdaptiveUNet": "auralflow-adaptive-unet",
    "Conformer": "auralflow-conformer",
    "Demucs": "auralflow-demucs",
    "DemucsBag": "auralflow-demucs",
    "HDemucs": "auralflow-demucs",
    "HTDemucs": "auralflow-demucs",
    "OpenUnmix": "auralflow-openunmix",
    "SpectrogramNetLSTM": "auralflow-lstm",
    "SpectrogramNetSimple": "auralflow-simplenet",
    "SpectrogramNetVAE": "auralflow-vae",
    "SpleeterBLSTM": "auralflow-spleeter",
    "SpleeterSoftmaxUNet": "auralflow-spleeter",
    "SpleeterUNet": "auralflow-spleeter",
    "UNet": "auralflow-adaptive-unet",
    "UNetAudio": "auralflow-audio-unet",
    "UNetRecurrentAudio": "auralflow-audio-unet",
    "UNetRecurrentSpec": "auralflow-lstm",
    "UNetSpec": "auralflow-simplenet",
    "UNetVAEAudio": "auralflow-audio-unet",
    "UNetVAESpec": "auralflow-vae",
    "blstm.blstm": "auralflow-spleeter",
    "unet.softmax_unet": "auralflow-spleeter",
    "unet.unet": "auralflow-spleeter",
}

WEIGHTS_PACKAGES: Mapping[str, str] = {
    **dict.fromkeys(("umx", "umxhq", "umxl", "umxse"), "auralflow-openunmix"),
    **dict.fromkeys(
        ("htdemucs", "htdemucs_ft", "htdemucs_6s", "hdemucs_mmi", "mdx", "mdx_extra"),
        "auralflow-demucs",
    ),
    **dict.fromkeys(("spleeter:2stems", "spleeter:4stems", "spleeter:5stems"), "auralflow-spleeter"),
}

LOGGER_PACKAGES: Mapping[str, str] = {"wandb": "auralflow-wandb"}
