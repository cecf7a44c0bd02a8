"""The memory of a process: what is free inside of the heap goes back to the system."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_MEASURE = """
import ctypes, json
from auralflow_core.processes import giving_back_memory, tune_memory

tune_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def resident():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmRSS"))

places = [libc.malloc(2**16) for _ in range(3200)]
for place in places:
    ctypes.memset(place, 1, 2**16)
for place in places[:-1]:  # the last one holds the heap's end
    libc.free(ctypes.c_void_p(place))
before = resident()
with giving_back_memory():
    pass
print(json.dumps([before, resident()]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap, and /proc")
def test_gaps_in_the_heap_go_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", _MEASURE], capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    assert before - after > 3000 * 2**16
