"""The developer's commands: `nox -l` lists them."""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "docs", "tests"]
nox.options.reuse_existing_virtualenvs = True
nox.needs_version = ">=2024.3"

# In development and CI one build of torch; the packages themselves declare a range.
TORCH = os.environ.get("AURALFLOW_TORCH", "torch==2.13.0")
PLUGINS = sorted(path.parent for path in Path("plugins").glob("*/pyproject.toml"))
TEST_TOOLS = ("pytest>=8", "pytest-xdist", "hypothesis", "mido", "hatchling", "av", "madgrad", "python-stretch")
# What the plugins are compared with; Open-Unmix imports torchaudio, and of this one torch 2.13 runs the Python parts.
# norbert is what Spleeter filters with; its networks are compared with stored outputs of TensorFlow.
PEERS = ("openunmix==1.3.0", "demucs==4.1.0", "norbert==0.2.1", "torchaudio==2.11.0")
LINT_TOOLS = ("ruff==0.17.5",)
TYPE_TOOLS = ("mypy==2.4.1", "types-PyYAML", "pytest>=8", "hypothesis", "nox")


def install_project(session: nox.Session, *tools: str) -> None:
    """Install torch first (its CPU build, where the index has one), then the core and every plugin."""
    session.install(TORCH)
    session.install(*tools, "-e", ".", *(word for plugin in PLUGINS for word in ("-e", str(plugin))))


@nox.session
def demo(session: nox.Session) -> None:
    """Run the main job in a clean environment: synthesise, train, evaluate, separate."""
    session.install(TORCH)
    session.install(".", "./plugins/auralflow-simplenet")
    session.run("auralflow", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests, in two processes."""
    install_project(session, *TEST_TOOLS)
    # Two processes share two cores: one thread each, and none that waits by spinning.
    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    session.run("pytest", "-n", "2", "--dist", "worksteal", *session.posargs, env=environment)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install(*LINT_TOOLS)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    install_project(session, *TYPE_TOOLS)
    session.run("mypy", "auralflow_core", "auralflow")
    for plugin in PLUGINS:
        session.run("mypy", str(plugin / plugin.name.replace("-", "_")))


@nox.session
def docs(session: nox.Session) -> None:
    """Check that the generated pages are up to date; `nox -s docs -- --write` writes them."""
    install_project(session)
    session.run("python", "docs/generate.py", *session.posargs)


@nox.session(reuse_venv=False)
def packaging(session: nox.Session) -> None:
    """Build all wheels and install them one after the other into a fresh environment."""
    session.install(TORCH)
    session.run("python", "tests/packaging/prove.py", ".")


@nox.session
def parity(session: nox.Session) -> None:
    """Compare networks, whole songs and training steps with the packages that published them."""
    modules = sorted(Path("plugins").glob("*/tests/test_parity.py"))
    session.install(TORCH)
    session.install(
        "pytest>=8", *PEERS, "-e", ".", *(word for path in modules for word in ("-e", str(path.parents[1])))
    )
    session.run("pytest", *(str(path) for path in modules), *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def bench(session: nox.Session) -> None:
    """Run a benchmark beside the peers: `nox -s bench -- evaluate`."""
    install_project(session, *PEERS)
    names = session.posargs[:1] or ["evaluate"]
    session.run("python", f"benchmarks/{names[0]}.py", *session.posargs[1:])
