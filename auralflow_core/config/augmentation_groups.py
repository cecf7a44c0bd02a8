"""The groups inside `dataset.augmentations`: what becomes of stems and mixtures before a model is trained with them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from auralflow_core.config.group import Count, Group


class Augmentation(Group):
    """Base of the augmentations: a probability, and ranges `min_<value>` to `max_<value>` to draw from."""

    p: float = Field(0.5, ge=0, le=1, description="probability; 0: never")

    @model_validator(mode="after")
    def _ranges_are_not_empty(self) -> Augmentation:
        for value in self.ranges():
            low, high = getattr(self, f"min_{value}"), getattr(self, f"max_{value}")
            if low > high:
                raise ValueError(f"min_{value} {low:g} is above max_{value} {high:g}; exchange them")
        return self

    def ranges(self) -> list[str]:
        """Return the names of the values that are drawn."""
        return [name.removeprefix("min_") for name in type(self).model_fields if name.startswith("min_")]


class Gain(Augmentation):
    """A level."""

    min_db: float = Field(-6, ge=-60, le=20, description="lowest gain in dB")
    max_db: float = Field(6, ge=-60, le=20, description="highest gain in dB")


class Pitch(Augmentation):
    """A transposition."""

    min_semitones: float = Field(-2, ge=-12, le=12, description="lowest transposition in semitones")
    max_semitones: float = Field(2, ge=-12, le=12, description="highest transposition in semitones")


class Tempo(Augmentation):
    """Another speed at the same pitch."""

    min_rate: float = Field(0.9, ge=0.5, le=2, description="slowest, as a multiple of the song's tempo")
    max_rate: float = Field(1.1, ge=0.5, le=2, description="fastest, as a multiple of the song's tempo")


class Equalizer(Augmentation):
    """Peaks and dips of the spectrum."""

    bands: Count = Field(3, le=16, description="number of peaks or dips")
    min_hz: float = Field(60, ge=10, le=384_000, description="lowest centre in Hz")
    max_hz: float = Field(12_000, ge=10, le=384_000, description="highest centre in Hz")
    min_db: float = Field(-9, ge=-40, le=20, description="gain of the deepest dip in dB")
    max_db: float = Field(9, ge=-40, le=20, description="gain of the highest peak in dB")
    min_q: float = Field(0.5, ge=0.1, le=10, description="quality of the widest")
    max_q: float = Field(2, ge=0.1, le=10, description="quality of the narrowest")


class LowPass(Augmentation):
    """Treble cut, 12 dB an octave."""

    min_hz: float = Field(3000, ge=20, le=384_000, description="lowest cut-off in Hz")
    max_hz: float = Field(16_000, ge=20, le=384_000, description="highest cut-off in Hz")


class HighPass(Augmentation):
    """Bass cut, 12 dB an octave."""

    min_hz: float = Field(20, ge=20, le=384_000, description="lowest cut-off in Hz")
    max_hz: float = Field(300, ge=20, le=384_000, description="highest cut-off in Hz")


class Reverb(Augmentation):
    """A room."""

    min_seconds: float = Field(0.2, gt=0, le=10, description="shortest time in which it decays by 60 dB")
    max_seconds: float = Field(1.5, gt=0, le=10, description="longest time in which it decays by 60 dB")
    min_wet_db: float = Field(-24, ge=-60, le=20, description="lowest level of the room beside the direct sound, in dB")
    max_wet_db: float = Field(-6, ge=-60, le=20, description="highest level of the room beside the direct sound, in dB")


class Distortion(Augmentation):
    """A saturated amplifier."""

    min_drive_db: float = Field(3, ge=0, le=60, description="weakest drive in dB")
    max_drive_db: float = Field(18, ge=0, le=60, description="strongest drive in dB")


class Clipping(Augmentation):
    """Peaks cut off."""

    min_cut_db: float = Field(1, ge=0, le=40, description="least that is cut off the highest peak, in dB")
    max_cut_db: float = Field(6, ge=0, le=40, description="most that is cut off the highest peak, in dB")


class Noise(Augmentation):
    """White noise."""

    min_snr_db: float = Field(20, ge=-20, le=120, description="lowest ratio of signal to noise in dB")
    max_snr_db: float = Field(60, ge=-20, le=120, description="highest ratio of signal to noise in dB")


class MP3(Augmentation):
    """What MP3 loses."""

    min_kbps: float = Field(64, ge=64, le=320, description="lowest bit rate in kbit/s; the nearest that MP3 has")
    max_kbps: float = Field(320, ge=64, le=320, description="highest bit rate in kbit/s")


class _Filters(Group):
    """What is linear, and changes no place and no name."""

    eq: Equalizer | None = Field(None, description="peaks and dips of the spectrum")
    high_pass: HighPass | None = Field(None, description="bass cut")
    low_pass: LowPass | None = Field(None, description="treble cut")
    reverb: Reverb | None = Field(None, description="a room")


class _Damage(Group):
    """What is not linear."""

    distortion: Distortion | None = Field(None, description="saturation")
    clipping: Clipping | None = Field(None, description="peaks cut off")
    noise: Noise | None = Field(None, description="white noise")
    mp3: MP3 | None = Field(None, description="what MP3 loses")


class _Moves(Group):
    """What a target has to follow."""

    gain: Gain | None = Field(None, description="a level")
    polarity: Augmentation | None = Field(None, description="the negative of every sample")
    channel_swap: Augmentation | None = Field(None, description="left and right exchanged")
    time_reversal: Augmentation | None = Field(None, description="played backwards")
    pitch: Pitch | None = Field(None, description="a transposition (auralflow[augment])")


class SongAugmentations(_Filters, _Moves):
    """What happens to all stems of a chunk alike, as if it happened to the song."""

    tempo: Tempo | None = Field(None, description="another speed at the same pitch (auralflow[augment])")


class StemAugmentations(_Damage, _Filters, _Moves):
    """What happens to each stem of a chunk by itself; the mixture is their sum."""

    mute: Augmentation | None = Field(None, description="silence")


class MixtureAugmentations(_Damage, _Filters):
    """What happens to the mixture alone, after which it is no sum any more: the model has to undo it."""


class AugmentationsConfig(Group):
    """What becomes of training chunks before a model sees them."""

    device: Literal["worker", "model"] = Field(
        "worker", description="where: in the processes that read chunks, or on the model's device what can run there"
    )
    song: SongAugmentations = Field(SongAugmentations(), description="all stems alike")
    stems: StemAugmentations = Field(StemAugmentations(), description="each stem by itself")
    stems_by_name: dict[str, StemAugmentations] = Field(
        default_factory=dict,
        description="others for stems by pattern of names, in place of those of `stems`: {'drums': {pitch: {p: 0}}}",
    )
    mixture: MixtureAugmentations = Field(MixtureAugmentations(), description="the mixture alone")

    @property
    def used(self) -> set[str]:
        """The names of all that may happen."""
        groups: list[Group] = [self.song, self.stems, self.mixture, *self.stems_by_name.values()]
        return {name for group in groups for name, settings in group if settings is not None and settings.p}

    @model_validator(mode="after")
    def _mixtures_end_where_they_can(self) -> AugmentationsConfig:
        if self.device == "model" and self.mixture.mp3 and self.mixture.mp3.p:
            raise ValueError(
                "mixture.mp3 runs on the CPU, after what would run on the model's device; set device to worker, or "
                "leave it out"
            )
        return self
