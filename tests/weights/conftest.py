"""A web server with the faults of real ones, and a plugin whose weights lie there."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from auralflow_core.entries import WeightsEntry
from auralflow_core.weights import WeightsStore
from auralflow_core.weights.download import Patience


class FileServer:
    """Serves bytes by name; `faults` holds, for coming requests in turn, a status or when to hang up."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.tag: str | None = '"version-1"'
        self.length = True
        self.faults: list[tuple[str, int]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self.gate.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append((self.path.strip("/"), dict(self.headers)))
                kind, value = server.faults.pop(0) if server.faults else ("", 0)
                content = server.files.get(self.path.strip("/"))
                if kind == "status" or content is None:
                    self.send_error(value or 404)
                    return
                start = server._start(self.headers)
                if start and start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                if server.tag:
                    self.send_header("ETag", server.tag)
                if server.length:
                    self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                body = content[start:]
                server.gate.wait(10)
                self.wfile.write(body[:value] if kind == "cut" else body)

            def log_message(self, *_: Any) -> None: ...

        return Handler

    def _start(self, headers: Any) -> int:
        wanted = headers.get("Range")
        if not (self.ranges and wanted and headers.get("If-Range") == self.tag):
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))


class Heard:
    """Remembers what a listener is told."""

    def __init__(self) -> None:
        self.started: list[tuple[str, list[str]]] = []
        self.progress: list[tuple[str, int, int | None]] = []
        self.retries: list[str] = []
        self.waited: list[str] = []

    def on_start(self, entry: WeightsEntry, files: Any) -> None:
        self.started.append((entry.name, list(files)))

    def on_progress(self, file: str, done: int, total: int | None) -> None:
        self.progress.append((file, done, total))

    def on_retry(self, file: str, reason: str, seconds: float) -> None:
        self.retries.append(reason)

    def on_wait(self, file: str) -> None:
        self.waited.append(file)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AURALFLOW_WEIGHTS_MIRROR", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AURALFLOW_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server() -> Iterator[FileServer]:
    running = FileServer()
    yield running
    running.close()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def make_store(tmp_path: Path, heard: Heard) -> Any:
    """Return a function that makes a store which does not wait long."""

    def make(**facts: Any) -> WeightsStore:
        patience = Patience(attempts=3, wait=0.01, timeout=facts.pop("timeout", 5))
        return WeightsStore(tmp_path / "store", listener=heard, patience=patience, **facts)

    return make


@pytest.fixture
def make_entry(server: FileServer) -> Any:
    """Return a function that registers and serves files; `digits` of each digest are registered."""

    def make(name: str = "tone-v1", digits: int = 8, **files: bytes) -> WeightsEntry:
        contents = {file.replace("__", "."): content for file, content in files.items()}
        server.files |= contents
        return WeightsEntry(
            name,
            "a test",
            plugin="auralflow-tone",
            version="1.0",
            type="Tone",
            files={file: f"{server.url}/{file}" for file in contents},
            sha256={file: hashlib.sha256(content).hexdigest()[:digits] for file, content in contents.items()},
            licence="CC BY 4.0",
            convert="json:loads",
        )

    return make


TONE = """
from auralflow_core import ModelParams, hookimpl

class Params(ModelParams):
    gain: float = 0.5

def config(paths):
    return {{"model": {{"params": {{"gain": 0.25}}}}, "dataset": {{"num_channels": 2, "targets": ["vocals", "rest"]}}}}

def broken(paths):
    return paths["no such file"]

@hookimpl
def register_models(register):
    register("Tone", network="{module}_network:Tone", params=Params, domain="waveform", summary="one gain")

@hookimpl
def register_weights(register):
    facts = {{
        "type": "Tone", "files": {{"tone.safetensors": "{url}/tone.safetensors"}}, "licence": "CC BY 4.0",
        "sha256": {{"tone.safetensors": "{digest}"}},
    }}
    register("tone-v1", **facts, config="{module}:config", summary="gains that were found")
    register("tone-mono", **facts, summary="does not fit the defaults")
    register("tone-broken", **facts, convert=broken, summary="its plugin has a fault")
"""

NETWORK = """
import torch

class Tone(torch.nn.Module):
    def __init__(self, gain, *, num_targets, **known):
        super().__init__()
        self.initial = gain
        self.gain = torch.nn.Parameter(torch.full((num_targets, 1, 1), gain))

    def forward(self, audio):
        return self.gain * audio.unsqueeze(1)
"""


@pytest.fixture
def tone(server: FileServer, install_plugin: Any) -> str:
    """Install a plugin with weights for a network of one gain a target: 0.75 and 0.25; return its name."""
    content = save({"gain": torch.tensor([0.75, 0.25]).reshape(2, 1, 1)})
    server.files["tone.safetensors"] = content
    digest = hashlib.sha256(content).hexdigest()
    install_plugin("auralflow-tone", TONE.format(url=server.url, digest=digest[:8], module="auralflow_tone"))
    (Path(sys.path[0]) / "auralflow_tone_network.py").write_text(NETWORK, encoding="utf-8")
    return "auralflow-tone"
