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


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 - the name and the form are PyYAML's
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":float", ":bool"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOL, list("tTfF"))


def parse_yaml(text: str) -> Any:
    """Read a YAML document.

    Raises:
        yaml.YAMLError: The text is no YAML; it carries line and column where they are known.
    """
    return yaml.load(text, Loader=_Loader)


def dump_yaml(data: Any) -> str:
    """Write a YAML document, keys in the order given."""
    text = str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    # PyYAML writes some rare characters (U+0085, for one) in a way that it reads as others; escapes are always exact.
    return text if parse_yaml(text) == data else str(yaml.safe_dump(data, sort_keys=False))
