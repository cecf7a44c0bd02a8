"""Older and shorter names of settings, taken to where the settings are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def canonical(data: Any, synonyms: Mapping[str, str]) -> Any:
    """Return a mapping with `_` for `-` and known names for older ones; anything else as it is.

    Raises:
        ValueError: A setting is given under two names.
    """
    if not isinstance(data, Mapping):
        return data
    result: dict[str, Any] = {}
    written: dict[str, Any] = {}
    for key, value in data.items():
        name = str(key).replace("-", "_")
        name = synonyms.get(name, name)
        if name in result:
            raise ValueError(f"{written[name]} and {key} are one setting; leave one of them out")
        result[name], written[name] = value, key
    return result


def spread(data: Any, synonyms: Mapping[str, str]) -> Any:
    """Do the same, where a name may stand for settings of the groups encoder, decoder and bottleneck.

    Args:
        data: The settings.
        synonyms: By older or short name, the paths, separated by spaces: `"encoder.down"`, `"hidden_channels"`.

    Raises:
        ValueError: A setting is given twice, or does not fit a part that is given as nested lists.
    """
    plain = canonical(data, {name: path for name, path in synonyms.items() if "." not in path})
    if not isinstance(plain, dict):
        return data
    if isinstance(plain.get("bottleneck"), str):
        plain["bottleneck"] = {"type": plain["bottleneck"]}
    _lift_skip(plain)
    for name, paths in synonyms.items():
        if "." in paths and name in plain:
            value = plain.pop(name)
            for path in paths.split():
                part, inner = path.split(".")
                plain[part] = _put(plain.get(part), name, inner, value, part)
    return plain


def _lift_skip(data: dict[str, Any]) -> None:
    """Take skip connections out of the decoder's settings: they are the encoder's as well."""
    decoder = canonical(data.get("decoder"), {})
    if not isinstance(decoder, dict) or "skip_connections" not in decoder:
        return
    if "use_skip" in data:
        raise ValueError("use_skip and decoder.skip_connections are one setting; leave one of them out")
    data["use_skip"] = decoder.pop("skip_connections")
    data["decoder"] = decoder


def _put(part: Any, name: str, inner: str, value: Any, section: str) -> Any:
    """Return a part with one more setting."""
    if isinstance(part, list):
        return _put_in_lists(part, name, inner, value, section)
    settings = canonical(part.model_dump() if hasattr(part, "model_dump") else part or {}, {})
    if not isinstance(settings, dict):
        return part
    if inner in settings:
        raise ValueError(f"{name} and {section}.{inner} are one setting; leave one of them out")
    return {**settings, inner: value}


def _put_in_lists(part: list[Any], name: str, inner: str, value: Any, section: str) -> list[Any]:
    if inner not in ("layers", "num_dropouts"):
        raise ValueError(f"{name}: {section} is given as nested lists; write it in their entries")
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 16:
        raise ValueError(f"{name} {value!r} must be a whole number from 0 to 16")
    if inner == "layers":
        return value * part
    return [_limit_dropout(entry, value) for entry in part]


def _limit_dropout(entry: Any, levels: int) -> Any:
    """Return a dropout entry that only the deepest levels have; others as they are."""
    word, *values = [entry] if isinstance(entry, str) else entry if isinstance(entry, (list, tuple)) else [None]
    if word != "dropout" or len(values) > 1:
        return entry
    options = {} if not values else dict(values[0]) if isinstance(values[0], Mapping) else {"p": values[0]}
    return [word, {"levels": levels, **options}]
