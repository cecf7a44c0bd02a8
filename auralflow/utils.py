"""Helpers for scripts and notebooks."""

from auralflow_core.config import load_config, save_config

__all__ = ["load_config", "save_config"]
