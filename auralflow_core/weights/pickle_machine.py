"""A machine for pickles that has no instruction which calls, imports or sets an attribute.

A pickle is a program for a stack machine. Python's own lets the program name any function and call it. This one knows
the same instructions, but what a program names is a `Record`, and what it calls, builds or fills is a `Record` too.
Only a fixed table of constructors makes something else, of arguments that are checked.
"""

from __future__ import annotations

import io
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, BinaryIO

MAX_BYTES = 8 << 20
"""Limit of one pickle, far above what the names and shapes of a large network take."""

MAX_STEPS = 1 << 19
"""Limit of its instructions, for the same reason; the shortest of them allocate two hundred times their length."""

MAX_COPIED = 1 << 20
"""Limit of what calls may copy, in items and characters together: one instruction can copy all that is there."""

MAX_VALUES = 1 << 22
MAX_DEPTH = 64
"""Limits of the result, counted as if nothing in it were shared: so much would be printed, compared or validated."""

# The hash of a nested tuple takes time exponential in its depth, so keys are plain. The hashes of large integers and of
# floats can be chosen to collide.
_PLAIN = (str, bytes, int, bool, type(None))
_MAX_KEY_BITS = 32
_FRACTION = re.compile(r"([+-]?\d{1,18})(?:/(\d{1,18}))?")

Constructor = Callable[..., Any]


@dataclass(eq=False, slots=True, repr=False)
class Record:
    """Something that a pickle names or wants to make, kept as what it is: a name and data.

    Args:
        module: Module of the class or function.
        name: Its name, maybe dotted.
        args: What it was to be called with; `None` where it is only named.
        kwargs: Likewise by name.
        state: What was to become its attributes.
        items: What was to be appended or added to it.
        entries: What was to be set by key.
    """

    module: str
    name: str
    args: tuple[Any, ...] | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    state: Any = None
    items: list[Any] = field(default_factory=list)
    entries: list[tuple[Any, Any]] = field(default_factory=list)

    @property
    def path(self) -> str:
        """Module and name."""
        return f"{self.module}.{self.name}"

    def __repr__(self) -> str:
        # Its parts may be shared so often, or so deep, that spelling them out never ends.
        return f"<Record of {self.path}>"


class PickleError(Exception):
    """A pickle is damaged, or is a program that this machine does not run."""


