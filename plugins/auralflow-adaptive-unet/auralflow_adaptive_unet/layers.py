"""The words that a design is made of: what each takes, and how it scales bins and frames. No torch.

An entry is `[word]`, `[word, value]` or `[word, {option: value}]`; a bare value sets the word's first option.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from auralflow_core.errors import did_you_mean

Pair = tuple[int, int]
"""Something for bins and for frames."""

Read = Callable[[Any], Any]


@dataclass(frozen=True)
class Option:
    """A value that a layer takes: its default, and what reads a given one or raises ValueError with the limit."""

    default: Any
    read: Read


@dataclass(frozen=True)
class Word:
    """What may be said about one kind of layer.

    Args:
        options: By name; the first is the one that a bare value sets.
        mixes: Whether the layer learns to combine channels, so that a skip connection is joined before it.
        down: The option by which it divides bins and frames.
        up: The option by which it multiplies them.
        divides: The option that must divide the number of channels.
    """

    options: Mapping[str, Option]
    mixes: bool = False
    down: str | None = None
    up: str | None = None
    divides: str | None = None


@dataclass(frozen=True)
class Layer:
    """One entry of a design, all its options filled in."""

    word: str
    options: Mapping[str, Any]

    @property
    def mixes(self) -> bool:
        """Whether it learns to combine channels."""
        return VOCABULARY[self.word].mixes

    @property
    def sets_channels(self) -> bool:
        """Whether it can have more or fewer channels behind it than before it."""
        return self.word in ("conv", "transpose_conv")

    @property
    def down(self) -> Pair:
        """What it divides bins and frames by, rounding up."""
        name = VOCABULARY[self.word].down
        return pair(self.options[name]) if name else (1, 1)

    @property
    def up(self) -> Pair:
        """What it multiplies bins and frames by."""
        name = VOCABULARY[self.word].up
        return pair(self.options[name]) if name else (1, 1)

    def undivided(self, channels: int) -> str | None:
        """Return what is wrong if an option does not divide the number of channels."""
        name = VOCABULARY[self.word].divides
        if name is None or channels % self.options[name] == 0:
            return None
        fitting = ", ".join(str(number) for number in range(1, 17) if channels % number == 0)
        return (
            f"{self.word}: {name} {self.options[name]} does not divide the {channels} channels that come in; use one "
            f"of {fitting}, or change hidden_channels"
        )


def read_layer(entry: Any) -> Layer:
    """Return the layer that an entry of a design describes.

    Args:
        entry: `[word]`, `[word, value]`, `[word, {option: value}]`, or the bare word.

    Raises:
        ValueError: The word or an option is unknown, or a value out of its range.
    """
    entry = [entry] if isinstance(entry, str) else entry
    if not isinstance(entry, (list, tuple)) or not 1 <= len(entry) <= 2 or not isinstance(entry[0], str):
        raise ValueError(f"{entry!r} is no layer; write [word], [word, value] or [word, {{option: value}}]")
    word = entry[0]
    if word not in VOCABULARY:
        near = did_you_mean(word, VOCABULARY) or f"; known: {', '.join(VOCABULARY)}"
        raise ValueError(f'unknown layer "{word}"{near}')
    known = VOCABULARY[word].options
    given = _given(word, entry[1], known) if len(entry) == 2 else {}
    options = {name: option.default for name, option in known.items()}
    for name, value in given.items():
        try:
            options[name] = known[name].read(value)
        except ValueError as error:
            raise ValueError(f"{word}: {name} {value!r} {error}") from None
    layer = Layer(word, options)
    _check_holes(layer)
    return layer


def read_size(value: Any) -> int | list[int]:
    """Return a whole number, or one for bins and one for frames.

    Raises:
        ValueError: It is neither, or out of range.
    """
    is_pair = isinstance(value, (list, tuple)) and len(value) == 2
    for number in value if is_pair else [value]:
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 64:
            raise ValueError("must be a whole number from 1 to 64, or two of them: [bins, frames]")
    return list(value) if is_pair else int(value)


def pair(size: int | list[int]) -> Pair:
    """Return a size for bins and for frames."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _given(word: str, value: Any, known: Mapping[str, Option]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        if not known:
            raise ValueError(f"{word}: takes no value, got {value!r}; write [{word}]")
        return {next(iter(known)): value}
    given = {str(name).replace("-", "_"): inner for name, inner in value.items()}
    for name in given:
        if name not in known:
            near = did_you_mean(name, known) or f"; known: {', '.join(known) or 'none'}"
            raise ValueError(f"{word}: unknown option {name}{near}")
    return given


