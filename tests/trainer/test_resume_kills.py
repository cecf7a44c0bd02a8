"""`kill -9` at random moments changes nothing: the benchmark of it, with a few kills."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "resume.py"
# Each training is a fork, and all of them need what the first optimizer loads. A killed process needs no flushed disk.
START = """
import os, runpy, sys
import torch._dynamo
os.fsync = lambda handle: None
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_9_at_random_moments() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", START, SCRIPT, "--kills", "3", "--seed", "7"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(re.findall(r"^kill +\d+ after", ended.stdout, re.M)) == 3
    assert ": the same\n" in ended.stdout and "3 kills, 0 trainings with other weights" in ended.stdout
    assert int(re.findall(r"(\d+) times batches were skipped", ended.stdout)[0]) > 0
