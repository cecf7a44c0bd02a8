"""Which architectures, losses, optimizers, schedules and the like are installed. Names and strings only: no torch.

A plugin is an entry point of the group `auralflow`. Each is loaded by itself: what goes wrong in one is recorded
as its failure, and nothing that it registered before remains.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Generic, TypeVar

import importlib_metadata
import pluggy
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from auralflow_core import hookspecs
from auralflow_core.entries import (
    KINDS,
    SINGULAR,
    ConfigFormatEntry,
    DatasetEntry,
    Entry,
    LoggerEntry,
    LossEntry,
    ModelEntry,
    OptimizerEntry,
    SchedulerEntry,
    WeightsEntry,
    reason_of,
)
from auralflow_core.errors import RegistryError, did_you_mean
from auralflow_core.hookspecs import Register
from auralflow_core.known_types import LOGGER_PACKAGES, PACKAGES, WEIGHTS_PACKAGES

GROUP = "auralflow"
PREFIX = "auralflow-"


@dataclass(frozen=True)
class Plugin:
    """A distribution that was loaded whole."""

    name: str
    version: str
    module: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class PluginFailure:
    """A distribution that could not be loaded, and why."""

    name: str
    version: str
    reason: str


@dataclass(frozen=True)
class PluginSource:
    """A plugin before it is loaded."""

    name: str
    load: Callable[[], object]
    version: str = ""
    requires: tuple[str, ...] = ()
    entry_point: str = ""

    @property
    def short_name(self) -> str:
        """The distribution's name without the prefix that all share."""
        return self.name.removeprefix(PREFIX)

    @property
    def spellings(self) -> set[str]:
        """The names that select this plugin."""
        distribution = self.name.partition(":")[0]
        return {
            canonicalize_name(name)
            for name in (distribution, distribution.removeprefix(PREFIX), self.name, self.entry_point)
        }


class Registry:
    """The registered names of a set of plugins.

    Args:
        sources: The plugins to load, in order. A plugin that fails leaves nothing but its failure.
    """

    def __init__(self, sources: Iterable[PluginSource] = ()) -> None:
        self.plugins: list[Plugin] = []
        self.failures: list[PluginFailure] = []
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.models = Names[ModelEntry]("models", self)
        self.losses = Names[LossEntry]("losses", self)
        self.optimizers = Names[OptimizerEntry]("optimizers", self)
        self.schedulers = Names[SchedulerEntry]("schedulers", self)
        self.datasets = Names[DatasetEntry]("datasets", self)
        self.loggers = Names[LoggerEntry]("loggers", self)
        self.weights = Names[WeightsEntry]("weights", self)
        self.config_formats = Names[ConfigFormatEntry]("config_formats", self)
        for source in sources:
            self._add(source)

    @classmethod
    def discover(cls, only: Iterable[str] | None = None) -> Registry:
        """Load the core's own names and the installed plugins.

        Args:
            only: Names of the plugins to load (`auralflow-vae` or `vae`); none given: the list in the environment
                variable `AURALFLOW_PLUGINS`, and without that variable all.
        """
        if only is None and "AURALFLOW_PLUGINS" in os.environ:
            only = [name for name in os.environ["AURALFLOW_PLUGINS"].replace(" ", "").split(",") if name]
        return cls([_core_source(), *_select(installed_sources(), only)])

    def _add(self, source: PluginSource) -> None:
        try:
            _check_core_range(source)
            plugin = source.load()
            entries = self._collect(source, plugin)
        # SystemExit: a plugin's import that calls sys.exit() shall not end the program that lists plugins.
        except (Exception, SystemExit) as error:
            self._manager.unregister(name=source.name)
            self.failures.append(PluginFailure(source.name, source.version, reason_of(error)))
            return
        for kind, found in entries.items():
            names: Names[Any] = getattr(self, kind)
            names.add(found)
        module = getattr(plugin, "__name__", type(plugin).__name__)
        counts = {kind: len(found) for kind, found in entries.items()}
        self.plugins.append(Plugin(source.name, source.version, module, counts))

    def _collect(self, source: PluginSource, plugin: object) -> dict[str, list[Entry]]:
        """Call the plugin's hooks alone and return what they registered."""
        self._manager.register(plugin, name=source.name)
        self._manager.check_pending()
        others = [other for other in self._manager.get_plugins() if other is not plugin]
        entries: dict[str, list[Entry]] = {}
        for kind, make in KINDS.items():
            found = entries[kind] = []
            caller = self._manager.subset_hook_caller(f"register_{kind}", others)
            caller(register=_registrar(make, source, found))
        return entries


AnyEntry = TypeVar("AnyEntry", bound=Entry)


