"""YAML as version 1.2 reads it: `1e-4` is a number, `on` and `yes` are words (PyYAML follows 1.1)."""

from __future__ import annotations

import re
from typing import Any

import yaml

_FLOAT = re.compile(
    r"^(?![-+]?[0-9]+$)"  # whole numbers are left to the resolver of integers
    r"(?:[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")


def _resolvers() -> dict[Any, Any]:
    """PyYAML's resolvers, with floats and booleans of YAML 1.2 in place of its own."""
    resolvers = {
        first: [(tag, pattern) for tag, pattern in found if not tag.endswith((":float", ":bool"))]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for tag, pattern, beginnings in (("float", _FLOAT, "-+0123456789."), ("bool", _BOOL, "tTfF")):
        for first in beginnings:
            resolvers.setdefault(first, []).append((f"tag:yaml.org,2002:{tag}", pattern))
    return resolvers


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers()


class _Dumper(yaml.SafeDumper):
    # The same as the loader's, so that text that looks like a number to it is put into quotes.
    yaml_implicit_resolvers = _resolvers()


def parse_yaml(text: str) -> Any:
    """Read a YAML document.

    Raises:
        yaml.YAMLError: The text is no YAML; it carries line and column where they are known.
    """
    return yaml.load(text, Loader=_Loader)


def dump_yaml(data: Any) -> str:
    """Write a YAML document, keys in the order given."""
    text = str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
    # PyYAML writes some rare characters (U+0085, for one) in a way that it reads as others; escapes are always exact.
    return text if parse_yaml(text) == data else str(yaml.dump(data, Dumper=_Dumper, sort_keys=False))
