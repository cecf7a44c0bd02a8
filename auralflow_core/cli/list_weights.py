"""`auralflow list-weights`."""

from __future__ import annotations

import click


@click.command("list-weights")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_weights(as_json: bool) -> None:
    """List the public weights that the installed plugins know, and which of them are downloaded."""
    from auralflow_core.cli.output import print_json, print_table
    from auralflow_core.cli.weights import megabytes
    from auralflow_core.registry import default_registry
    from auralflow_core.weights import WeightsStore

    weights, store = default_registry().weights, WeightsStore()
    rows = [(f"{entry.name}@{entry.plugin}" if weights.is_ambiguous(entry) else entry.name, entry) for entry in weights]
    if as_json:
        facts = [
            {
                "name": name,
                "type": entry.type,
                "plugin": entry.plugin,
                "version": entry.version,
                "licence": entry.licence,
                "summary": entry.summary,
                "files": dict(entry.files),
                "sha256": store.digests(entry),
                "downloaded": not store.missing(entry),
                "bytes": store.size(entry),
            }
            for name, entry in rows
        ]
        print_json({"weights": facts, "folder": str(store.folder)})
        return
    if not rows:
        click.echo("No plugin with public weights is installed. `pip install auralflow-openunmix` adds some.")
        return
    table = []
    for name, entry in rows:
        size = store.size(entry)
        state = "no" if size is None else megabytes(size)
        # In one column: only the last one is broken into lines.
        summary = f"{entry.summary}. Licence: {entry.licence}"
        table.append((name, entry.type, entry.plugin, len(entry.files), state, summary))
    print_table("", ("name", "type", "plugin", "files", "downloaded", "summary"), table)
    click.echo(f"Downloads lie in {store.folder}")