def _check_holes(layer: Layer) -> None:
    if layer.word != "transpose_conv":
        return
    kernel, stride = pair(layer.options["kernel_size"]), layer.up
    if any(size < step for size, step in zip(kernel, stride, strict=True)):
        raise ValueError(
            f"transpose_conv: kernel_size {layer.options['kernel_size']} is below its stride "
            f"{layer.options['stride']}, which leaves holes; use a kernel_size of at least the stride"
        )


def _whole(low: int, high: int) -> Read:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return read


def _number(low: float, high: float, limits: str) -> Read:
    """Read a number from `low` to below `high`."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < high:
            raise ValueError(f"must be a number {limits}")
        return float(value)

    return read


def _choice(*choices: Any) -> Read:
    def read(value: Any) -> Any:
        # 1 equals True in Python, and a switch set to 1 is better asked back than guessed.
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ValueError(f"must be {' or '.join(str(choice).lower() for choice in choices)}")
        return value

    return read


def _or_none(read: Read) -> Read:
    return lambda value: None if value is None else read(value)


_SHARE = _number(0, 1, "from 0 to below 1")
_AXIS = Option("time", _choice("time", "frequency"))
_RECURRENT = {
    "layers": Option(1, _whole(1, 16)),
    "hidden": Option(None, _or_none(_whole(1, 8192))),
    "bidirectional": Option(True, _choice(True, False)),
    "axis": _AXIS,
    "dropout": Option(0.0, _SHARE),
}

VOCABULARY: Mapping[str, Word] = {
    "conv": Word(
        {"kernel_size": Option(3, read_size), "stride": Option(1, read_size), "dilation": Option(1, read_size)},
        mixes=True,
        down="stride",
    ),
    "transpose_conv": Word(
        {"kernel_size": Option(2, read_size), "stride": Option(2, read_size)}, mixes=True, up="stride"
    ),
    "upsample": Word(
        {"scale": Option(2, read_size), "mode": Option("nearest", _choice("nearest", "bilinear"))}, up="scale"
    ),
    "max_pool": Word({"size": Option(2, read_size)}, down="size"),
    "avg_pool": Word({"size": Option(2, read_size)}, down="size"),
    "decimate": Word({"factor": Option(2, read_size)}, down="factor"),
    "batch_norm": Word({}),
    "group_norm": Word({"groups": Option(8, _whole(1, 512))}, divides="groups"),
    "instance_norm": Word({}),
    "layer_norm": Word({}),
    "relu": Word({}),
    "leaky_relu": Word({"slope": Option(0.2, _SHARE)}),
    "prelu": Word({"slope": Option(0.25, _SHARE)}),
    "elu": Word({"alpha": Option(1.0, _number(0, 100, "from 0 to below 100"))}),
    "selu": Word({}),
    "gelu": Word({}),
    "silu": Word({}),
    "tanh": Word({}),
    "sigmoid": Word({}),
    "dropout": Word(
        {
            "p": Option(0.5, _SHARE),
            "channels": Option(False, _choice(True, False)),
            "levels": Option(None, _or_none(_whole(0, 16))),
        }
    ),
    "lstm": Word(_RECURRENT, mixes=True),
    "gru": Word(_RECURRENT, mixes=True),
    "attention": Word({"heads": Option(4, _whole(1, 64)), "axis": _AXIS}, mixes=True, divides="heads"),
}
"""The layer words."""