class Names(Generic[AnyEntry]):
    """The entries of one kind, found by name, alias, or `name@plugin`."""

    def __init__(self, kind: str, registry: Registry) -> None:
        self._kind = kind
        self._registry = registry
        self._entries: dict[str, list[AnyEntry]] = {}
        self._aliases: dict[str, list[AnyEntry]] = {}

    def add(self, entries: Iterable[AnyEntry]) -> None:
        """Add one plugin's entries."""
        for entry in entries:
            self._entries.setdefault(entry.name, []).append(entry)
            for alias in getattr(entry, "aliases", ()):
                self._aliases.setdefault(alias, []).append(entry)

    def __iter__(self) -> Any:
        """Iterate over all entries, sorted by name and plugin."""
        found = [entry for entries in self._entries.values() for entry in entries]
        return iter(sorted(found, key=lambda entry: (entry.name, entry.plugin)))

    def is_ambiguous(self, entry: AnyEntry) -> bool:
        """Whether several plugins claim this entry's name."""
        return len(self._entries[entry.name]) > 1

    def get(self, name: str) -> AnyEntry:
        """Return the entry of that name.

        Raises:
            RegistryError: Nothing has that name (the message lists near names, what is installed and which plugins
                failed), or several plugins claim it.
        """
        wanted, _, plugin = name.partition("@")
        found = self._entries.get(wanted) or self._aliases.get(wanted, [])
        if plugin:
            claims = [*self._entries.get(wanted, []), *self._aliases.get(wanted, [])]
            spelled = canonicalize_name(plugin)
            found = [entry for entry in claims if spelled in (entry.plugin, entry.plugin.removeprefix(PREFIX))]
        if not found:
            raise RegistryError(self._unknown(name))
        if len(found) > 1:
            choices = " or ".join(f"{wanted}@{entry.plugin}" for entry in found)
            raise RegistryError(f"{SINGULAR[self._kind]} {wanted!r} is claimed by several plugins; write {choices}")
        return found[0]

    def _unknown(self, name: str) -> str:
        known = sorted({*self._entries, *self._aliases})
        message = f"{SINGULAR[self._kind]} {name!r} is not installed{did_you_mean(name, known)}"
        by_kind = {"models": PACKAGES, "weights": WEIGHTS_PACKAGES, "loggers": LOGGER_PACKAGES}
        packages = by_kind.get(self._kind, {})
        if package := packages.get(name.partition("@")[0]):
            message += f"; `pip install {package}` adds it"
        message += f" (installed: {', '.join(known) or 'none'}"
        if self._registry.failures:
            failed = "; ".join(f"{failure.name}: {failure.reason}" for failure in self._registry.failures)
            message += f"; plugins that failed to load: {failed}"
        return message + ")"


def installed_sources() -> list[PluginSource]:
    """Return the plugins that installed distributions announce, sorted by name."""
    points: dict[str, list[Any]] = {}
    for point in importlib_metadata.entry_points(group=GROUP):
        points.setdefault(_distribution_name(point), []).append(point)
    sources = []
    for distribution, found in sorted(points.items()):
        for point in found:
            name = distribution if len(found) == 1 else f"{distribution}:{point.name}"
            version = point.dist.version if point.dist else ""
            requires = tuple(point.dist.requires or ()) if point.dist else ()
            sources.append(PluginSource(name, point.load, version, requires, point.name))
    return sources


@cache
def default_registry() -> Registry:
    """Return the registry of the installed plugins, discovered once."""
    return Registry.discover()


def core_version() -> str:
    """Return the version of the installed core."""
    try:
        return str(importlib_metadata.version("auralflow"))
    except importlib_metadata.PackageNotFoundError:
        return "0"


def _core_source() -> PluginSource:
    return PluginSource(
        "auralflow",
        lambda: importlib.import_module("auralflow_core.builtin"),
        core_version(),
        (),
        "auralflow",
    )


def _select(sources: list[PluginSource], only: Iterable[str] | None) -> list[PluginSource]:
    """Return the sources that are named; a name that nothing has becomes a source that fails."""
    if only is None:
        return sources
    wanted = {canonicalize_name(name): name for name in only}
    chosen = [source for source in sources if source.spellings & set(wanted)]
    known = {name for source in chosen for name in source.spellings}
    return chosen + [_missing_source(name, sources) for spelled, name in wanted.items() if spelled not in known]


def _missing_source(name: str, sources: list[PluginSource]) -> PluginSource:
    def fail() -> object:
        near = did_you_mean(name, [source.short_name for source in sources])
        raise RegistryError(f"no plugin of this name is installed{near}; check AURALFLOW_PLUGINS")

    return PluginSource(name, fail)


def _distribution_name(point: Any) -> str:
    return str(canonicalize_name(point.dist.name)) if point.dist else str(point.name)


def _registrar(make: type[Entry], source: PluginSource, found: list[Entry]) -> Register:
    """Return the `register` that a hook is called with."""
    known = [item.name for item in fields(make) if item.name not in ("name", "plugin", "version")]

    def register(name: str, /, **facts: Any) -> None:
        for fact in facts:
            if fact not in known:
                raise TypeError(f"register({name!r}): unknown argument {fact}{did_you_mean(fact, known)}")
        for plural in ("aliases", "settings"):
            if isinstance(facts.get(plural), str):
                raise TypeError(f"register({name!r}): {plural} is a text; write [{facts[plural]!r}]")
            if plural in facts:
                facts[plural] = tuple(facts[plural])
        entry = make(name, **facts, plugin=source.name, version=source.version)
        if any(other.name == name for other in found):
            raise ValueError(f"register({name!r}): registered twice")
        found.append(entry)

    return register


def _check_core_range(source: PluginSource) -> None:
    for text in source.requires:
        requirement = Requirement(text)
        if requirement.name.lower() != "auralflow" or requirement.marker:
            continue
        if not requirement.specifier.contains(core_version(), prereleases=True):
            raise RegistryError(
                f"needs auralflow{requirement.specifier}, but {core_version()} is installed; "
                f"`pip install --upgrade {source.name}` or install a matching auralflow"
            )
