"""The floors of the house: a module imports only what lies below it, or to its left on the same floor."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import auralflow_core

CORE = Path(auralflow_core.__file__).parent
ROOT = CORE.parent

# From the ground up; a floor's rooms from left to right. `__init__` is the package itself, which imports nothing
# until a name is asked for.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("__init__", "errors", "files", "processes"),
    ("hookspecs", "layout", "config"),
    ("known_types", "entries", "registry", "builtin", "scaffold"),
    ("torchaudio_cpu", "device", "audio", "transforms"),
    ("losses", "metrics", "masking", "checkpoint", "weights"),
    ("model", "data"),
    ("separate", "trainer"),
    ("evaluate", "build", "training", "library", "doctor", "init_data"),
    ("testing",),
    ("cli",),
)
ROOMS = [room for floor in FLOORS for room in floor]
LAST_WITHOUT_TORCH = "scaffold"
HEAVY = {"torch", "torchaudio", "musdb", "museval", "matplotlib", "tensorboard", "scipy"}

# `templates/` holds texts that are copied into new plugins.
MODULES = sorted(path for path in CORE.rglob("*.py") if path.relative_to(CORE).parts[0] != "templates")
SOURCES = sorted(
    path
    for folder in (CORE, ROOT / "auralflow", ROOT / "plugins")
    for path in folder.rglob("*.py")
    if "templates" not in path.relative_to(ROOT).parts
)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room_of(module: str) -> str:
    """Return the room of `auralflow_core.room.anything`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield every module that a piece of code imports, also inside functions, but not for type checkers alone."""
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.unparse(tree.test):
        for node in tree.orelse:
            yield from imported(node)
        return
    if isinstance(tree, ast.Import):
        yield from (alias.name for alias in tree.names)
    elif isinstance(tree, ast.ImportFrom):
        assert tree.level == 0, "imports are absolute"
        assert tree.module is not None
        if tree.module == "auralflow_core":
            yield from (_submodule(alias.name) for alias in tree.names)
        else:
            yield tree.module
    for node in ast.iter_child_nodes(tree):
        yield from imported(node)


def _submodule(attribute: str) -> str:
    return f"auralflow_core.{attribute}" if attribute in ROOMS else "auralflow_core"


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room_of_file(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def rooms_imported(path: Path) -> set[str]:
    return {room_of(module) for module in imported(parse(path)) if module.split(".")[0] == "auralflow_core"}


def is_below(room: str, other: str) -> bool:
    return ROOMS.index(room) < ROOMS.index(other)


def test_every_module_has_a_floor() -> None:
    assert {room_of_file(path) for path in MODULES} == set(ROOMS)
    assert len(ROOMS) == len(set(ROOMS))


def test_imports_run_downward() -> None:
    upward = {
        f"{name(path)} imports {room}"
        for path in MODULES
        for room in rooms_imported(path)
        if is_below(room_of_file(path), room)
    }
    assert not upward


def test_core_imports_neither_its_face_nor_a_plugin() -> None:
    strangers = {
        f"{name(path)} imports {module}"
        for path in MODULES
        for module in imported(parse(path))
        if module.startswith("auralflow") and module.split(".")[0] != "auralflow_core"
    }
    assert not strangers


def test_torch_stays_above_the_registry() -> None:
    light = [path for path in MODULES if not is_below(LAST_WITHOUT_TORCH, room_of_file(path))]
    assert len(light) > 10
    heavy = {
        f"{name(path)} imports {module}"
        for path in light
        for module in imported(parse(path))
        if module.split(".")[0] in HEAVY
    }
    assert not heavy


def test_commands_import_heavy_things_inside() -> None:
    light = {"cli", "config", "errors"}
    # Listeners of training and separation derive from a class of theirs; commands import them inside.
    listeners = {"training_progress.py", "separation_progress.py"}
    commands = [path for path in MODULES if room_of_file(path) == "cli" and path.name not in listeners]
    for path in commands:
        top = {module for node in parse(path).body if _is_import(node) for module in imported(node)}
        assert not HEAVY & {module.split(".")[0] for module in top}, name(path)
        assert {room_of(module) for module in top if module.startswith("auralflow_core")} <= light, name(path)


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom))


def test_config_and_registry_meet_in_build_or_above() -> None:
    # The registry itself knows one name of config, the base of all schemas; `scaffold` writes plugins.
    below = [path for path in MODULES if is_below(room_of_file(path), "build")]
    meeting = {name(path) for path in below if {"config", "registry"} <= rooms_imported(path)}
    assert not meeting


def test_files_are_short() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert len(lengths) > 50
    assert not {path: lines for path, lines in lengths.items() if lines > 400}


def test_functions_are_short() -> None:
    lengths = {
        f"{name(path)}:{node.name}": _length(node)
        for path in SOURCES
        for node in ast.walk(parse(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert not {function: lines for function, lines in lengths.items() if lines > 60}


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines from the name to the end, without the docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_nobody_asks_for_the_class_of_a_model() -> None:
    models = {
        node.name
        for path in MODULES
        if room_of_file(path) == "model"
        for node in parse(path).body
        if isinstance(node, ast.ClassDef) and "Model" in "".join([node.name, *map(ast.unparse, node.bases)])
    }
    assert {"SeparationModel", "SpectrogramMaskModel"} <= models
    questions = {
        f"{name(path)}: {ast.unparse(node)}"
        for path in MODULES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("isinstance", "issubclass")
        and models & {word.split(".")[-1] for word in ast.unparse(node.args[1]).strip("()").split(", ")}
    }
    assert not questions


def test_the_rule_itself_finds_what_it_looks_for() -> None:
    code = (
        "def f():\n    from auralflow_core.cli import main\nif TYPE_CHECKING:\n    import torch\nelse:\n    import os\n"
    )
    assert set(imported(ast.parse(code))) == {"auralflow_core.cli", "os"}
