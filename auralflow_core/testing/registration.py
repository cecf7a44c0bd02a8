"""Checks of what a plugin registers: type, summary and params schema."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic_core import PydanticUndefined

from auralflow_core.build import build_network, default_config, resolve
from auralflow_core.config import ModelParams, load_config, save_config, validate
from auralflow_core.errors import ConfigError
from auralflow_core.testing.subject import Subject
from auralflow_core.testing.verdict import check, explained, listed

_STRANGE_KEY = "no_such_parameter"

# A new process has not read the test runner's settings: it is told where this one finds modules.
_FRESH_PROCESS = """
import runpy, sys
sys.path[:] = sys.argv.pop(1).splitlines()
runpy.run_module("auralflow_core.testing.plugin", run_name="__main__")
"""


class RegistrationChecks(Subject):
    """The plugin is found, cheap to load, and its params are a documented, strict schema."""

    def test_plugin_registers_the_model_type(self) -> None:
        """The hook registers the type, and every alias leads to it."""
        entry = self.entry()
        models = self.registry().models
        wrong = [alias for alias in entry.aliases if models.get(alias) is not entry]
        check(not wrong, f"aliases {listed(wrong)} name another type too", "choose other aliases")

    def test_summary_is_one_line(self) -> None:
        """The summary that `auralflow list-models` shows is one line of text."""
        summary = self.entry().summary
        check(
            bool(summary.strip()) and len(summary.splitlines()) == 1,
            f"summary {summary!r} is empty or has several lines",
            "say in one line what the architecture is",
        )

    def test_registration_does_not_import_torch(self) -> None:
        """Registering and loading the params schema leave torch alone, so that every command starts fast."""
        self.entry()
        command = [sys.executable, "-c", _FRESH_PROCESS, "\n".join(sys.path), self.plugin, self.model_type]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        problem = (child.stdout if child.returncode == 0 else child.stderr.strip().rpartition("\n")[-1]).strip()
        check(
            child.returncode == 0,
            f"the plugin does not register in a fresh process: {problem}",
            "see to it that its module needs nothing that only the tests set up",
        )
        check(
            not problem,
            f"torch is imported while the plugin registers, by {problem}",
            'move the network to a module of its own and register it by name: network="package.network:Name"',
        )

    def test_every_param_has_default_and_description(self) -> None:
        """Each field of the params schema has a default and a description."""
        fields = self._schema().model_fields
        bare = [
            name
            for name, field in fields.items()
            if (field.default is PydanticUndefined and field.default_factory is None) or not field.description
        ]
        check(
            not bare,
            f"params {listed(bare)} have no default or no description",
            'write `name: type = Field(default, description="...")`: config and show-model show them',
        )

    def test_unknown_params_are_refused(self) -> None:
        """A misspelt parameter is an error, not ignored."""
        params = {**self.params, _STRANGE_KEY: 1}
        refused = False
        try:
            validate(self._schema(), params, prefix="model.params")
        except ConfigError as error:
            refused = _STRANGE_KEY in str(error)
        check(
            refused,
            f"params accept the unknown key {_STRANGE_KEY!r}",
            'leave `extra="forbid"` of auralflow_core.ModelParams as it is',
        )

    def test_params_survive_json(self) -> None:
        """Params that are written to `config.json` and read back are the same, and so are the network's arguments."""
        schema = self._schema()
        remedy = "use fields of plain types (bool, int, float, str, list, dict, None), finite, and lists, not tuples"
        for given in ({}, dict(self.params)):
            with explained("params cannot be written as JSON and read back", remedy):
                params = schema.model_validate(given)
                text = json.dumps(params.model_dump(mode="json"), allow_nan=False)
                again = schema.model_validate(json.loads(text))
            changed = [name for name in schema.model_fields if getattr(params, name) != getattr(again, name)]
            check(not changed, f"params {listed(changed)} change on their way through JSON", remedy)
            check(
                params.network_arguments() == again.network_arguments(),
                "network_arguments() differ after params went through JSON",
                "compute them from the fields alone",
            )

    def test_configuration_file_round_trip(self) -> None:
        """A resolved configuration that is saved as JSON or YAML loads as the same one."""
        self.entry()
        for name in ("config.json", "config.yaml"):
            with (
                tempfile.TemporaryDirectory() as folder,
                explained(f"{name} cannot be saved and loaded", "use params of plain types"),
            ):
                config = resolve(self.settings(), self.registry())
                save_config(config, Path(folder) / name)
                again = resolve(load_config(Path(folder)), self.registry())
            check(
                again.model_dump() == config.model_dump(),
                f"{name} loads as another configuration",
                "use params of plain types",
            )

    def test_params_survive_pickle(self) -> None:
        """Params can be sent to another process."""
        params = self._schema().model_validate(dict(self.params))
        with explained("params cannot be pickled", "define the params class at the top of an importable module"):
            again = pickle.loads(pickle.dumps(params))
        check(again == params, "params change on their way through pickle", "use fields of plain types")

    def test_network_builds_with_default_params(self) -> None:
        """`auralflow config NAME TYPE` gives a configuration that resolves and from which the network can be built."""
        self.entry()
        with explained(
            "the network cannot be built with the default params", "choose defaults that fit the default configuration"
        ):
            config = default_config(self.model_type, "conformance", self.registry())
            json.dumps(config.model_dump(mode="json"), allow_nan=False)
            build_network(config, self.registry())

    def _schema(self) -> type[ModelParams]:
        entry = self.entry()
        with explained("the params schema cannot be loaded", "register a subclass of auralflow_core.ModelParams"):
            return entry.load_params()
