"""Which stem a file belongs to, by the words of its name: `Lead Vox 2` is vocals, `01_KickIn` is drums."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

MIXTURE, ACCOMPANIMENT, OTHER = "mixture", "accompaniment", "other"
USUAL_STEMS = ("vocals", "drums", "bass", OTHER)

# Names of whole stems; where a name holds several, the first of these is meant: "bass drum", "guitar mix".
_STEMS = {
    ACCOMPANIMENT: "accompaniment, instrumental, instrumentals, instrum, inst, backing track, background music",
    "vocals": "vocals, vocal, vox, voice, voices, voc, singing, singer, acapella, acappella, a cappella",
    "drums": "drums, drum, drum kit, drumkit, drum set",
    "bass": "bass, bass guitar, bass gtr, bassgtr",
    "guitar": "guitar, guitars, gtr, gtrs",
    "piano": "piano, pno",
    "percussion": "percussion, perc",
    "keys": "keys, keyboard, keyboards",
    "strings": "strings",
    "synth": "synth, synths, synthesizer",
    OTHER: "other, others, rest",
    MIXTURE: "mixture, mixtures, mix, mixes, full mix, fullmix, full, master, mixdown, preview, "
    "rough mix, mix preview, full preview",
}  # fmt: skip
# Names of what a stem is made of.
_TRACKS = {
    "vocals": "vocs, voxes, vocalist, vocalists, singers, leadvox, leadvocal, leadvocals, backingvox, backingvocals, "
    "bgv, bgvs, bv, bvs, bvox, lv, lvox, adlib, adlibs, ad lib, ad libs, choir, rap, rapper, soprano, alto, tenor",
    "drums": "kick, kik, kick drum, bass drum, bassdrum, bd, snare, snr, sn, sd, sidestick, rimshot, hihat, hihats, "
    "hat, hats, hh, tom, toms, cymbal, cymbals, cym, ride, crash, overhead, overheads, oh, ohs, ohl, ohr, shaker, "
    "shakers, tambourine, tamb, conga, congas, bongo, bongos, djembe, cajon, clap, claps, handclaps, cowbell, beats",
    "bass": "contrabass, bassline, basses",
    OTHER: "organ, hammond, rhodes, wurlitzer, wurli, moog, pad, pads, string, violin, violins, viola, violas, cello, "
    "cellos, celli, fiddle, brass, horn, horns, trumpet, trumpets, trombone, trombones, tuba, sax, saxophone, flute, "
    "clarinet, bass clarinet, bass trombone, bass flute, bassoon, oboe, reed, pipe, harmonica, accordion, banjo, "
    "mandolin, ukulele, harp, sitar, lap steel, pedal steel, vibraphone, glockenspiel, marimba, xylophone, "
    "chromatic percussion, chimes, bells, fx, sfx, sound effects, sample, samples, arp, synth lead, synth pad",
}  # fmt: skip
# What stands beside an instrument in the name of a track.
_BESIDE = (
    "lead ld main back backing bg bgd background harmony harmonies harm double dbl doubles l r c left right center "
    "centre mono stereo top bottom btm bot up down in out inside outside near far close room rooms amb ambience di "
    "amp mic mics cab clean dist distorted crunch rhythm rhy solo acoustic ac acou electric elec el nylon male female "
    "grand chorus verse bridge intro outro wet dry comp bus buss submix group high low mid hi lo rack floor verb "
    "reverb delay no minus without and kit set"
)
_NO_MUSIC = frozenset(("click", "clicks", "metronome", "click track", "talkback", "slate", "guide", "count in"))
_WITHOUT = frozenset(("no", "minus", "without"))

_PRIORITY = [*_STEMS]
SUMMED_STEMS = tuple(stem for stem in _STEMS if stem not in (ACCOMPANIMENT, MIXTURE))
_QUALIFIERS = frozenset(_BESIDE.split())
_EXACT = {word: stem for stem, words in _STEMS.items() for word in words.split(", ")}
_KNOWN = {word: stem for stem, words in _TRACKS.items() for word in words.split(", ")} | _EXACT
_LONGEST = 3
_TOKEN = re.compile(r"\d+|[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True)
class Instrument:
    """What a name says.

    Attributes:
        stem: The stem, `mixture`, or of what holds all but one stem `accompaniment` or `no drums`.
        is_whole: Whether that is the stem's own name, and not that of a part of it as `kick` is of drums.
    """

    stem: str
    is_whole: bool


@dataclass(frozen=True)
class Word:
    """A word or number of a name, in lower case, and where it is."""

    text: str
    start: int
    end: int

    @property
    def is_number(self) -> bool:
        """Whether it is one."""
        return self.text.isdigit()


def words(name: str) -> list[Word]:
    """Return the words and numbers of a name: `01_KickIn` has three."""
    found = []
    for token in _TOKEN.finditer(name):
        borders = [token.start(), *(token.start() + cut.start() for cut in _CAMEL.finditer(token[0])), token.end()]
        found += [Word(name[start:end].lower(), start, end) for start, end in pairwise(borders)]
    return found


def instrument(name: str) -> Instrument | None:
    """Return which stem the words of a name speak of, if any; numbers do not count."""
    texts = [word.text for word in words(name) if not word.is_number]
    if exact := _EXACT.get(" ".join(texts)) or _EXACT.get("".join(texts)):
        return Instrument(exact, is_whole=True)
    for at, text in enumerate(texts):
        missing = _KNOWN.get(texts[at + 1]) if text in _WITHOUT and at + 1 < len(texts) else None
        if missing:
            return Instrument(ACCOMPANIMENT if missing == "vocals" else f"no {missing}", is_whole=True)
    found = [_KNOWN[phrase] for phrase in _phrases(texts)]
    return Instrument(min(found, key=_PRIORITY.index), is_whole=False) if found else None


def is_no_music(name: str) -> bool:
    """Whether a name is that of a track which is in no mixture, such as the metronome's."""
    return " ".join(word.text for word in words(name) if not word.is_number) in _NO_MUSIC


def is_label(texts: Sequence[Word]) -> bool:
    """Whether some words could be the name of a stem or a track, and nothing else."""
    plain = [word.text for word in texts if not word.is_number]
    covered = {word for phrase in _phrases(plain) for word in phrase.split()}
    return bool(covered) and not texts[0].is_number and all(text in covered or text in _QUALIFIERS for text in plain)


def _phrases(texts: Sequence[str]) -> Iterator[str]:
    """Yield what is known, the longest first; a word counts once."""
    left = list(texts)
    for length in range(min(_LONGEST, len(left)), 0, -1):
        for at in range(len(left) - length + 1):
            phrase = " ".join(left[at : at + length])
            if phrase in _KNOWN:
                yield phrase
                left[at : at + length] = [""] * length
