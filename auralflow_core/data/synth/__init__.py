"""Small songs made of nothing but numbers: a multitrack data set for the demo and for tests.

A song is composed (`plan`, `parts`), played (`drums`, `bass`, `other`, `voice`, from the tones of `tones` and the
signal tools of `dsp`), balanced (`mix`) and written in the MUSDB18-HQ layout (`write`), all from one seed.
"""

from __future__ import annotations

from auralflow_core.data.synth.mix import STEMS, render_song
from auralflow_core.data.synth.write import write_songs

__all__ = ["STEMS", "render_song", "write_songs"]
