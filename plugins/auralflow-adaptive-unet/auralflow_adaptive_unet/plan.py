"""From lists of layers to a network's plan: every layer with its channels, every skip connection, all sizes. No torch.

Each encoder level doubles the channels, the first makes `hidden_channels` of the input's. Its skip connection is what
stands before its first layer that reduces bins or frames (the input itself is no skip connection). The decoder's level
is cut to that size once its layers have enlarged it, has that many channels, and takes the skip connection in before
its next layer that mixes channels, or at its end for the coming level to mix.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from auralflow_adaptive_unet.layers import Layer, Pair

EXAMPLE_SIZE: Pair = (513, 256)
"""Bins and frames that sizes are shown for where the data set's are not known."""

UNKNOWN = 0
"""Channels of an input whose number is not known yet; what depends on it is not checked."""


class DesignError(ValueError):
    """A design that cannot work.

    Args:
        section: `encoder`, `decoder` or `bottleneck`.
        index: The entry's number in it; none where the whole section is meant.
        message: What is wrong and what to do.
    """

    def __init__(self, section: str, index: int | None, message: str) -> None:
        self.location: tuple[str | int, ...] = (section,) if index is None else (section, index)
        self.message = message
        super().__init__(f"{section}{'' if index is None else f'[{index}]'}: {message}")


@dataclass(frozen=True)
class Design:
    """What is to be planned: a list of layers for each part, and how often the encoder's and decoder's repeat."""

    encoder: Sequence[Layer]
    decoder: Sequence[Layer]
    bottleneck: Sequence[Layer]
    max_layers: int
    hidden_channels: int
    use_skip: bool


@dataclass(frozen=True)
class Step:
    """One layer in its place."""

    layer: Layer
    index: int
    before: int
    after: int
    bias: bool


@dataclass(frozen=True)
class EncoderLevel:
    """One level of the way down; `split` steps stand before the skip connection."""

    steps: tuple[Step, ...]
    split: int
    skip_channels: int
    channels: int
    scale: Pair


@dataclass(frozen=True)
class DecoderLevel:
    """One level of the way up: `grown` steps until it is cut to size, `joined` until the skip connection comes in."""

    steps: tuple[Step, ...]
    grown: int
    joined: int
    skip_channels: int
    channels: int
    scale: Pair


@dataclass(frozen=True)
class Plan:
    """All layers of a network; the decoder begins with its coarsest level."""

    num_channels: int
    encoder: tuple[EncoderLevel, ...]
    bottleneck: tuple[Step, ...]
    decoder: tuple[DecoderLevel, ...]

    @property
    def channels(self) -> int:
        """Number of channels behind the decoder."""
        return self.decoder[-1].channels


def make_plan(design: Design, num_channels: int = UNKNOWN) -> Plan:
    """Return the plan of a design.

    Args:
        design: The design.
        num_channels: Channels of the input, or `UNKNOWN`.

    Raises:
        DesignError: It cannot work; the error knows the entry.
    """
    _check_directions(design)
    encoder = _plan_encoder(design, num_channels)
    _check_scales(design)
    channels = encoder[-1].channels
    bottleneck = _plan_steps("bottleneck", list(enumerate(design.bottleneck)), channels, channels)
    decoder = _plan_decoder(design, encoder, channels)
    return Plan(num_channels, encoder, bottleneck, decoder)


def plan_rows(plan: Plan, size: Pair, num_targets: int) -> list[tuple[str, str]]:
    """Return (part, size) of each part; a size is channels x bins x frames, of the masks target x channel x ..."""
    rows = [("input", _text(plan.num_channels, *size))]
    sizes = [size]
    # The finest decoder level may have no skip connection.
    skips = [level.skip_channels for level in reversed(plan.decoder)]
    for number, (level, skip) in enumerate(zip(plan.encoder, skips, strict=True), start=1):
        if skip:
            rows.append((f"skip {number}", _text(skip, *sizes[-1])))
        sizes.append(_divide(sizes[-1], level.scale))
        rows.append((f"encoder {number}", _text(level.channels, *sizes[-1])))
    if plan.bottleneck:
        rows.append(("bottleneck", _text(plan.encoder[-1].channels, *sizes[-1])))
    for number, up in zip(range(len(plan.decoder), 0, -1), plan.decoder, strict=True):
        rows.append((f"decoder {number}", _text(up.channels, *sizes[number - 1])))
    return [*rows, ("masks", _text(num_targets, plan.num_channels, *size))]


