"""Doctor finds, once, whatever training refuses of a data set: before training does, and in the same words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import soundfile
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from auralflow_core.config import load_config
from auralflow_core.errors import AuralflowError
from auralflow_core.training import prepare_training

RATE = 8000
STEMS = ("bass", "drums", "other", "vocals")
HEADERS = "files,format,stems,opening,targets,rate"
Plant = Callable[[Path], object]


def song(root: Path, name: str = "train song 1") -> Path:
    return root / name.split()[0] / name


def rewrite(path: Path, *, rate: int = RATE, channels: int = 1, frames: int | None = None, suffix: str = "") -> None:
    audio, _ = soundfile.read(path, frames=-1 if frames is None else frames, always_2d=True)
    soundfile.write(path.with_suffix(suffix or path.suffix), audio.repeat(channels, axis=1), rate)


def rewrite_song(folder: Path, **how: Any) -> None:
    for path in sorted(folder.iterdir()):
        rewrite(path, **how)


def remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def keep_one(root: Path, split: str = "train") -> None:
    remove(*sorted((root / split).iterdir())[1:])


def table(root: Path, *columns: str, split: str = "train", stems: tuple[str, ...] = STEMS) -> None:
    """Write a table of a split; a column is its name and what stands in its last row: `duration=99`."""
    extra = [column.partition("=")[::2] for column in columns]
    lines = [[*(f"{stem}_path" for stem in ("mix", *stems)), *(name for name, _ in extra)]]
    folders = sorted((root / split).iterdir())
    for folder in folders:
        paths = [str((folder / f"{stem}.wav").relative_to(root)) for stem in ("mixture", *stems)]
        lines.append([*paths, *(value if folder == folders[-1] else "" for _, value in extra)])
    (root / f"{split}.csv").write_text("".join(",".join(line) + "\n" for line in lines))


def tables(root: Path) -> None:
    table(root)
    table(root, split="valid")


def edited(by: Callable[[bytes], bytes], name: str = "train.csv") -> Plant:
    def plant(root: Path) -> None:
        (root / name).write_bytes(by((root / name).read_bytes()))

    return plant


def loose_table(root: Path, path: str, stem: str = "bass") -> None:
    (root / "train.csv").write_text(f"instrum,path\n{stem},{path}\n")


def stem_folders(root: Path) -> None:
    for stem in STEMS:
        (root / "loose" / stem).mkdir(parents=True)
        for number, folder in enumerate(sorted((root / "train").iterdir())):
            shutil.copy(folder / f"{stem}.wav", root / "loose" / stem / f"{number}.wav")
    remove(root / "train", root / "valid", root / "test")
    (root / "loose").rename(root / "train")


def loose(root: Path) -> list[Path]:
    return sorted((root / "train" / "bass").iterdir())


def described(change: Callable[[list[dict[str, Any]]], object]) -> Plant:
    def plant(root: Path) -> None:
        songs: list[dict[str, Any]] = [
            {
                "name": folder.name,
                "split": folder.parent.name,
                "stems": {stem: f"{folder}/{stem}.wav" for stem in STEMS},
            }
            for folder in sorted(root.glob("*/*"))
        ]
        change(songs)
        (root / "auralflow-data.json").write_text(json.dumps({"songs": songs}))

    return plant


def each(songs: list[dict[str, Any]], **facts: Any) -> None:
    for entry in songs:
        entry.update(facts)


def mixed(*roots: object) -> Plant:
    def plant(root: Path) -> None:
        (root / "auralflow-mix.json").write_text(json.dumps({"roots": roots}))

    return plant


# What is refused, whatever the model is: the check that finds it, and the fault, step by step.
ALWAYS: dict[str, tuple[str, list[Plant]]] = {
    "no songs": ("opening", [lambda root: remove(*root.iterdir())]),
    "no training folder": ("opening", [lambda root: remove(root / "train")]),
    "empty training folder": ("opening", [lambda root: remove(*(root / "train").iterdir())]),
    "empty validation folder": ("opening", [lambda root: remove(*(root / "valid").iterdir())]),
    "one song": ("opening", [lambda root: remove(root / "valid"), keep_one]),
    "a stem twice": ("files", [lambda root: rewrite(song(root) / "vocals.wav", suffix=".flac")]),
    "a mixture twice": ("files", [lambda root: shutil.copy(song(root) / "mixture.wav", song(root) / "mix.wav")]),
    "no stems": ("files", [lambda root: remove(*(song(root) / f"{stem}.wav" for stem in STEMS))]),
    "no audio": ("files", [lambda root: (song(root) / "bass.wav").write_text("this is no audio")]),
    "an empty file": ("files", [lambda root: (song(root) / "bass.wav").write_bytes(b"")]),
    "no samples": ("files", [lambda root: rewrite_song(song(root), frames=0)]),
    "another length": ("format", [lambda root: rewrite(song(root) / "bass.wav", frames=9000)]),
    "another rate": ("format", [lambda root: rewrite(song(root) / "bass.wav", rate=11025)]),
    "other channels": (
        "format",
        [lambda root: [rewrite(song(root) / f"{stem}.wav", channels=n) for stem, n in (("bass", 2), ("drums", 3))]],
    ),
    "a validation song": ("format", [lambda root: rewrite(song(root, "valid song 0") / "bass.wav", frames=9000)]),
    "no stem file": ("opening", [lambda root: (root / "train" / "song.stem.mp4").write_text("this is no audio")]),
    "table: duration": ("opening", [lambda root: table(root, "duration=99")]),
    "table: no duration": ("opening", [lambda root: table(root, "duration=long")]),
    "table: weight": ("opening", [lambda root: table(root, "weight=-1")]),
    "table: no weight": ("opening", [keep_one, lambda root: table(root, "weight=0")]),
    "table: no file": ("opening", [table, lambda root: remove(song(root) / "vocals.wav")]),
    "table: no audio": ("files", [table, lambda root: (song(root) / "vocals.wav").write_text("none")]),
    "table: another length": ("format", [table, lambda root: rewrite(song(root) / "vocals.wav", frames=9000)]),
    "table: no samples": ("files", [table, lambda root: rewrite_song(song(root), frames=0)]),
    "table: empty cell": ("opening", [table, edited(lambda text: text.replace(b"train/train song 1/vocals.wav", b""))]),
    "table: no rows": ("opening", [table, edited(lambda text: text.splitlines()[0])]),
    "table: one row": ("opening", [keep_one, table]),
    "table: no mixture": ("opening", [table, edited(lambda text: text.replace(b"mix_", b"sum_"))]),
    "table: not UTF-8": ("opening", [table, edited(lambda text: text + b"caf\xe9")]),
    "validation table: not UTF-8": ("opening", [tables, edited(lambda text: text + b"caf\xe9", "valid.csv")]),
    "validation table: no rows": ("opening", [tables, edited(lambda text: text.splitlines()[0], "valid.csv")]),
    "files: no file": ("opening", [lambda root: loose_table(root, "nowhere.wav")]),
    "files: no stem": ("opening", [lambda root: loose_table(root, "train/train song 0/bass.wav", stem="")]),
    "files: one": ("opening", [lambda root: loose_table(root, "train/train song 0/bass.wav")]),
    "stem folders: no audio": ("opening", [stem_folders, lambda root: loose(root)[0].write_text("this is no audio")]),
    "stem folders: one file": ("opening", [stem_folders, lambda root: remove(*loose(root)[1:])]),
    "stem folders: no song": ("opening", [stem_folders, lambda root: rewrite_song(loose(root)[0].parent, rate=11025)]),
    "described: no mapping": ("opening", [described(lambda songs: songs.append({"nam": 1}))]),
    "described: a name twice": ("opening", [described(lambda songs: each(songs, name="one"))]),
    "described: no training": ("opening", [described(lambda songs: each(songs, split="test"))]),
    "described: weight": ("opening", [described(lambda songs: each(songs, weight=0))]),
    "described: no file": ("files", [described(list), lambda root: remove(song(root) / "bass.wav")]),
    "described: parts": ("opening", [described(lambda songs: songs[-1]["stems"].update(bass=["here.wav", "no.wav"]))]),
    "described: syntax": ("opening", [lambda root: (root / "auralflow-data.json").write_text('{"songs": [')]),
    "mixed: no root": ("opening", [mixed({"root": "nowhere"})]),
    "mixed: a root twice": ("opening", [mixed({"root": "train"}, {"root": "train"})]),
    "mixed: itself": ("opening", [mixed({"root": "."})]),
    "mixed: weights": ("opening", [mixed({"root": "train", "weight": 1}, {"root": "test"})]),
    "mixed: one song": ("opening", [keep_one, mixed({"root": "train"})]),
}

# What one model's training refuses: the check that finds it, the model's settings, and the fault, if any.
BY_MODEL: dict[str, tuple[str, tuple[str, ...], Plant]] = {
    "a target": ("targets", (), lambda root: remove(song(root) / "vocals.wav")),
    "a target in validation": ("targets", (), lambda root: remove(song(root, "valid song 0") / "vocals.wav")),
    "a silent target": (
        "opening",
        ("--sampling.missing_stems", "silence"),
        lambda root: remove(*root.glob("train/*/vocals.wav")),
    ),
    "a column": ("opening", (), lambda root: table(root, stems=("bass", "drums"))),
    "surround sound": ("rate", ("--num_channels", "2"), lambda root: rewrite_song(song(root), channels=6)),
    "no stereo": ("opening", ("--num_channels", "2", "--other_channels", "discard"), Path.is_dir),
    "no such rate": ("opening", ("--sample_rate", "11025", "--other_rates", "discard"), Path.is_dir),
    "weights": ("opening", ("--sampling.weights", "{'*': 0}"), Path.is_dir),
    "no table": ("opening", ("--dataset.type", "csv"), Path.is_dir),
    "no such table": ("opening", ("--dataset.type", "csv", "--train_csv", "other.csv"), table),
}


@pytest.fixture(scope="module")
def make_model(invoke: Any, tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    numbers = count()

    def make(*settings: str) -> Path:
        folder = tmp_path_factory.mktemp(f"model {next(numbers)}")
        invoke("config", "model", "SpectrogramNetSimple", "--save", folder, *tiny_settings, *settings)
        return folder / "model"

    return make


@pytest.fixture(scope="module")
def model(make_model: Callable[..., Path]) -> Path:
    return make_model()


def errors(invoke: Any, *words: object, status: int = 1) -> list[dict[str, str]]:
    found = json.loads(invoke("doctor", *words, "--json", "--only", HEADERS, status=status).stdout)["findings"]
    return [finding for finding in found if finding["severity"] == "error"]


def refusal(model: Path, data: Path) -> str:
    """Return what training says before it starts; nothing where it would start."""
    try:
        prepare_training(load_config(model), model, data)
    except AuralflowError as error:
        return str(error)
    return ""


def is_told(message: str, found: list[dict[str, str]]) -> bool:
    """Whether a refusal's words are in a finding."""
    return any(
        finding["what"].partition("refuses it: ")[2] in message and finding["next_step"] in message for finding in found
    )