class PickleMachine:
    """Runs pickles.

    Args:
        constructors: What makes a value of the arguments of a call, by the path of what is called. They get untrusted
            arguments.
        persistent: Returns what stands for a persistent id; without it, such ids are refused.
    """

    def __init__(
        self, constructors: Mapping[str, Constructor] | None = None, persistent: Callable[[Any], Any] | None = None
    ) -> None:
        self._constructors = {**_CONSTRUCTORS, **(constructors or {})}
        self._persistent = persistent
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._copied = 0

    def run(self, stream: BinaryIO) -> Any:
        """Run the pickle that begins where the stream stands, and leave the stream behind its end.

        Raises:
            PickleError: It is damaged, too long, or holds an instruction that is not known here; or its result would
                be endless.
        """
        self._stack, self._below, self._memo, self._copied = [], [], {}, 0
        begin = stream.tell()
        # A copy: from the file itself an instruction could ask for any number of bytes.
        program = io.BytesIO(stream.read(MAX_BYTES))
        try:
            value = self._run(program)
        except PickleError:
            raise
        # A damaged program stumbles in any way: over an empty stack, a missing memo, an argument of another type.
        except Exception as error:
            if program.getbuffer().nbytes == MAX_BYTES:
                raise PickleError(f"the pickle is longer than {MAX_BYTES:,} bytes") from error
            raise PickleError(f"{type(error).__name__}: {error}") from error
        stream.seek(begin + program.tell())
        _check_size(value)
        return value

    def _run(self, program: BinaryIO) -> Any:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(program)):
            if number == MAX_STEPS:
                raise PickleError(f"the pickle has more than {MAX_STEPS:,} instructions")
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise PickleError("the pickle has no end")

    def _step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self._stack.append(argument)
        elif name in _VALUES:
            self._stack.append(_VALUES[name]())
        elif name in _MEMO_WRITES:
            self._memo[len(self._memo) if argument is None else argument] = self._stack[-1]
        elif name in _MEMO_READS:
            self._stack.append(self._memo[argument])
        elif step := getattr(self, f"_do_{name.lower()}", None):
            step(argument)
        elif name not in _NOTES:
            raise PickleError(f"the pickle holds the instruction {name}, which is not run here")

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise PickleError("the pickle takes more from the stack than is there")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _pop_mark(self) -> list[Any]:
        """Return what stands above the last mark, and remove both."""
        items, self._stack = self._stack, self._below.pop()
        return items

    def _do_mark(self, _: None) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _do_pop(self, _: None) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _do_pop_mark(self, _: None) -> None:
        self._pop_mark()

    def _do_dup(self, _: None) -> None:
        self._stack.append(self._stack[-1])

    def _do_tuple1(self, _: None) -> None:
        self._stack.append(tuple(self._pop(1)))

    def _do_tuple2(self, _: None) -> None:
        self._stack.append(tuple(self._pop(2)))

    def _do_tuple3(self, _: None) -> None:
        self._stack.append(tuple(self._pop(3)))

    def _do_tuple(self, _: None) -> None:
        items = tuple(self._pop_mark())
        self._stack.append(items)

    def _do_list(self, _: None) -> None:
        items = self._pop_mark()
        self._stack.append(items)

    def _do_dict(self, _: None) -> None:
        items = self._pop_mark()
        self._stack.append({})
        self._set(items)

    def _do_frozenset(self, _: None) -> None:
        items = self._pop_mark()
        self._stack.append(_frozenset(items))

    def _do_append(self, _: None) -> None:
        self._add(self._pop(1))

    def _do_appends(self, _: None) -> None:
        self._add(self._pop_mark())

    def _do_additems(self, _: None) -> None:
        self._add(self._pop_mark())

    def _do_setitem(self, _: None) -> None:
        self._set(self._pop(2))

    def _do_setitems(self, _: None) -> None:
        self._set(self._pop_mark())

    def _do_global(self, argument: str) -> None:
        self._stack.append(_named(argument))

    def _do_stack_global(self, _: None) -> None:
        module, name = self._pop(2)
        if not (type(module) is str and type(name) is str):
            raise PickleError("the pickle names something by other things than text")
        self._stack.append(Record(module, name))

    def _do_reduce(self, _: None) -> None:
        self._call(*self._pop(2))

    def _do_newobj(self, _: None) -> None:
        self._call(*self._pop(2))

    def _do_newobj_ex(self, _: None) -> None:
        self._call(*self._pop(3))

    def _do_inst(self, argument: str) -> None:
        args = tuple(self._pop_mark())
        self._call(_named(argument), args)

    def _do_obj(self, _: None) -> None:
        named, *args = self._pop_mark()
        self._call(named, tuple(args))

    def _do_build(self, _: None) -> None:
        [state] = self._pop(1)
        target = self._stack[-1]
        if type(target) is Record:
            target.state = state
        # What torch notes on an ordered dict about the versions of modules is not needed.
        elif type(target) is not OrderedDict:
            raise PickleError(f"the pickle sets attributes of a {type(target).__name__}")

    def _do_persid(self, identity: str) -> None:
        self._refer(identity)

    def _do_binpersid(self, _: None) -> None:
        self._refer(*self._pop(1))

    def _add(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is Record:
            target.items.extend(items)
        elif type(target) is list:
            target.extend(items)
        elif type(target) is set:
            target.update(_frozenset(items))
        else:
            raise PickleError(f"the pickle adds to a {type(target).__name__}")

    def _set(self, items: list[Any]) -> None:
        pairs = list(zip(items[::2], items[1::2], strict=True))
        target = self._stack[-1]
        if type(target) is Record:
            target.entries.extend(pairs)
        elif type(target) in (dict, OrderedDict):
            target.update((_plain(key), value) for key, value in pairs)
        else:
            raise PickleError(f"the pickle sets a key of a {type(target).__name__}")

    def _call(self, named: Any, args: Any, kwargs: Any = None) -> None:
        """Push what a call makes: a value by the table of constructors, otherwise a record of the call."""
        kwargs = {} if kwargs is None else kwargs
        if not (type(named) is Record and type(args) is tuple and type(kwargs) is dict):
            raise PickleError(f"the pickle calls a {type(named).__name__} with a {type(args).__name__}")
        constructor = self._constructors.get(named.path) if named.args is None and not kwargs else None
        if constructor:
            self._copied += sum(len(arg) for arg in args if type(arg) in _SIZED)
            if self._copied > MAX_COPIED:
                raise PickleError(f"the pickle copies more than {MAX_COPIED:,} items")
        self._stack.append(constructor(*args) if constructor else Record(named.module, named.name, args, kwargs))

    def _refer(self, identity: Any) -> None:
        if self._persistent is None:
            raise PickleError("the pickle refers to something outside of it")
        self._stack.append(self._persistent(identity))


def _named(argument: str) -> Record:
    module, _, name = argument.partition(" ")
    return Record(module, name)


def _plain(value: Any) -> Any:
    if type(value) not in _PLAIN:
        raise PickleError(f"the pickle uses a {type(value).__name__} as a key")
    if type(value) is int and value.bit_length() > _MAX_KEY_BITS:
        raise PickleError(f"the pickle uses a number of {value.bit_length()} bits as a key")
    return value


def _check_size(value: Any) -> None:
    """Refuse what is small because its parts are shared, and large or endless for whoever walks through it."""
    measured: dict[int, tuple[int, int]] = {}

    def measure(part: Any, depth: int) -> tuple[int, int]:
        """Return how many parts there are, and how many levels."""
        if type(part) not in _CONTAINERS:
            return 1, 0
        if id(part) not in measured:
            measured[id(part)] = 0, MAX_DEPTH + 1  # for what holds itself
            inner = part.values() if isinstance(part, dict) else part
            sizes = [measure(item, depth + 1) for item in inner] if depth < MAX_DEPTH else [(0, MAX_DEPTH + 1)]
            measured[id(part)] = 1 + sum(size for size, _ in sizes), 1 + max((levels for _, levels in sizes), default=0)
        return measured[id(part)]

    size, levels = measure(value, 0)
    if size > MAX_VALUES or levels > MAX_DEPTH:
        raise PickleError(
            f"the pickle makes something of more than {MAX_VALUES:,} parts or {MAX_DEPTH} levels, or something endless"
        )


def _frozenset(items: Iterable[Any] = ()) -> frozenset[Any]:
    return frozenset(map(_plain, items))


def _ordered_dict(pairs: Iterable[Any] = ()) -> OrderedDict[Any, Any]:
    return OrderedDict((_plain(key), value) for key, value in pairs)


def _fraction(*parts: Any) -> Fraction:
    # Not by `Fraction` itself, which would compute "1e999999999" for hours.
    if len(parts) == 1 and type(parts[0]) is str and (found := _FRACTION.fullmatch(parts[0])):
        parts = (int(found[1]), int(found[2] or 1))
    if not all(type(part) is int and part.bit_length() <= 64 for part in parts):
        raise PickleError("the pickle holds a fraction of other things than whole numbers of 64 bits")
    return Fraction(*parts)


def _bytes(text: Any, encoding: Any) -> bytes:
    # The forms of bytes below protocol 3: `_codecs.encode(text, "latin1")`, and `bytes()` where there are none.
    if not (type(text) is str and encoding == "latin1"):
        raise PickleError("the pickle encodes something else than bytes")
    return text.encode("latin-1")


_CONSTRUCTORS: Mapping[str, Constructor] = {
    "_codecs.encode": _bytes,
    "collections.OrderedDict": _ordered_dict,
    "fractions.Fraction": _fraction,
    **dict.fromkeys(("builtins.bytes", "__builtin__.bytes"), lambda: b""),
    **dict.fromkeys(("builtins.frozenset", "__builtin__.frozenset"), _frozenset),
    **dict.fromkeys(("builtins.set", "__builtin__.set"), lambda items=(): set(_frozenset(items))),
}
_CONSTANTS = frozenset({"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}) | {
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
_VALUES: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_CONTAINERS = frozenset({dict, OrderedDict, list, tuple})
_SIZED = _CONTAINERS | {str, bytes, bytearray, set, frozenset}
_MEMO_WRITES = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_MEMO_READS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_NOTES = frozenset({"PROTO", "FRAME"})
