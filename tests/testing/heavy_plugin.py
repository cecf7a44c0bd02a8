"""A plugin whose hooks stand beside its network: registering it imports torch."""

from __future__ import annotations

from faulty_networks import Good
from faulty_plugin import GoodParams

from auralflow_core import hookimpl
from auralflow_core.hookspecs import Register


@hookimpl
def register_models(register: Register) -> None:
    register("Heavy", network=Good, params=GoodParams, domain="magnitude", summary="imports torch when registered")
