"""The group inside `dataset` that says which excerpts of which songs become training chunks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from auralflow_core.config.group import Group, Patterns

_MIN_MEAN_ABS = 1e-3


def _split_numbers(value: Any) -> Any:
    """Accept one number, and a list written as `0.2,0.02`."""
    if isinstance(value, (int, float)):
        return [value]
    return [number.strip() for number in value.split(",") if number.strip()] if isinstance(value, str) else value


Probability = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Level = Annotated[float, Field(ge=-60, le=20)]


class SamplingConfig(Group):
    """How training chunks are drawn; validation keeps its fixed grid of aligned chunks."""

    stems: Literal["auto", "aligned", "independent"] = Field(
        "auto",
        description="a chunk's stems are one excerpt of one song (aligned), or each an excerpt of any song that has "
        "the stem (independent); auto: independent where files hold one stem and belong to no song",
    )
    places: Literal["grid", "anywhere"] = Field(
        "grid",
        description="an epoch covers each song once without overlap, or has max_num_samples chunks from anywhere",
    )
    song_share: Literal["equal", "duration"] = Field(
        "equal", description="places anywhere: songs are drawn equally often, or the longer the oftener"
    )
    weights: dict[str, Weight] = Field(
        default_factory=dict,
        description="how often songs are drawn, by patterns of their names: {'*live*': 0.5}; 0: never",
    )
    mixture: Literal["given", "sum"] = Field(
        "given", description="the song's own mixture where nothing in the chunk was altered, or the sum of its stems"
    )
    missing_stems: Literal["refuse", "silence"] = Field(
        "refuse", description="what becomes of songs that lack a target: refused, or the target is silent"
    )
    balance: bool = Field(
        False, description="aligned: each target has an equal share of the chunks, in songs where it sounds"
    )
    min_mean_abs: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="chunks with a target whose mean absolute sample is lower are drawn again "
        f"(null: {_MIN_MEAN_ABS:g} with balance, else 0)",
    )
    retries: int = Field(10, ge=0, le=1000, description="how often a chunk is drawn again; the last one is taken")
    rest: Patterns | None = Field(
        None, description="independent: patterns of the stems besides the targets that join the mixture (null: all)"
    )
    remix: Probability = Field(0.0, description="probability that a chunk's stems come from different songs")
    mixup: Annotated[list[Probability], BeforeValidator(_split_numbers)] = Field(
        [], description="probabilities that a stem gets another excerpt of the same stem on top, and one more"
    )
    mixup_gain: tuple[Level, Level] = Field((-6.0, 0.0), description="lowest and highest gain of such excerpts, dB")

    @model_validator(mode="before")
    @classmethod
    def _stems_alone(cls, data: Any) -> Any:
        return {"stems": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _settings_fit(self) -> SamplingConfig:
        if self.stems == "independent" and self.balance:
            raise ValueError("independent stems are balanced already; leave out balance, or set stems to aligned")
        if self.mixup_gain[0] > self.mixup_gain[1]:
            raise ValueError(f"mixup_gain begins at {self.mixup_gain[0]:g} dB, above its end; exchange the two")
        return self

    @property
    def alters(self) -> bool:
        """Whether aligned chunks may be anything but what is planned."""
        return bool(self.level or self.remix or any(self.mixup))

    @property
    def level(self) -> float:
        """Mean absolute sample that a target has to reach."""
        if self.min_mean_abs is None:
            return _MIN_MEAN_ABS if self.balance else 0.0
        return self.min_mean_abs
