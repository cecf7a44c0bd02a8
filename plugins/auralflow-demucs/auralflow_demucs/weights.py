"""Public weights of Demucs: where they are, and how a configuration and a state dict are made of their files.

A file is a pickle of the class, its arguments, the state in half precision and the training's settings. Its name ends
in the beginning of its SHA-256.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from auralflow_core.errors import CheckpointError
from auralflow_core.hookspecs import Register
from auralflow_demucs.params import SCHEMAS

if TYPE_CHECKING:
    from torch import Tensor

URL = "https://dl.fbaipublicfiles.com/demucs"
LICENCE = "none stated for the files; the author offers them for scientific purposes only"

# Name: model type, folder below the URL, files, summary.
PUBLISHED: Mapping[str, tuple[str, str, tuple[str, ...], str]] = {
    "htdemucs": (
        "HTDemucs",
        "hybrid_transformer",
        ("955717e8-8726e21a",),
        "drums, bass, other, vocals; trained on MUSDB18-HQ and 800 songs",
    ),
    "htdemucs_ft": (
        "DemucsBag",
        "hybrid_transformer",
        ("f7e0c4bc-ba3fe64a", "d12395a8-e57c48e6", "92cfc3b6-ef3bcb9c", "04573f0d-f3cf25b2"),
        "htdemucs fine-tuned for each target, so four times as slow",
    ),
    "htdemucs_6s": (
        "HTDemucs",
        "hybrid_transformer",
        ("5c90dfd2-34c22ccb",),
        "htdemucs with guitar and piano",
    ),
    "hdemucs_mmi": (
        "HDemucs",
        "hybrid_transformer",
        ("75fc33f5-1941ce65",),
        "v3, trained on MUSDB18-HQ and 800 songs",
    ),
    "mdx": (
        "DemucsBag",
        "mdx_final",
        ("0d19c1c6-0f06f20e", "7ecf8ec1-70f50cc9", "c511e2ab-fe698775", "7d865c68-3d5dd56b"),
        "four networks, trained on the training songs of MUSDB18-HQ: won track A of the challenge of 2021",
    ),
    "mdx_extra": (
        "DemucsBag",
        "mdx_final",
        ("e51eebcc-c1b80bdd", "a1d90b5c-ae9d2452", "5d2d6c55-db83574e", "cfa93e08-61801ae1"),
        "four networks, trained on extra songs and on the test songs of MUSDB18-HQ",
    ),
}


def register_published(register: Register) -> None:
    """Register the public weights."""
    for name, (type_, folder, files, summary) in PUBLISHED.items():
        register(
            name,
            type=type_,
            files={f"{file}.th": f"{URL}/{folder}/{file}.th" for file in files},
            sha256={f"{file}.th": file.partition("-")[2] for file in files},
            config=f"auralflow_demucs.weights:{'single' if type_ == 'HTDemucs' else name}",
            convert="auralflow_demucs.weights:convert",
            licence=LICENCE,
            summary=summary,
        )


class Package(NamedTuple):
    """What a file holds.

    Attributes:
        type: The model type.
        arguments: The network's arguments by name.
        state: Its state dict.
    """

    type: str
    arguments: Mapping[str, Any]
    state: dict[str, Tensor]


def read_package(path: Path) -> Package:
    """Read a file that Demucs saved.

    Raises:
        CheckpointError: It cannot be read, or holds another class or something else.
    """
    from auralflow_core.weights import Record, load_checkpoint

    data = load_checkpoint(path)
    if not isinstance(data, dict) or not {"klass", "kwargs", "state"} <= data.keys():
        raise CheckpointError(f"{path}: is no file that Demucs saved; it holds {type(data).__name__}")
    klass, arguments, state = data["klass"], data["kwargs"], data["state"]
    if not isinstance(klass, Record) or klass.name not in SCHEMAS:
        raise CheckpointError(f"{path}: holds a network of class {klass!r}; {', '.join(SCHEMAS)} can be read")
    if not isinstance(arguments, dict) or not isinstance(state, dict) or state.get("__quantized"):
        raise CheckpointError(f"{path}: holds quantized or damaged weights; use a file that is neither")
    # The class takes the targets alone by place.
    named = {"sources": data["args"][0], **arguments} if data.get("args") else arguments
    return Package(klass.name, named, state)


def params_of(package: Package) -> dict[str, Any]:
    """Return the settings of a file's network; arguments that its class no longer has are left out, as Demucs does."""
    schema = SCHEMAS[package.type]
    known = {*schema.model_fields, *schema.absent}
    params = {name: value for name, value in package.arguments.items() if name in known}
    if "segment" in params:
        params["segment"] = float(params["segment"])
    return params


def single(paths: Mapping[str, Path], *, segment: float | None = None) -> dict[str, Any]:
    """Return the configuration of one file.

    Args:
        paths: The file.
        segment: Seconds that are separated at once, for a network that can do with any; by default as the file says.
    """
    [path] = paths.values()
    package = read_package(path)
    return _groups([package], params_of(package), segment)


def bag(
    paths: Mapping[str, Path], *, weights: Sequence[Sequence[float]] | None = None, segment: float | None = None
) -> dict[str, Any]:
    """Return the configuration of several files.

    Args:
        paths: The files.
        weights: One row a file with a weight for each target.
        segment: Seconds that are separated at once, for members that can do with any.
    """
    packages = [read_package(path) for path in paths.values()]
    members = [{"type": package.type, "params": params_of(package)} for package in packages]
    return _groups(packages, {"members": members, "weights": weights}, segment)


htdemucs_ft = partial(bag, weights=[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
hdemucs_mmi = partial(single, segment=44)
mdx = partial(bag, weights=[[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 1, 1], [1, 0, 1, 1]], segment=44)
mdx_extra = partial(bag, segment=44)


def convert(paths: Mapping[str, Path]) -> dict[str, Tensor]:
    """Return the state dict of a file's network, or of the bag of several files."""
    states = [read_package(path).state for path in paths.values()]
    if len(states) == 1:
        return states[0]
    return {f"models.{index}.{name}": value for index, state in enumerate(states) for name, value in state.items()}


def _groups(packages: Sequence[Package], params: Mapping[str, Any], segment: float | None = None) -> dict[str, Any]:
    arguments = [package.arguments for package in packages]
    lengths = [
        float(given.get("segment", 10)) if package.type == "HTDemucs" else segment or float(given.get("segment", 40))
        for package, given in zip(packages, arguments, strict=True)
    ]
    return {
        "model": {"params": dict(params)},
        "dataset": {
            "targets": list(arguments[0]["sources"]),
            "num_channels": arguments[0].get("audio_channels", 2),
            "sample_rate": arguments[0].get("samplerate", 44100),
        },
        "separation": {
            "segment": min(lengths),
            "overlap": 0.25,
            "window": "triangle",
            "final_segment": "padded",
        },
    }
