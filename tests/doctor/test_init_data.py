"""A folder that was never seen becomes a data set that trains, and nothing in it is changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from auralflow_core.config import DatasetConfig
from auralflow_core.data.cache import SongCache
from auralflow_core.data.described import DescribedDataset
from auralflow_core.doctor.proposal import propose


def lay(root: Path, names: Iterable[str]) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        soundfile.write(path, 0.1 * rng.standard_normal(16000), 8000)
    return root


def shape(root: Path, **options: Any) -> dict[str, list[str]]:
    """Return `split/song` -> stems, with a `+` for a mixture."""
    return {
        f"{song.split}/{song.name}": [*song.stems, *(["+"] if song.mixture else [])]
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
        {"train/A": ["bass", "drums", "vocals 1", "vocals 2"]},
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
        {"train/A": ["guitar", "vocals"], "train/B": ["drums", "vocals"]},
    ),
    "a folder a stem in each album": (
        ["X/vocals/A.wav", "X/drums/A.wav", "Y/vocals/A.wav", "Y/drums/A.wav"],
        {"train/X - A": ["drums", "vocals"], "train/Y - A": ["drums", "vocals"]},
    ),
    "a folder a stem below stems": (
        ["stems/vocals/A.wav", "stems/drums/A.wav", "mixtures/A.wav"],
        {"train/A": ["drums", "vocals", "+"]},
    ),
    "artists": (
        ["X/Same/vocals.wav", "Y/Same/vocals.wav"],
        {"train/X - Same": ["vocals"], "train/Y - Same": ["vocals"]},
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_understood(tmp_path: Path, layout: str) -> None:
    names, expected = LAYOUTS[layout]
    assert shape(lay(tmp_path, names)) == expected


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
def test_a_faulty_description_is_refused(refused: Callable[..., str], tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "auralflow-data.json").write_text(text)
    assert message in refused("doctor", tmp_path)
