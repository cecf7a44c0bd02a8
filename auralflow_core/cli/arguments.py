"""Arguments of commands that take any setting as an option."""

from __future__ import annotations

import click

from auralflow_core.config import Setting

SETTINGS_CONTEXT = {"ignore_unknown_options": True}
"""Context settings of such a command: options that click does not know are left to `split_settings`."""


def split_settings(arguments: tuple[str, ...], most: int) -> tuple[list[str], list[Setting]]:
    """Divide what click left over into positional arguments and settings.

    `--name value`, `--name=value` and, for switches, a bare `--name` are settings; a list may be written as
    `--targets vocals,drums` or `--targets vocals drums`.

    Args:
        arguments: The words in their order.
        most: How many positional arguments the command takes; they stand before the settings.

    Raises:
        click.UsageError: There are more, or one is a short option.
    """
    positional: list[str] = []
    settings: list[tuple[str, list[str]]] = []
    for word in arguments:
        if word.startswith("--") and len(word) > 2:
            name, has_value, value = word[2:].partition("=")
            settings.append((name, [value] if has_value else []))
        elif not settings and word.startswith("-") and len(word) > 1:
            raise click.UsageError(f"No such option: {word}; settings are written --name VALUE.")
        elif settings:
            settings[-1][1].append(word)
        else:
            positional.append(word)
    if len(positional) > most:
        raise click.UsageError(f"got unexpected arguments: {' '.join(positional[most:])}")
    return positional, [Setting(name, ",".join(values) if values else None) for name, values in settings]
