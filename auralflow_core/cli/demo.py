"""`auralflow demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from auralflow_core.layout import ModelFolder

SETTINGS = {
    # Small enough to hear something after a few minutes on two CPU cores.
    "hidden_channels": "8",
    "batch_size": "4",
    "max_epochs": "1000",
    "stop_patience": "4",
    "every_n_epochs": "10",
}


@click.command("demo")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    default=Path("auralflow-demo"),
    show_default=True,
    help="Folder for everything that the demo makes.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=4.0,
    show_default=True,
    help="Minutes to train.",
)
@click.option("--songs", type=click.IntRange(min=4), default=24, show_default=True, help="Songs to synthesise.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the songs.")
def demo(save: Path, minutes: float, songs: int, seed: int) -> None:
    """Synthesise songs, train a model on them, score it and separate a song: the whole way in a few minutes.

    Needs no download. Everything lies in one folder afterwards; the commands are printed, to be typed again.
    """
    from auralflow_core.audio import find_audio
    from auralflow_core.cli.config import change
    from auralflow_core.cli.separate import run_separation
    from auralflow_core.cli.test import run_test
    from auralflow_core.cli.train import run_training
    from auralflow_core.config import Setting, save_config
    from auralflow_core.layout import ModelFolder
    from auralflow_core.library import Recipe
    from auralflow_core.separate import Options

    type_ = _model_type()
    data = save / f"songs-seed-{seed}"
    _synthesise(data, songs, seed)
    folder = _next_folder(save)
    settings = [*(Setting(*item) for item in SETTINGS.items()), Setting("max_minutes", str(minutes))]
    _say(f"auralflow config {folder.name} {type_} --save {save}")
    words = " ".join(f"--{setting.name} {setting.value}" for setting in settings)
    _say(f"auralflow config {folder.name} --save {save} {words}")
    config = change({"model": {"type": type_, "name": folder.name}}, settings, is_new=True)
    save_config(config, folder / "config.json")
    _say(f"auralflow train {folder} {data}")
    run_training(config, folder, data, resume=False, force=False, quiet=False)
    _say(f"auralflow test {folder} {data}")
    run_test(folder, data)
    song = next(find_audio([data / "test"])).parent / "mixture.wav"
    stems = save / "separated" / song.parent.name
    _say(f"auralflow separate {folder} '{song}' --residual --save '{stems}'")
    run_separation(Recipe((str(folder),)), [song], stems, Options(residual=True))
    _say_where(folder, data, stems / song.stem, ModelFolder(folder))


def _model_type() -> str:
    from auralflow_core.errors import RegistryError
    from auralflow_core.registry import default_registry

    if not any(entry.name == "SpectrogramNetSimple" for entry in default_registry().models):
        raise RegistryError(
            "the demo trains SpectrogramNetSimple: `pip install auralflow-simplenet`, then run it again"
        )
    return "SpectrogramNetSimple"


def _synthesise(data: Path, songs: int, seed: int) -> None:
    from auralflow_core.cli.output import progress_bar
    from auralflow_core.data.synth import write_songs

    held_out = max(1, songs // 6)
    counts = {"train": songs - 2 * held_out, "valid": held_out, "test": held_out}
    click.echo(f"Synthesising {songs} songs in {data}")
    with progress_bar() as bar:
        task = bar.add_task("synthesising", total=songs, facts="")
        write_songs(
            data,
            **counts,
            seconds=24.0,
            seed=seed,
            progress=lambda done, total: bar.update(task, completed=done),
        )


def _next_folder(save: Path) -> Path:
    """Return the first model folder of the demo that is not there yet, so that no earlier one is overwritten."""
    number = 1
    while (save / f"model-{number}").exists():
        number += 1
    return save / f"model-{number}"


def _say(command: str) -> None:
    click.echo(f"\n$ {command}")


def _say_where(folder: Path, data: Path, stems: Path, paths: ModelFolder) -> None:
    click.echo("\nWhere everything lies:")
    for what, path in {
        "songs": data,
        "configuration": folder / "config.json",
        "checkpoints": paths.checkpoint,
        "separated stems": stems,
        "snippets (WAV)": paths.audio,
        "images": paths.images,
        "TensorBoard runs": f"{paths.runs}  (tensorboard --logdir {folder.parent})",
        "evaluation": paths.evaluation,
    }.items():
        click.echo(f"  {what:17} {path}")