def _plan_encoder(design: Design, num_channels: int) -> tuple[EncoderLevel, ...]:
    levels: list[EncoderLevel] = []
    channels = num_channels
    for level in range(design.max_layers):
        layers = _active(design.encoder, below=design.max_layers - 1 - level)
        steps = _plan_steps("encoder", layers, channels, design.hidden_channels * 2**level)
        reducing = [place for place, step in enumerate(steps) if step.layer.down != (1, 1)]
        split = reducing[0] if reducing else len(steps)
        at_split = steps[split - 1].after if split else channels
        is_input = level == 0 and not any(step.layer.mixes for step in steps[:split])
        channels = steps[-1].after if steps else channels
        scale = _product(step.layer.down for step in steps)
        levels.append(EncoderLevel(steps, split, 0 if is_input else at_split, channels, scale))
    return tuple(levels)


def _plan_decoder(design: Design, encoder: Sequence[EncoderLevel], channels: int) -> tuple[DecoderLevel, ...]:
    levels: list[DecoderLevel] = []
    for number, down in enumerate(reversed(encoder)):
        layers = _active(design.decoder, below=number)
        growing = [place for place, (_, layer) in enumerate(layers) if layer.up != (1, 1)]
        grown = growing[-1] + 1 if growing else 0
        mixing = [place for place, (_, layer) in enumerate(layers) if place >= grown and layer.mixes]
        joined = mixing[0] if mixing else len(layers)
        skip = down.skip_channels if design.use_skip else 0
        width = down.skip_channels or design.hidden_channels
        first = _plan_steps("decoder", layers[:joined], channels, width)
        channels = (first[-1].after if first else channels) + skip
        rest = _plan_steps("decoder", layers[joined:], channels, width)
        channels = rest[-1].after if rest else channels
        scale = _product(layer.up for _, layer in layers)
        levels.append(DecoderLevel((*first, *rest), grown, joined, skip, channels, scale))
    return tuple(levels)


def _plan_steps(section: str, layers: Sequence[tuple[int, Layer]], channels: int, width: int) -> tuple[Step, ...]:
    steps: list[Step] = []
    for place, (index, layer) in enumerate(layers):
        after = width if layer.sets_channels else channels
        if channels != UNKNOWN and (problem := layer.undivided(channels)):
            raise DesignError(section, index, problem)
        following = layers[place + 1][1].word if place + 1 < len(layers) else ""
        # These subtract the mean of each channel, and with it whatever the bias added.
        bias = following not in ("batch_norm", "instance_norm")
        steps.append(Step(layer, index, channels, after, bias))
        channels = after
    return tuple(steps)


def _active(layers: Sequence[Layer], below: int) -> list[tuple[int, Layer]]:
    """Return the layers, numbered, of a level with so many deeper ones below it."""
    return [
        (index, layer)
        for index, layer in enumerate(layers)
        if layer.options.get("levels") is None or below < layer.options["levels"]
    ]


def _check_directions(design: Design) -> None:
    for section, layers in (
        ("encoder", design.encoder),
        ("decoder", design.decoder),
        ("bottleneck", design.bottleneck),
    ):
        for index, layer in enumerate(layers):
            if layer.up != (1, 1) and section != "decoder":
                raise DesignError(section, index, f"{layer.word} enlarges, which only a decoder may; move it there")
            if layer.down != (1, 1) and section != "encoder":
                raise DesignError(section, index, f"{layer.word} reduces, which only an encoder may; move it there")


def _check_scales(design: Design) -> None:
    down, up = _product(layer.down for layer in design.encoder), _product(layer.up for layer in design.decoder)
    if down == up:
        return
    sizes = [EXAMPLE_SIZE]
    lines = []
    for level in range(1, design.max_layers + 1):
        sizes.append(_divide(sizes[-1], down))
        lines.append(f"encoder {level}: {_text(*sizes[-2])} becomes {_text(*sizes[-1])}")
    size = sizes[-1]
    for level in range(design.max_layers, 0, -1):
        grown = (size[0] * up[0], size[1] * up[1])
        lines.append(f"decoder {level}: {_text(*size)} becomes {_text(*grown)}, needed {_text(*sizes[level - 1])}")
        size = grown
    raise DesignError(
        "decoder",
        None,
        f"each level enlarges by {_text(*up)} (bins x frames), but the encoder's reduces by {_text(*down)}; make them "
        f"equal. Level by level:\n  " + "\n  ".join(lines),
    )


def _product(scales: Iterable[Pair]) -> Pair:
    pairs = list(scales)
    return math.prod(bins for bins, _ in pairs), math.prod(frames for _, frames in pairs)


def _divide(size: Pair, scale: Pair) -> Pair:
    return -(-size[0] // scale[0]), -(-size[1] // scale[1])


def _text(*numbers: int) -> str:
    return " x ".join(map(str, numbers))
