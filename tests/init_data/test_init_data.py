"""A folder that was never seen becomes a data set that trains, and nothing in it is changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from auralflow_core.config import DatasetConfig
from auralflow_core.data.cache import SongCache
from auralflow_core.data.described import DescribedDataset, read_description, write_description
from auralflow_core.errors import DataError
from auralflow_core.init_data import propose, read_stems


def lay(root: Path, names: Iterable[str]) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        soundfile.write(path, 0.1 * rng.standard_normal(16000), 8000)
    return root


def shape(root: Path, **options: Any) -> dict[str, list[str]]:
    """Return `split/song` -> stems, with the number of files where it is not one, and a `+` for a mixture."""

    def count(files: Path | tuple[Path, ...]) -> str:
        return "" if isinstance(files, Path) else f"={len(files)}"

    return {
        f"{song.split}/{song.name}": [
            *(name + count(files) for name, files in song.stems.items()),
            *(["+"] if song.mixture else []),
        ]
        for song in propose(root, **{"valid": 0.0, **options}).songs
    }


LAYOUTS: dict[str, tuple[list[str], dict[str, list[str]]]] = {
    "flat": (
        ["A - vocals.wav", "A - drums.wav", "A - mix.wav", "B_Vox.wav", "B_drums.wav"],
        {"train/A": ["drums", "vocals", "+"], "train/B": ["drums", "vocals"]},
    ),
    "stem first": (
        ["vocals_A.wav", "bass_A.wav", "vocals_B.wav", "bass_B.wav"],
        {"train/A": ["bass", "vocals"], "train/B": ["bass", "vocals"]},
    ),
    "nested with splits": (
        ["training/A/Voice.wav", "training/A/full mix.wav", "val/B/voice.wav", "Test/C/singing.wav"],
        {"train/A": ["vocals", "+"], "valid/B": ["vocals"], "test/C": ["vocals"]},
    ),
    "other stems": (
        ["A/vocals.wav", "A/guitar.wav", "A/Grand Piano.wav"],
        {"train/A": ["Grand Piano", "guitar", "vocals"]},
    ),
    "flat with other stems": (
        ["A - vocals.wav", "A - guitar.wav", "B - vocals.wav", "B - guitar.wav"],
        {"train/A": ["guitar", "vocals"], "train/B": ["guitar", "vocals"]},
    ),
    "numbered": (
        ["A/01 drums.wav", "A/02 bass.wav", "A/03 vocals 1.wav", "A/04 vocals 2.wav"],
        {"train/A": ["bass", "drums", "vocals=2"]},
    ),
    "a folder a stem": (
        ["vocals/A.wav", "vocals/B.wav", "mixture/A.wav", "mixture/B.wav"],
        {"train/A": ["vocals", "+"], "train/B": ["vocals", "+"]},
    ),
    "stems in a folder of their own": (
        ["A/stems/A_vocals.wav", "A/stems/A_drums.wav", "A/A_mix.wav"],
        {"train/A": ["drums", "vocals", "+"]},
    ),
    "MUSDB18-HQ": (
        [f"{split}/A{split}/{name}.wav" for split in ("train", "test") for name in ("mixture", "vocals", "bass")],
        {"train/Atrain": ["bass", "vocals", "+"], "test/Atest": ["bass", "vocals", "+"]},
    ),
    "DSD100": (
        [
            f"{kind}/{split}/{song}/{name}.wav"
            for split, song in (("Dev", "051 - A"), ("Test", "001 - B"))
            for kind, name in (("Mixtures", "mixture"), ("Sources", "vocals"), ("Sources", "bass"))
        ],
        {"train/051 - A": ["bass", "vocals", "+"], "test/001 - B": ["bass", "vocals", "+"]},
    ),
    "Slakh": (
        [
            f"{song}/{name}.flac"
            for song, stem in (("train/Track1", "S01"), ("test/Track2", "S03"))
            for name in ("mix", "stems/S00", f"stems/{stem}")
        ],
        {"train/Track1": ["S00", "S01", "+"], "test/Track2": ["S00", "S03", "+"]},
    ),
    "a folder a stem in each song": (
        ["A/vocals/lead.wav", "A/vocals/backing.wav", "A/guitar/x1.wav", "B/vocals/lead.wav", "B/drums/kick.wav"],
        {"train/A": ["guitar", "vocals=2"], "train/B": ["drums", "vocals"]},
    ),
    "a folder a stem in each album": (
        ["X/vocals/A.wav", "X/drums/A.wav", "Y/vocals/A.wav", "Y/drums/A.wav"],
        {"train/X - A": ["drums", "vocals"], "train/Y - A": ["drums", "vocals"]},
    ),
    "a folder a stem below stems": (
        ["stems/vocals/A.wav", "stems/drums/A.wav", "mixtures/A.wav"],
        {"train/A": ["drums", "vocals", "+"]},
    ),
    "tracks of instruments": (
        [
            f"{song}/{name}.wav"
            for song in "AB"
            for name in ("Gtr L", "Gtr R", "Kick", "Bass Drum", "Lead Vox", "Kazoo")
        ],
        {f"train/{song}": ["drums=2", "other=3", "vocals"] for song in "AB"},
    ),
    "tracks in one folder": (
        [
            f"{song} - {name}.wav"
            for song in "AB"
            for name in ("Lead Vox", "BV 1", "Weird Vox", "Synth Bass", "Gtr", "x")
        ],
        {f"train/{song}": ["bass", "other=2", "vocals=3"] for song in "AB"},
    ),
    "Cambridge-MT": (
        [
            f"X_{song}_Full/{name}.wav"
            for song in ("One", "Two")
            for name in (
                "01_KickIn",
                "02_SnareUp",
                "03_HiHat",
                "04_BassDI",
                "05_ElecGtr1",
                "06_LeadVox",
                "07_BackingVox2",
            )
        ],
        {f"train/X_{song}_Full": ["bass", "drums=3", "other", "vocals=2"] for song in ("One", "Two")},
    ),
    "the mixture has the song's name": (
        [f"{song}{part}.wav" for song in ("A", "B") for part in ("", " (Vocals)", " (Instrumental)")],
        {f"train/{song}": ["accompaniment", "vocals", "+"] for song in "AB"},
    ),
    "audio-separator": (
        [f"out/{song}_({stem})_model_bs_roformer_ep_317.wav" for song in "AB" for stem in ("Vocals", "Instrumental")],
        {f"train/{song}": ["accompaniment", "vocals"] for song in "AB"},
    ),
    "names that go on behind the stem": (
        [f"{song}_{stem}_split_by_someone.wav" for song in ("One", "Two") for stem in ("vocals", "no_vocals")],
        {f"train/{song}": ["accompaniment", "vocals"] for song in ("One", "Two")},
    ),
    "titles in brackets": (
        [f"{song} (120 BPM) - {stem}.wav" for song in ("One", "[Two]") for stem in ("VOCALS", "Synth Lead (L)")],
        {f"train/{song} (120 BPM)": ["Synth Lead (L)", "vocals"] for song in ("One", "[Two]")},
    ),
    "songs by number": (
        [f"{stem}_{number}.wav" for stem in ("vocals", "drums") for number in range(2)],
        {f"train/{number}": ["drums", "vocals"] for number in range(2)},
    ),
    "songs by number in front": (
        [f"{number}_{stem}.wav" for stem in ("vocals", "drums") for number in range(2)],
        {f"train/{number}": ["drums", "vocals"] for number in range(2)},
    ),
    "demucs": (
        [f"separated/htdemucs/{song}/{stem}.wav" for song in "AB" for stem in ("vocals", "no_vocals")],
        {f"train/{song}": ["accompaniment", "vocals"] for song in "AB"},
    ),
    "flat with underscores": (
        [f"{song}_{stem}.wav" for song in ("take_me_out", "Bass Drum") for stem in ("vocals", "bass", "mix")],
        {f"train/{song}": ["bass", "vocals", "+"] for song in ("Bass Drum", "take_me_out")},
    ),
    "MoisesDB": (
        [f"{song}/{stem}/{song}{stem}{n}.wav" for song in "ab" for stem in ("vocals", "other_keys") for n in "12"],
        {f"train/{song}": ["other_keys=2", "vocals=2"] for song in "ab"},
    ),
    "ccMixter": (
        [f"{song}/{name}.wav" for song in "AB" for name in ("mix", "source-01", "source-02")],
        {f"train/{song}": ["source-01", "source-02", "+"] for song in "AB"},
    ),
    "a folder a stem with names of stems": (
        [f"{stem}/{song}_{stem}.wav" for song in "AB" for stem in ("vocals", "drums")],
        {f"train/{song}": ["drums", "vocals"] for song in "AB"},
    ),
    "all but one stem beside the others": (
        [f"{song}/{name}.wav" for song in "AB" for name in ("vocals", "drums", "bass", "instrumental", "no_drums")],
        {f"train/{song}": ["bass", "drums", "vocals"] for song in "AB"},
    ),
    "one song in and beside train": (["A/vocals.wav", "train/A/drums.wav"], {"train/A": ["drums", "vocals"]}),
    "artists": (
        ["X/Same/vocals.wav", "Y/Same/vocals.wav"],
        {"train/X - Same": ["vocals"], "train/Y - Same": ["vocals"]},
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_understood(tmp_path: Path, layout: str) -> None:
    names, expected = LAYOUTS[layout]
    assert shape(lay(tmp_path, names)) == expected


@pytest.mark.parametrize(
    ("stems", "expected"),
    [
        ("own", ["Lead Vox", "guitar=2", "kazoo", "percussion", "vocals"]),
        ("vocals,guitar", ["guitar=2", "other=2", "vocals=2"]),
        ("vocals, drums, other", ["drums", "other=3", "vocals=2"]),
    ],
)
def test_stems_can_be_chosen(invoke: Any, tmp_path: Path, stems: str, expected: list[str]) -> None:
    tracks = ("Lead Vox", "vocals", "Gtr 1", "Gtr 2", "perc", "kazoo")
    root = lay(tmp_path, [f"{song}/{name}.wav" for song in "AB" for name in tracks])
    assert shape(root, stems=read_stems(stems))["train/A"] == expected
    text = invoke("init-data", root, "--yes", "--stems", stems).stdout
    assert "kazoo (2 times)" in text and ("taken for other" in text) == (stems != "own")


METADATA = {
    "MedleyDB": ("X_METADATA.yaml", "stems: {S01: {filename: X_STEM_01.wav, instrument: male singer}, "
                 "S02: {filename: X_STEM_02.wav, instrument: [drum set]}, "
                 "S03: {filename: X_STEM_03.wav, instrument: clean electric guitar}}"),
    "Slakh": ("metadata.yaml", "UUID: 1\nstems: {X_STEM_01: {inst_class: Voice}, X_STEM_02: {inst_class: Drums}, "
              "X_STEM_03: {inst_class: Guitar}, X_STEM_04: {inst_class: Guitar}}"),
}  # fmt: skip


@pytest.mark.parametrize("kind", METADATA)
def test_instruments_are_read_where_they_are_written(tmp_path: Path, kind: str) -> None:
    name, text = METADATA[kind]
    stems = [f"X/X_STEMS/X_STEM_0{number}.wav" for number in range(1, 5)]
    lay(tmp_path, ["X/X_MIX.wav", *stems, "X/X_RAW/X_RAW_01_01.wav"])
    assert shape(tmp_path)["train/X"] == ["STEM_01", "STEM_02", "STEM_03", "STEM_04", "+"]
    (tmp_path / "X" / name).write_text(text)
    assert shape(tmp_path)["train/X"] == ["drums", "other=2", "vocals", "+"]
    assert any("X_RAW: left out, the same is in X/X_STEMS" in doubt for doubt in propose(tmp_path).doubts)
    (tmp_path / "X" / name).write_text("stems: [1, {")
    assert "STEM_01" in shape(tmp_path)["train/X"]


def test_what_training_would_refuse_is_left_out(tmp_path: Path) -> None:
    names = [f"{song}/{name}.wav" for song in "ABC" for name in ("vocals", "drums", "mix")]
    lay(tmp_path, names)
    soundfile.write(tmp_path / "B/mix.wav", np.zeros(15000), 8000)
    soundfile.write(tmp_path / "C/vocals.wav", np.zeros((16000, 2)), 8000)
    soundfile.write(tmp_path / "C/drums.wav", np.zeros((16000, 3)), 8000)
    assert shape(tmp_path) == {"train/A": ["drums", "vocals", "+"], "train/B": ["drums", "vocals"]}
    text = "\n".join(propose(tmp_path).doubts)
    assert "the mixture is left out: song 'B': mix.wav has 15000 samples but" in text
    assert "the song is left out: song 'C': " in text and "2 channels" in text


def test_files_that_are_of_no_song_are_left_to_another_layout(refused: Callable[..., str], tmp_path: Path) -> None:
    root = lay(tmp_path, [f"{stem}/{stem}_{number}.wav" for stem in ("vocals", "drums") for number in range(3)])
    assert "the type stem-folders" in refused("init-data", root, "--yes")
    assert not (root / "auralflow-data.json").exists()


def test_a_layout_that_training_knows_is_told(invoke: Any, tmp_path: Path) -> None:
    root = lay(tmp_path, [f"songs/{song}/{name}.wav" for song in "AB" for name in ("vocals", "drums")])
    (root / "train.csv").write_text("mix_path,vocals_path\n")
    assert "training reads this folder as the type csv" in invoke("init-data", root, "--yes").stdout


WORDS = ("vocals", "Lead Vox", "Kick", "01", "2", "Gtr L", "bass", "mix", "(Vocals)", "no_drums", "Song", "Kazoo", "A")
NAMES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).flatmap(
    lambda words: st.sampled_from([" ", "_", " - ", ""]).map(lambda gap: gap.join(words))
)
FOLDERS = st.lists(
    st.sampled_from(["train", "valid", "A", "B", "vocals", "drums", "A_STEMS", "A_RAW", "Mix"]), max_size=3
)


@settings(max_examples=60, deadline=None)
@given(
    places=st.lists(st.tuples(FOLDERS, NAMES), min_size=1, max_size=12),
    stems=st.sampled_from([None, [], ["vocals", "other"]]),
)
def test_every_file_is_used_once_or_said_to_be_left_out(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[list[str], str]], stems: list[str] | None
) -> None:
    root = tmp_path_factory.mktemp("any")
    paths = {root.joinpath(*folders, f"{name}.wav") for folders, name in places}
    source = lay(root.parent / "one file", ["x.wav"]) / "x.wav"
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(source)
    try:
        proposal = propose(root, stems=stems)
    except DataError as error:
        assert "\n" not in str(error)
        return
    parts = [files for song in proposal.songs for files in (*song.stems.values(), song.mixture) if files]
    used = [path for files in parts for path in (files if isinstance(files, tuple) else (files,))]
    assert len(used) == len(set(used))
    left_out = "\n".join(doubt for doubt in proposal.doubts if "left out" in doubt)
    for path in paths - set(used):
        assert str(path.relative_to(root)) in left_out or f"{path.parent.relative_to(root)}: left out" in left_out
    write_description(root / "auralflow-data.json", proposal.songs)
    assert len(read_description(root / "auralflow-data.json")) == len(proposal.songs)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_several_files_are_one_stem(invoke: Any, tmp_path: Path, suffix: str) -> None:
    names = [f"{song}/{name}.{suffix}" for song in "AB" for name in ("vocals/lead", "vocals/choir", "drums/kit")]
    root = lay(tmp_path / "songs", names)
    assert "choir" in invoke("init-data", root, "--yes").stdout
    assert not json.loads(invoke("doctor", root, "--only", "files", "--json").stdout)["findings"]
    [song] = DescribedDataset(root, DatasetConfig()).songs("valid")
    parts = [soundfile.read(root / song.name / "vocals" / f"{name}.{suffix}")[0] for name in ("choir", "lead")]
    (kept,) = SongCache(tmp_path / "cache").songs([song])
    for one in (song, kept):
        assert np.abs(one.read_stems(["vocals"], 100, 5000)[0, 0] - sum(parts)[100:5100]).max() < 1e-6
        assert np.abs(one.read_mixture() - one.read_stems(["vocals", "drums"]).sum(axis=0)).max() < 1e-6
    assert len(SongCache(tmp_path / "cache").entries()) == (3 if suffix == "flac" else 0)


def test_a_mixture_of_several_files_is_left_out(tmp_path: Path) -> None:
    lay(tmp_path, ["A/vocals/a.wav", "A/mix/b.wav", "A/mix/c.wav"])
    assert shape(tmp_path) == {"train/A": ["vocals"]}
    assert any("a mixture of several files" in doubt for doubt in propose(tmp_path).doubts)


def test_what_is_doubtful_is_listed(tmp_path: Path) -> None:
    names = ["A/vocals.wav", "A/vox.wav", "A/drums.wav", "B/vocals.wav", "loose.wav", "C/x_one.wav", "C/x_two.wav"]
    proposal = propose(lay(tmp_path, names))
    text = "\n".join(proposal.doubts)
    assert "A/vox.wav: left out, A/vocals.wav is vocals of that song already" in text
    assert "loose.wav: left out" in text
    assert "C: no usual names" in text
    assert "taken for stems of their own, for their names are of no known instrument: one, two" in text
    assert "B: has no" in text
    assert "valid: no folder says which songs, 1 of 3 drawn by seed" in text


def test_shares_are_seeded(tmp_path: Path) -> None:
    lay(tmp_path, [f"{number}/vocals.wav" for number in range(10)])
    songs = propose(tmp_path, valid=0.25, test=0.2).songs
    assert songs == propose(tmp_path, valid=0.25, test=0.2).songs
    assert [sum(song.split == split for song in songs) for split in ("train", "valid", "test")] == [6, 2, 2]


@pytest.mark.parametrize("name", ["auralflow-data.json", "auralflow-data.yaml"])
def test_an_unknown_folder_trains(invoke: Any, tiny_settings: list[str], tmp_path: Path, name: str) -> None:
    root = lay(tmp_path / "songs", [f"{song} - {stem}.wav" for song in "ABC" for stem in ("voice", "kazoo")])
    before = {path: path.read_bytes() for path in root.iterdir()}
    result = invoke("init-data", root, "--yes", "--save", root / name)
    assert "3 songs" in result.stdout
    assert {path: path.read_bytes() for path in root.iterdir() if path.name != name} == before
    options = [*tiny_settings, "--targets", "kazoo"]
    invoke("config", "model", "SpectrogramNetSimple", "--save", tmp_path, *options)
    invoke("train", tmp_path / "model", root, "--quiet")


def test_a_description_may_lie_elsewhere(invoke: Any, tmp_path: Path) -> None:
    root = lay(tmp_path / "songs", ["A/vocals.wav", "B/vocals.wav"])
    elsewhere = tmp_path / "here"
    elsewhere.mkdir()
    invoke("init-data", root, "--yes", "--save", elsewhere)
    songs = json.loads((elsewhere / "auralflow-data.json").read_text())["songs"]
    assert {song["stems"]["vocals"] for song in songs} == {"../songs/A/vocals.wav", "../songs/B/vocals.wav"}
    invoke("doctor", elsewhere, "--only", "files")


def test_nothing_is_written_without_a_yes(runner: Any, tmp_path: Path) -> None:
    from auralflow_core.cli import main

    root = lay(tmp_path, ["A/vocals.wav"])
    assert runner.invoke(main, ["init-data", str(root)], input="n\n").exit_code == 1
    assert not (root / "auralflow-data.json").exists()
    assert runner.invoke(main, ["init-data", str(root)], input="y\n").exit_code == 0
    assert (root / "auralflow-data.json").exists()


def test_faults_are_refused(invoke: Any, refused: Callable[..., str], tmp_path: Path) -> None:
    root = lay(tmp_path / "songs", ["song.wav"])
    assert "holds no song with stems" in refused("init-data", root, "--yes")
    assert "no such folder" in refused("init-data", tmp_path / "nothing")
    lay(root, ["A/vocals.wav"])
    assert "is not read by training" in refused("init-data", root, "--save", root / "data.json")
    invoke("init-data", root, "--yes")
    assert "exists already" in refused("init-data", root, "--yes")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"songs": []}', "has no list `songs`"),
        ('{"songs": [{"name": "A", "split": "trian", "stems": {"vocals": "a.wav"}}]}', "'trian' is none of"),
        ('{"songs": [{"name": "A", "split": "train", "stem": {"vocals": "a.wav"}}]}', "did you mean stems?"),
        ('{"songs": [{"name": "A", "split": "train", "stems": {}}]}', "name at least one"),
    ],
)
def test_a_faulty_description_is_refused(
    refused: Callable[..., str], model_folder: Path, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "auralflow-data.json").write_text(text)
    assert message in refused("train", model_folder, tmp_path)
