"""`auralflow list-models`."""

from __future__ import annotations

import os

import click


@click.command("list-models")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_models(as_json: bool) -> None:
    """List the installed architectures, and the plugins that failed to load."""
    from auralflow_core.cli.output import print_json, print_table
    from auralflow_core.registry import default_registry

    registry = default_registry()
    rows = []
    for entry in registry.models:
        name = f"{entry.name}@{entry.plugin}" if registry.models.is_ambiguous(entry) else entry.name
        rows.append((name, entry))
    if as_json:
        models = [
            {
                "type": name,
                "plugin": entry.plugin,
                "version": entry.version,
                "domain": entry.domain,
                "summary": entry.summary,
                "aliases": list(entry.aliases),
            }
            for name, entry in rows
        ]
        print_json({"models": models, "failed": [vars(failure) for failure in registry.failures]})
        return
    if rows:
        print_table(
            "",
            ("type", "plugin", "version", "domain", "summary"),
            [
                (name, entry.plugin, entry.version, entry.domain, _summary(entry.summary, entry.aliases))
                for name, entry in rows
            ],
        )
    else:
        click.echo(_why_none())
    if registry.failures:
        print_table(
            "Plugins that failed to load",
            ("plugin", "version", "reason"),
            [(failure.name, failure.version, failure.reason) for failure in registry.failures],
        )


def _why_none() -> str:
    if "AURALFLOW_PLUGINS" in os.environ:
        return "AURALFLOW_PLUGINS switches all architectures off; unset it, or name plugins in it."
    return "No architecture is installed. `pip install auralflow-simplenet` adds one."


def _summary(summary: str, aliases: tuple[str, ...]) -> str:
    return f"{summary} (alias: {', '.join(aliases)})" if aliases else summary
