"""Demucs, HDemucs and HTDemucs (Demucs v2, v3 and v4), and bags of them, with the public checkpoints' layouts."""

from __future__ import annotations

from auralflow_core import hookimpl
from auralflow_core.hookspecs import Register
from auralflow_demucs.params import DemucsBagParams, DemucsParams, HDemucsParams, HTDemucsParams

__all__ = ["DemucsBagParams", "DemucsParams", "HDemucsParams", "HTDemucsParams"]


@hookimpl
def register_models(register: Register) -> None:
    register(
        "Demucs",
        network="auralflow_demucs.demucs:Demucs",
        params=DemucsParams,
        domain="waveform",
        summary="Demucs v2: U-Net over the waveform",
    )
    register(
        "HDemucs",
        network="auralflow_demucs.hdemucs:HDemucs",
        params=HDemucsParams,
        domain="waveform",
        summary="Hybrid Demucs, v3: U-Nets over spectrogram and waveform with one bottom",
    )
    register(
        "HTDemucs",
        network="auralflow_demucs.htdemucs:HTDemucs",
        params=HTDemucsParams,
        domain="waveform",
        summary="Hybrid Transformer Demucs, v4: HDemucs with a transformer across the branches",
    )
    register(
        "DemucsBag",
        network="auralflow_demucs.bag:DemucsBag",
        params=DemucsBagParams,
        domain="waveform",
        summary="Weighted mean of several Demucs, HDemucs and HTDemucs",
    )


@hookimpl
def register_weights(register: Register) -> None:
    from auralflow_demucs.weights import register_published

    register_published(register)
