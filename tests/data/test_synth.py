"""The song synthesiser: its songs' form and levels, its signal tools against plain references, its data sets."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from auralflow_core.data.synth import STEMS, dsp, render_song, tones, voice, write_songs
from auralflow_core.data.synth.plan import Note, Plan, plan_song
from auralflow_core.data.synth.write import song_name
from auralflow_core.errors import AuralflowError, DataError

Audio = NDArray[np.float32]
# Low enough to be quick; tempo, key and notes do not depend on the sample rate.
RATE = 8000


def energy(signal: Audio) -> float:
    return float(np.sum(np.square(signal, dtype=np.float64)))


def digest(song: dict[str, Audio]) -> str:
    return hashlib.sha256(b"".join(song[stem].tobytes() for stem in STEMS)).hexdigest()


def heard_pitch(signal: dsp.Signal, rate: int, lowest: float = 60.0, highest: float = 1000.0) -> float:
    """The pitch in Hz at the first strong peak of the autocorrelation."""
    spectrum = np.fft.rfft(signal, 2 * len(signal))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)
    lags = np.arange(int(rate / highest), int(rate / lowest))
    strong = correlation[lags] > 0.85 * correlation[lags].max()
    first = lags[np.argmax(strong)]
    while correlation[first + 1] > correlation[first]:
        first += 1
    return float(rate / first)


def plans(count: int) -> list[Plan]:
    return [plan_song(np.random.default_rng(seed), 24.0) for seed in range(count)]


# --- songs ---


@pytest.mark.parametrize(("seconds", "rate"), [(1.5, 44100), (0.37, 22050), (0.001, 48000), (2.0, RATE)])
def test_a_song_has_all_stems_in_stereo_at_the_asked_length(seconds: float, rate: int) -> None:
    song = render_song(3, seconds, rate)
    assert tuple(song) == STEMS
    for stem in song.values():
        assert stem.shape == (2, round(seconds * rate))
        assert stem.dtype == np.float32
        assert np.isfinite(stem).all()


@settings(max_examples=8, deadline=None)
@given(seed=st.one_of(st.integers(0, 2**64), st.lists(st.integers(0, 2**32), min_size=1, max_size=4)))
def test_from_twelve_seconds_on_every_stem_sounds_at_its_level(seed: int | list[int]) -> None:
    song = render_song(seed, 12.0, RATE)
    mixture = np.sum(list(song.values()), axis=0)
    assert 0.8 < np.abs(mixture).max() < 0.96 or max(np.abs(stem).max() for stem in song.values()) > 0.8
    assert max(np.abs(mixture).max(), *(np.abs(stem).max() for stem in song.values())) < 0.96
    total = energy(mixture)
    for name, stem in song.items():
        assert energy(stem) > 0.01 * total, name
    as_vocals = 10 * np.log10(energy(song["vocals"]) / energy(mixture - song["vocals"]))
    assert -4.1 < as_vocals < -1.9


def test_stems_lie_on_the_grid_of_sixteen_bits() -> None:
    for stem in render_song(5, 2.0, RATE).values():
        scaled = stem.astype(np.float64) * 32768
        assert np.array_equal(scaled, np.rint(scaled))


def test_a_seed_gives_the_same_bytes_in_another_process_whatever_the_global_generator() -> None:
    here = digest(render_song((4, 0, 2), 8.0, RATE))
    program = (
        "import hashlib, numpy as np; np.random.seed(11); "
        "from auralflow_core.data.synth import STEMS, render_song; "
        f"song = render_song((4, 0, 2), 8.0, {RATE}); "
        "print(hashlib.sha256(b''.join(song[s].tobytes() for s in STEMS)).hexdigest())"
    )
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": root}
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert there.stdout.strip() == here


def test_rendering_leaves_the_global_generator_alone() -> None:
    state = repr(np.random.get_state())
    render_song(1, 0.5, RATE)
    assert repr(np.random.get_state()) == state


def test_seeds_give_songs_that_differ_in_every_stem() -> None:
    songs = [render_song(seed, 6.0, RATE) for seed in (1, 2, (1, 0), (1, 1))]
    for index, one in enumerate(songs):
        for other in songs[index + 1 :]:
            for stem in STEMS:
                likeness = float(np.vdot(one[stem], other[stem])) / np.sqrt(energy(one[stem]) * energy(other[stem]))
                assert abs(likeness) < 0.5


def test_seeds_differ_in_tempo_key_metre_and_form() -> None:
    drawn = plans(60)
    tempi = [plan.tempo for plan in drawn]
    assert min(tempi) < 85 and max(tempi) > 135
    assert len({plan.tonic for plan in drawn}) >= 10
    assert {plan.mode for plan in drawn} == {"major", "minor", "dorian", "mixolydian"}
    assert {plan.beats for plan in drawn} == {3, 4}
    assert len({tuple(section.kind for section in plan.sections) for plan in drawn}) > 3
    assert len({plan.groove for plan in drawn}) > 30


def test_sections_follow_each_other_and_cover_the_song() -> None:
    for plan in plans(40):
        at = 0
        for section in plan.sections:
            assert section.first_bar == at
            at += len(section.chords)
        assert plan.time(at, 0) >= plan.seconds


def test_chords_belong_to_the_key() -> None:
    for plan in plans(40):
        for section in plan.sections:
            for chord in section.chords:
                assert set(chord.notes) <= set(plan.scale())
                assert (chord.notes[2] - chord.root) % 12 == 7, "a perfect fifth: no diminished chords"


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 601.0])
def test_a_length_out_of_range_is_refused(seconds: float) -> None:
    with pytest.raises(DataError, match=r"seconds .*at most 600 seconds"):
        render_song(1, seconds)


@pytest.mark.parametrize("seed", [-1, [], [1, -2]])
def test_a_seed_out_of_range_is_refused(seed: int | list[int]) -> None:
    with pytest.raises(DataError, match="seed"):
        render_song(seed, 1.0)


@pytest.mark.parametrize("rate", [0, 7999, 192001])
def test_a_sample_rate_out_of_range_is_refused(rate: int) -> None:
    with pytest.raises(DataError, match="8000 to 192000"):
        render_song(1, 1.0, rate)


@pytest.mark.parametrize("seed", [0, 1])
def test_an_ideal_ratio_mask_separates_the_vocals(seed: int) -> None:
    """The task can be solved: oracle masks on a plain STFT reach 8 dB where the mixture itself has about -3."""
    song = render_song(seed, 8.0, 16000)
    hop = 512
    window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop))

    def frames(signal: Audio) -> NDArray[np.complex128]:
        starts = np.arange(0, signal.shape[-1] - 2 * hop, hop)
        return np.fft.rfft(signal[:, starts[:, None] + np.arange(2 * hop)] * window)

    spectra = {stem: frames(signal) for stem, signal in song.items()}
    powers = {stem: np.abs(spectrum) ** 2 for stem, spectrum in spectra.items()}
    mask = powers["vocals"] / (sum(powers.values()) + 1e-12)
    estimate = np.fft.irfft(mask * sum(spectra.values())) * window
    target = np.fft.irfft(spectra["vocals"]) * window
    assert 10 * np.log10(np.sum(target**2) / np.sum((target - estimate) ** 2)) > 8.0


# --- the players' tools ---


@settings(max_examples=20, deadline=None)
@given(length=st.integers(1, 40000), taps=st.integers(1, 700), seed=st.integers(0, 99))
def test_block_convolution_is_convolution(length: int, taps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    signal, kernels = rng.standard_normal(length), rng.standard_normal((2, taps))
    expected = np.stack([np.convolve(signal, kernel)[:length] for kernel in kernels])
    np.testing.assert_allclose(dsp.convolve(signal, kernels), expected, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(length=st.integers(1, 60000), rate=st.sampled_from([8000, 44100, 96000]))
def test_a_moving_filter_of_ones_changes_nothing(length: int, rate: int) -> None:
    signal = np.random.default_rng(length).standard_normal(length)
    times, bins = dsp.frame_grid(length, rate)
    np.testing.assert_allclose(dsp.filter_moving(signal, np.ones((len(times), len(bins))), rate), signal, atol=1e-12)


def test_a_moving_filter_follows_its_gains_in_time() -> None:
    signal = np.sin(2 * np.pi * 1000.0 * np.arange(44100) / 44100)
    times, bins = dsp.frame_grid(44100, 44100)
    gains = np.where(times < 0.5, 1.0, 0.1)[:, None] * np.ones(len(bins))
    filtered = dsp.filter_moving(signal, gains, 44100)
    assert dsp.rms(filtered[2000:20000]) == pytest.approx(dsp.rms(signal), rel=0.01)
    assert dsp.rms(filtered[24000:42000]) == pytest.approx(0.1 * dsp.rms(signal), rel=0.01)


@pytest.mark.parametrize("position", [-1.0, -0.3, 0.0, 0.8, 1.0])
def test_panning_keeps_the_power(position: float) -> None:
    stereo = dsp.pan(np.ones(4), position)
    assert np.sum(stereo[:, 0] ** 2) == pytest.approx(2.0)
    assert np.sign(round(stereo[1, 0] - stereo[0, 0], 9)) == np.sign(position)


@pytest.mark.parametrize("pitch", [82.4, 220.0, 659.3])
@pytest.mark.parametrize("kind", ["plucked", "saw", "square", "organ", "fm", "sub"])
def test_instruments_play_the_asked_pitch_without_clicks_at_the_start(kind: str, pitch: float) -> None:
    rng, rate = np.random.default_rng(1), 44100
    tone = {
        "plucked": lambda: tones.plucked_tone(rng, rate, 0.5, 3.0, 0.13),
        "saw": lambda: tones.saw_tone(rng, rate, 1, 0.0, 3000.0),
        "square": lambda: tones.saw_tone(rng, rate, 1, 0.0, 3000.0, odd_only=True),
        "organ": lambda: tones.organ_tone(np.random.default_rng(2), rate),
        "fm": lambda: tones.fm_tone(rng, rate, 1.0, 1.5, 1.0),
        "sub": lambda: tones.sub_tone(rng, rate),
    }[kind]()
    sound = tone(pitch, 0.5, 0.8)
    assert len(sound) == rate // 2
    assert 0.3 < np.abs(sound).max() < 2.0
    assert sound[0] == 0.0
    # An organ may sound its sub-octave.
    heard = heard_pitch(sound[2000:], rate, lowest=35.0)
    assert min(abs(heard / pitch - 1.0), abs(2 * heard / pitch - 1.0) if kind == "organ" else 1.0) < 0.015


def test_a_plucked_string_fades_as_long_as_its_sustain_and_its_treble_dies_first() -> None:
    rate = 44100
    sound = tones.plucked_tone(np.random.default_rng(3), rate, 0.2, 2.0, 0.13)(220.0, 1.5, 1.0)
    spectra = [np.abs(np.fft.rfft(sound[round(at * rate) :][: rate // 4] * np.hanning(rate // 4))) for at in (0.1, 1.1)]
    falls = [20 * np.log10(spectra[0][55 * n] / spectra[1][55 * n]) for n in (1, 8)]
    assert falls[0] == pytest.approx(30.0, abs=3.0), "60 dB in 2 s are 30 dB a second"
    assert falls[1] > falls[0] + 3.0


def test_notes_are_placed_and_released() -> None:
    rate = 8000
    tone = tones.saw_tone(np.random.default_rng(0), rate, 1, 0.0, 2000.0)
    notes = [Note(0.25, 0.25, 60, 1.0), Note(0.75, 10.0, 64, 0.5)]
    track = tones.play(notes, tone, rate, rate, release=0.05)
    assert not track[: rate // 4].any()
    assert np.abs(track[rate // 4 : rate // 2]).max() > 0.3
    assert not track[round(0.305 * rate) + rate // 4 : 3 * rate // 4].any()
    assert np.abs(track[-100:]).max() > 0.1


@pytest.mark.parametrize("centre", [50.0, 58.0, 67.0])
def test_the_singer_holds_the_pitch_and_breathes_between_phrases(centre: float) -> None:
    rate = 16000
    singer = voice.Voice(centre, 1.1, 0.6, 0.03, 0.0, 5.0, 0.06, (0, 1, 5))
    notes = [Note(0.5, 0.8, centre, 1.0), Note(2.5, 0.8, centre + 4, 1.0)]
    track = voice.sing(notes, singer, np.random.default_rng(4), 4 * rate, rate)
    for note in notes:
        middle = track[round((note.start + 0.3) * rate) : round((note.start + 0.7) * rate)]
        semitones = 12 * np.log2(heard_pitch(middle, rate) / dsp.frequency(note.pitch))
        assert abs(semitones) < 0.6
    assert dsp.rms(track[round(1.6 * rate) : round(2.1 * rate)]) < 0.01 * dsp.rms(track[round(0.8 * rate) :][:4000])


def test_vowels_move_the_formants() -> None:
    rate = 16000
    centroids = []
    for vowel in (2, 3):
        singer = voice.Voice(48.0, 1.0, 0.6, 0.02, 0.0, 5.0, 0.06, (vowel,))
        track = voice.sing([Note(0.5, 1.0, 48, 1.0)], singer, np.random.default_rng(1), 2 * rate, rate)
        spectrum = np.abs(np.fft.rfft(track[rate : rate + 4096] * np.hanning(4096))) ** 2
        bins = np.fft.rfftfreq(4096, 1 / rate)
        upper = (bins > 1400) & (bins < 3500)
        centroids.append(spectrum[upper].sum() / spectrum.sum())
    assert centroids[0] > 2 * centroids[1], "/i/ has its second formant near 2300 Hz, open /o/ below 1000 Hz"


# --- data sets ---


def read_song(folder: Path) -> dict[str, NDArray[np.int16]]:
    return {name: soundfile.read(folder / f"{name}.wav", dtype="int16")[0] for name in ("mixture", *STEMS)}


def test_a_data_set_has_the_layout_of_musdb_and_exact_mixtures(tmp_path: Path) -> None:
    write_songs(tmp_path, train=2, valid=1, test=0, seconds=1.25, seed=7)
    assert {path.name: len(list(path.iterdir())) for path in tmp_path.iterdir()} == {"train": 2, "valid": 1}
    for folder in tmp_path.glob("*/*"):
        assert sorted(path.name for path in folder.iterdir()) == sorted(f"{n}.wav" for n in ("mixture", *STEMS))
        info = soundfile.info(str(folder / "mixture.wav"))
        assert (info.samplerate, info.channels, info.subtype, info.frames) == (44100, 2, "PCM_16", 55125)
        song = read_song(folder)
        assert np.array_equal(song["mixture"], sum(song[stem].astype(np.int32) for stem in STEMS))


def test_written_samples_are_the_rendered_ones(tmp_path: Path) -> None:
    write_songs(tmp_path, train=0, valid=0, test=1, seconds=0.5, seed=9)
    written = read_song(tmp_path / "test" / song_name(9, "test", 0))
    for stem, audio in render_song((9, 2, 0), 0.5).items():
        assert np.array_equal(written[stem], np.rint(audio.T.astype(np.float64) * 32768).astype(np.int16))


def test_songs_that_stand_are_kept_and_broken_ones_are_written_again(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    write_songs(tmp_path, train=2, valid=0, test=0, seconds=0.5, seed=1)
    whole, broken = (tmp_path / "train" / song_name(1, "train", index) for index in range(2))
    before = (broken / "bass.wav").read_bytes()
    (broken / "bass.wav").unlink()
    (whole / "mine.txt").write_text("keep")
    write_songs(
        tmp_path,
        train=2,
        valid=0,
        test=1,
        seconds=0.5,
        seed=1,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert (whole / "mine.txt").read_text() == "keep"
    assert (broken / "bass.wav").read_bytes() == before
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_a_song_that_could_not_be_written_whole_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = soundfile.write, []

    def fail_at_the_third(*args: object, **kwargs: object) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        write(*args, **kwargs)

    monkeypatch.setattr(soundfile, "write", fail_at_the_third)
    with pytest.raises(AuralflowError, match="disk is full"):
        write_songs(tmp_path, train=1, valid=0, test=0, seconds=0.5, seed=1)
    assert list((tmp_path / "train").iterdir()) == []


def test_a_song_of_another_length_is_not_taken_for_the_asked_one(tmp_path: Path) -> None:
    write_songs(tmp_path, train=1, valid=0, test=0, seconds=0.5, seed=1)
    with pytest.raises(DataError, match=r"0\.5 s, but 0\.75 s are asked for"):
        write_songs(tmp_path, train=1, valid=0, test=0, seconds=0.75, seed=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"train": -1}, "train -1"),
        ({"test": -3}, "test -3"),
        ({"seconds": 0.0}, "seconds 0"),
        ({"seconds": -2.0}, "seconds -2"),
        ({"seed": -5}, "seed -5"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_written(
    tmp_path: Path, wrong: dict[str, float], message: str
) -> None:
    request = {"train": 1, "valid": 1, "test": 1, "seconds": 1.0, "seed": 1} | wrong
    with pytest.raises(DataError, match=message):
        write_songs(tmp_path / "set", **request)  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()


def test_no_two_songs_of_a_data_set_share_a_name() -> None:
    names = [song_name(3, split, index) for split in ("train", "valid", "test") for index in range(1200)]
    assert len(set(names)) == len(names)
    assert song_name(3, "train", 0) != song_name(4, "train", 0)