@pytest.mark.parametrize("name", ALWAYS)
def test_what_training_refuses_is_found(invoke: Any, songs_copy: Path, model: Path, name: str) -> None:
    check, steps = ALWAYS[name]
    for step in steps:
        step(songs_copy)
    message = refusal(model, songs_copy)
    assert message
    for words in ((songs_copy,), (songs_copy, model)):
        found = errors(invoke, *words)
        assert {finding["check"] for finding in found} == {check}
        assert len({finding["where"] for finding in found}) == len(found)
        assert check != "opening" or is_told(message, found)
        assert all(finding["next_step"] for finding in found)
    assert "Traceback" not in invoke("doctor", songs_copy, status=1).stdout


@pytest.mark.parametrize("name", BY_MODEL)
def test_what_training_of_a_model_refuses_is_found(
    invoke: Any, songs_copy: Path, make_model: Callable[..., Path], name: str
) -> None:
    check, settings, plant = BY_MODEL[name]
    plant(songs_copy)
    model = make_model(*settings)
    message = refusal(model, songs_copy)
    assert message
    found = errors(invoke, songs_copy, model)
    assert check in {finding["check"] for finding in found}
    assert check != "opening" or is_told(message, found)


CHANGES: dict[str, Plant] = {
    "no stem": lambda folder: remove(*folder.glob("bass.wav")),
    "no target": lambda folder: remove(*folder.glob("vocals.wav")),
    "no mixture": lambda folder: remove(*folder.glob("mixture.wav")),
    "twice": lambda folder: soundfile.write(folder / "drums.flac", *soundfile.read(folder / "drums.wav")),
    "text": lambda folder: (folder / "other.wav").write_text("this is no audio"),
    "short": lambda folder: soundfile.write(folder / "other.wav", [0.1] * 9000, RATE),
    "cut": lambda folder: (folder / "drums.wav").write_bytes((folder / "drums.wav").read_bytes()[:9000]),
    "slow": lambda folder: soundfile.write(folder / "mixture.wav", [0.1] * 16000, 4000),
    "stereo": lambda folder: soundfile.write(folder / "mixture.wav", [[0.1, 0.1]] * 16000, RATE),
    "nothing": lambda folder: soundfile.write(folder / "drums.wav", [], RATE),
    "emptied": lambda folder: remove(*folder.iterdir()),
    "removed": lambda folder: shutil.rmtree(folder),
    "notes": lambda folder: (folder / "notes.txt").write_text("not audio, and not taken for it"),
}


