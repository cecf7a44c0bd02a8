"""`auralflow new-plugin`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from auralflow_core.cli import main
from auralflow_core.errors import ConfigError
from auralflow_core.scaffold import PluginNames


@pytest.mark.slow
def test_a_new_plugin_passes_its_own_tests_at_once(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["new-plugin", "band-split", "--save", str(tmp_path)])
    assert result.exit_code == 0, result.output
    package, site = tmp_path / "auralflow-band-split", tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*install, str(package)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    listed = [sys.executable, "-m", "auralflow", "list-models"]
    assert "BandSplit" in subprocess.run(listed, env=environment, capture_output=True, text=True, check=True).stdout
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=package,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 0, tests.stdout
    assert "passed" in tests.stdout


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "auralflow-gain").mkdir()
    result = CliRunner().invoke(main, ["new-plugin", "gain", "--save", str(tmp_path)])
    assert result.exit_code == 1
    assert "exists already" in result.output
    assert not list((tmp_path / "auralflow-gain").iterdir())


@pytest.mark.parametrize("name", ["", "auralflow-", "7up", "a/b", "../x", "ünïcode/", "a--", "-"])
def test_names_that_make_no_package_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="letter first"):
        PluginNames.of(name)


@given(st.lists(st.from_regex(r"[A-Za-z][A-Za-z0-9]*", fullmatch=True), min_size=1, max_size=3))
def test_names_are_valid_wherever_they_are_used(words: list[str]) -> None:
    names = PluginNames.of("-".join(words))
    assert names.package.isidentifier() and names.model.isidentifier() and names.entry_point.isidentifier()
    assert names.model[0].isupper()
    assert PluginNames.of(names.distribution).distribution == names.distribution
