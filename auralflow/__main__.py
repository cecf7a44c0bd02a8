"""`python -m auralflow`."""

from auralflow_core.cli import main

main(prog_name="auralflow")