SONGS = st.sampled_from(["train song 0", "train song 2", "valid song 0"])


@given(changed=st.dictionaries(SONGS, st.sampled_from([*CHANGES])), is_table=st.booleans())
@hypothesis_settings(max_examples=20, deadline=None)
def test_doctor_has_errors_where_training_refuses_and_nowhere_else(
    invoke: Any,
    song_folder: Path,
    model: Path,
    tmp_path_factory: pytest.TempPathFactory,
    changed: dict[str, str],
    is_table: bool,
) -> None:
    root = Path(shutil.copytree(song_folder, tmp_path_factory.mktemp("changed") / "songs"))
    if is_table:
        table(root, stems=("vocals",))
        table(root, stems=("vocals",), split="valid")
    for name, change in changed.items():
        CHANGES[change](song(root, name))
    found = errors(invoke, root, model, status=1 if refusal(model, root) else 0)
    assert sum(finding["check"] == "opening" for finding in found) <= 2  # for training, for validation
    remove(root)


def test_a_batch_that_cannot_be_trained_with_is_found(
    invoke: Any, make_model: Callable[..., Path], song_folder: Path, install_plugin: Any
) -> None:
    install_plugin("auralflow-contrast", CONTRAST)
    settings = ("--criterion", "contrast", "--max_num_samples", "5", "--batch_size", "2")
    report = invoke("doctor", song_folder, make_model(*settings), "--only", "overfit", "--json", status=1)
    [found] = json.loads(report.stdout)["findings"]
    assert "with batches of 2 there is one of a single chunk" in found["what"]
    assert found["next_step"].startswith("choose a batch_size")


