"""`auralflow list-plugins`."""

from __future__ import annotations

import click


@click.command("list-plugins")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_plugins(as_json: bool) -> None:
    """List the installed plugins, what each registers, and those that failed to load."""
    from auralflow_core.cli.output import print_json, print_table
    from auralflow_core.entries import KINDS
    from auralflow_core.registry import default_registry

    registry = default_registry()
    if as_json:
        plugins = [
            {"name": plugin.name, "version": plugin.version, "module": plugin.module, **plugin.counts}
            for plugin in registry.plugins
        ]
        print_json({"plugins": plugins, "failed": [vars(failure) for failure in registry.failures]})
        return
    print_table(
        "",
        ("plugin", "version", "module", *KINDS),
        [
            (plugin.name, plugin.version, plugin.module, *(plugin.counts[kind] for kind in KINDS))
            for plugin in registry.plugins
        ],
    )
    if registry.failures:
        print_table(
            "Plugins that failed to load",
            ("plugin", "version", "reason"),
            [(failure.name, failure.version, failure.reason) for failure in registry.failures],
        )
