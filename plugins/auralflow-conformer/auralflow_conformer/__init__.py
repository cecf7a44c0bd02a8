"""Conformer: attention and convolution over long contexts, that mask the magnitude spectrogram."""

from __future__ import annotations

from auralflow_conformer.params import ConformerParams
from auralflow_core import hookimpl
from auralflow_core.hookspecs import Register

__all__ = ["ConformerParams"]


@hookimpl
def register_models(register: Register) -> None:
    register(
        "Conformer",
        network="auralflow_conformer.network:Conformer",
        params=ConformerParams,
        domain="magnitude",
        summary="Conformer with rotary attention and self-conditioning that masks the magnitude spectrogram",
    )


@hookimpl
def register_config_formats(register: Register) -> None:
    register(
        "long-context-asr",
        detects="auralflow_conformer.config_format:detects",
        convert="auralflow_conformer.config_format:convert",
        summary="the YAML of long-context-asr, whose model is a Conformer",
    )