CONTRAST = """
from auralflow_core import hookimpl
from auralflow_core.losses import Criterion

class Contrast(Criterion):
    def forward(self, prediction):
        if len(prediction.estimate_audio) < 2:
            raise ValueError("needs two items to compare")
        return prediction.estimate_audio[0].sub(prediction.estimate_audio[1]).abs().mean()

@hookimpl
def register_losses(register):
    register("contrast", loss=Contrast, summary="how unlike two items are")
"""


def test_what_is_refused_is_not_tried(invoke: Any, songs_copy: Path, model: Path) -> None:
    remove(*(songs_copy / "valid").iterdir())
    found = json.loads(invoke("doctor", songs_copy, model, "--json", "--quick", status=1).stdout)["findings"]
    [tried] = [finding for finding in found if finding["check"] in ("overfit", "memory", "loader")]
    assert (tried["severity"], tried["what"]) == ("info", "not tried, since training would refuse the songs")


def test_songs_that_cannot_be_listed_are_told_whatever_is_looked_at(invoke: Any, songs_copy: Path) -> None:
    table(songs_copy)
    edited(lambda text: text + b"caf\xe9")(songs_copy)
    found = json.loads(invoke("doctor", songs_copy, "--only", "sums", "--json", status=1).stdout)
    assert found["songs"] == 0
    assert found["findings"][0]["next_step"] == "export it as UTF-8"


def test_tables_without_a_model_are_of_their_own_stems(invoke: Any, songs_copy: Path) -> None:
    for folder in songs_copy.glob("*/*"):
        (folder / "vocals.wav").rename(folder / "oud.wav")
    table(songs_copy, stems=("oud", "drums", "bass", "other"))
    assert not errors(invoke, songs_copy, status=0)


def test_songs_for_test_are_opened_as_evaluation_does(invoke: Any, songs_copy: Path, model: Path) -> None:
    table(songs_copy)
    table(songs_copy, "duration=99", split="test")
    assert not refusal(model, songs_copy)
    [found] = errors(invoke, songs_copy, model)
    assert (found["where"], found["check"]) == ("test", "opening")
    assert "evaluation refuses it" in found["what"] and "duration 99 s" in found["what"]


def test_each_song_with_a_stem_twice_is_named(invoke: Any, songs_copy: Path) -> None:
    for name in ("train song 1", "train song 3", "test song 0"):
        rewrite(song(songs_copy, name) / "vocals.wav", suffix=".flac")
    found = errors(invoke, songs_copy)
    assert {finding["where"] for finding in found} == {"train/train song 1", "train/train song 3", "test/test song 0"}
    assert {finding["value"] for finding in found} == {"vocals.flac, vocals.wav"}
    report = invoke("doctor", songs_copy, "--only", "files", "--json", status=1)
    assert len(json.loads(report.stdout)["findings"]) == 3
