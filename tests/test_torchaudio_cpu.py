"""Each case runs in an interpreter of its own: what is imported stays imported."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple

import pytest

WORKS = """
torchaudio = import_torchaudio()
assert import_torchaudio() is torchaudio
from torchaudio.functional import melscale_fbanks, resample
from torchaudio.transforms import FrequencyMasking, TimeMasking

audio = torch.sin(torch.arange(16000) * 0.05)
assert resample(audio, 16000, 8000).shape == (8000,)
assert abs(float(resample(audio, 16000, 8000)[4000] - audio[8000])) < 0.05
banks = melscale_fbanks(513, 0.0, 8000.0, 40, 16000)
assert banks.shape == (513, 40) and bool((banks >= 0).all()) and bool((banks.sum(0) > 0).all())
torch.manual_seed(0)
ones = torch.ones(1, 64, 100)
widths = {int((1 - TimeMasking(30)(ones)).sum()) // 64 for _ in range(20)}
heights = {int((1 - FrequencyMasking(30)(ones)).sum()) // 100 for _ in range(20)}
assert max(widths) <= 30 and max(heights) <= 30 and len(widths) > 3 and len(heights) > 3
print("works")
"""
NEEDS_EXTENSION = """
ctc = import_torchaudio().functional.forced_align
try:
    ctc(torch.zeros(1, 5, 3), torch.zeros(1, 2, dtype=torch.int32))
except RuntimeError as error:
    print(error)
"""
REFUSED = """
try:
    import_torchaudio()
except ImportError as error:
    print(error)
print("left", sorted(name for name in sys.modules if name.startswith("torchaudio")))
"""
EXTENSION = "torchaudio._extension"
# Name of the case: the module whose import fails, the error, and what runs then.
CASES = {
    "as installed": (None, "", WORKS),
    "CUDA library missing": (EXTENSION, "OSError('libc10_cuda.so: cannot open shared object file')", WORKS),
    "symbol missing": (EXTENSION, "ImportError('undefined symbol: _ZN3c104cuda')", WORKS),
    "other CUDA": (EXTENSION, "RuntimeError('compiled with different CUDA versions')", WORKS),
    "part missing": (EXTENSION, "ModuleNotFoundError('No module named x', name='torchaudio.lib')", WORKS),
    "extension wanted": (EXTENSION, "OSError('libc10_cuda.so')", NEEDS_EXTENSION),
    "broken": ("torchaudio.functional", "OSError('broken wheel')", REFUSED),
    "not installed": ("torchaudio", "ModuleNotFoundError('No module named x', name='torchaudio')", REFUSED),
}
# torch is imported once; every case then runs in a fork of that process.
DRIVER = """
import io, json, os, sys, traceback
from contextlib import redirect_stdout
from importlib.machinery import ModuleSpec

import torch
from auralflow_core.torchaudio_cpu import import_torchaudio

class Failing:
    def __init__(self, name, error): self.name, self.error = name, error
    def create_module(self, spec): return None
    def exec_module(self, module): raise eval(self.error)
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name == self.name else None

def run(name, error, code):
    out, trace = io.StringIO(), ""
    if name:
        sys.meta_path.insert(0, Failing(name, error))
    with redirect_stdout(out):
        try:
            exec(code, globals())
        except BaseException:
            trace = traceback.format_exc()
    return [out.getvalue(), trace]

results = {}
for case, arguments in json.load(sys.stdin).items():
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, json.dumps(run(*arguments)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        results[case] = json.loads(pipe.read())
    os.wait()
print(json.dumps(results))
"""


class Outcome(NamedTuple):
    printed: str
    trace: str


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    result = subprocess.run(
        [sys.executable, "-c", DRIVER], input=json.dumps(CASES), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return {case: Outcome(*parts) for case, parts in json.loads(result.stdout).items()}


@pytest.mark.parametrize(
    "case", ["as installed", "CUDA library missing", "symbol missing", "other CUDA", "part missing"]
)
def test_resampling_mel_and_masks_work(outcomes: dict[str, Outcome], case: str) -> None:
    assert outcomes[case] == ("works\n", "")


def test_what_needs_the_extension_says_so(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["extension wanted"].trace == ""
    assert "needs its compiled extension" in outcomes["extension wanted"].printed


def test_says_what_to_install_where_neither_way_works(outcomes: dict[str, Outcome]) -> None:
    printed, trace = outcomes["broken"]
    assert trace == ""
    assert "broken wheel" in printed and "pip install --upgrade torchaudio" in printed
    assert printed.splitlines()[-1] == "left []"


def test_says_what_to_install_where_it_is_missing(outcomes: dict[str, Outcome]) -> None:
    printed, trace = outcomes["not installed"]
    assert trace == ""
    assert printed.splitlines()[0] == "torchaudio is not installed; `pip install torchaudio`"
