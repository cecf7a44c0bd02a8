"""Sizes of the levels, from the settings alone: params and networks check and build from the same plan. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auralflow_core.errors import ConfigError

ATTENTION_HEADS = 4
"""Heads of the local attention in a residual branch; the checkpoints know no other number."""


@dataclass(frozen=True)
class HybridLevel:
    """One level of the two branches, counted from the outside.

    Attributes:
        bins: Frequencies that come in; 1 once the branches are one.
        width: Channels that go out, of the frequency branch.
        time_width: Channels that go out, of the time branch.
        merges: Whether all frequencies become one and the branches are added.
    """

    bins: int
    width: int
    time_width: int
    merges: bool

    @property
    def is_split(self) -> bool:
        """Whether there are two branches at this level."""
        return self.bins > 1


def hybrid_levels(
    *,
    channels: int,
    channels_time: int | None,
    growth: float,
    nfft: int,
    depth: int,
    kernel_size: int,
    stride: int,
) -> list[HybridLevel]:
    """Return the levels of a hybrid network.

    Frequencies are strided like time until a kernel holds all of them; that level's convolution has no padding and
    leaves one, and from there on the branches are one.

    Raises:
        ConfigError: A stride would not divide what it strides over, so that the branches would not fit together.
    """
    if kernel_size != 2 * stride:
        raise ConfigError(
            f"kernel_size {kernel_size} is not twice stride {stride}: levels would not divide their input evenly; set "
            f"kernel_size to {2 * stride}"
        )
    levels: list[HybridLevel] = []
    bins, width, time_width = nfft // 2, channels, channels_time or channels
    for _ in range(depth):
        merges = 1 < bins <= kernel_size
        if bins > 1 and (bins % stride or (merges and bins != kernel_size)):
            sizes = ", ".join(str(4 * stride**power) for power in range(2, 7))
            raise ConfigError(
                f"nfft {nfft} leaves {bins} frequencies at level {len(levels) + 1} of {depth}, which stride {stride} "
                f"and kernel_size {kernel_size} do not fit; use a size that does at any depth: {sizes}"
            )
        if merges:
            width = time_width = max(width, time_width)
        levels.append(HybridLevel(bins, width, time_width, merges))
        bins = 1 if merges else max(1, bins // stride)
        width, time_width = int(growth * width), int(growth * time_width)
    return levels


def check_residual_branches(widths: Sequence[int], compress: float, attention_from: int) -> None:
    """Check that the residual branches of levels of these widths have channels, and attention a share for each head.

    Raises:
        ConfigError: One has none, or a number that its heads cannot share.
    """
    for index, width in enumerate(widths):
        hidden = int(width / compress)
        if hidden < 1:
            raise ConfigError(
                f"dconv_comp {compress:g} leaves no channel of the {width} at level {index + 1}; lower it"
            )
        if index >= attention_from and hidden % ATTENTION_HEADS:
            raise ConfigError(
                f"the residual branch of level {index + 1} has {width} / dconv_comp {compress:g} = {hidden} channels, "
                f"which {ATTENTION_HEADS} heads of attention cannot share; change channels or dconv_comp, or set "
                f"dconv_attn to {len(widths)} for no attention"
            )


def check_groups(widths: Sequence[int], groups: int, norm_from: int) -> None:
    """Check that the normalized levels' channels divide into groups.

    Raises:
        ConfigError: They do not.
    """
    # A level's normalizations see its own channels and, on the way up, those of the level above it.
    first = norm_from - 1 if norm_from < len(widths) else len(widths)
    for index, width in enumerate(widths[first:], start=first):
        if width % groups:
            raise ConfigError(
                f"norm_groups {groups} does not divide the {width} channels of level {index + 1}; change it, or set "
                f"norm_starts to {len(widths)} for no normalization"
            )


def check_tokens(width: int, heads: int) -> None:
    """Check that a transformer's channels divide into heads and into the quarters of its position embedding.

    Raises:
        ConfigError: They do not.
    """
    if width % heads or width % 4:
        raise ConfigError(
            f"the transformer has {width} channels, which do not divide by t_heads {heads} and by 4; change t_heads, "
            "or set bottom_channels to a number that does"
        )


def check_weights(weights: Sequence[Sequence[float]] | None, members: int, targets: int | None = None) -> None:
    """Check a bag's weights: one row a member, one number a target, and some weight for each target.

    Raises:
        ConfigError: A number is missing, or no member counts for a target.
    """
    if not weights:
        return
    if len(weights) != members:
        raise ConfigError(f"weights has {len(weights)} rows for {members} members; give one row a member")
    wanted = targets or len(weights[0])
    for index, row in enumerate(weights):
        if len(row) != wanted:
            raise ConfigError(
                f"weights: row {index + 1} has {len(row)} numbers for {wanted} targets; give one a target"
            )
    for target in range(wanted):
        if not sum(row[target] for row in weights) > 0:
            raise ConfigError(f"weights: no member counts for target {target + 1}; give one a weight above 0")
