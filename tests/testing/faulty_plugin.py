"""The hooks of a plugin that registers every network of `faulty_networks`, and params with faults."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from auralflow_core import ModelParams, hookimpl
from auralflow_core.hookspecs import Register

# By reading, not importing: registration must not import torch.
NETWORKS = [
    node.name
    for node in ast.parse(Path(__file__).with_name("faulty_networks.py").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ClassDef)
]


class GoodParams(ModelParams):
    width: int = Field(8, ge=1, description="number of hidden features")


class TupleParams(GoodParams):
    width: Any = Field((8,), description="comes back from JSON as a list")

    def network_arguments(self) -> dict[str, Any]:
        return {"width": self.width[0]}


class InfiniteParams(GoodParams):
    limit: float = Field(float("inf"), description="JSON has no word for it")

    def network_arguments(self) -> dict[str, Any]:
        return {"width": self.width}


class ObjectParams(GoodParams):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    layer: object = Field(object(), description="no JSON at all")

    def network_arguments(self) -> dict[str, Any]:
        return {"width": self.width}


class LaxParams(GoodParams):
    model_config = ConfigDict(extra="ignore")


class BareParams(ModelParams):
    width: int = 8


class RequiredParams(ModelParams):
    width: int = Field(description="has no default")


class WrongDefaultParams(GoodParams):
    depth: int = Field(3, description="the network takes no such argument")


class DriftingParams(GoodParams):
    def network_arguments(self) -> dict[str, Any]:
        return {"width": object()}


def _local_params() -> type[ModelParams]:
    class LocalParams(GoodParams):
        """Pickle finds no class inside a function."""

    return LocalParams


SCHEMAS = {
    schema.__name__: schema
    for schema in (
        TupleParams,
        InfiniteParams,
        ObjectParams,
        LaxParams,
        BareParams,
        RequiredParams,
        WrongDefaultParams,
        DriftingParams,
        _local_params(),
    )
}


@hookimpl
def register_models(register: Register) -> None:
    facts: dict[str, Any] = {"domain": "magnitude", "summary": "a network with a fault"}
    for name in NETWORKS:
        domain = next((domain for domain in ("waveform", "complex") if name.lower().startswith(domain)), "magnitude")
        register(name, network=f"faulty_networks:{name}", params=GoodParams, **{**facts, "domain": domain})
    for name, schema in SCHEMAS.items():
        register(name, network="faulty_networks:Good", params=schema, **facts)
    register("NoSummary", network="faulty_networks:Good", params=GoodParams, domain="magnitude", summary=" ")
    register("NoSchema", network="faulty_networks:Good", params="faulty_networks:Good", **facts)
    register("ClaimsAlias", network="faulty_networks:Good", params=GoodParams, aliases=["Good"], **facts)
