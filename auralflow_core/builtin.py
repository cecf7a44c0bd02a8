"""What the core itself registers, through the same hooks as any plugin."""

from __future__ import annotations

from auralflow_core.hookspecs import Register, hookimpl

_LOSSES = {
    "l1": ("L1Loss", "mean absolute error of magnitudes"),
    "l2": ("L2Loss", "mean squared error of magnitudes"),
    "rmse": ("RMSELoss", "root mean squared error of magnitudes"),
    "mask": ("MaskLoss", "mean absolute error between the mask and the ideal ratio mask"),
    "kl_div": ("KLDivergenceLoss", "l1 plus a variational network's own KL term"),
    "log_l1": ("LogL1Loss", "mean absolute error of audio, in dB"),
    "complex_mse": ("ComplexMSELoss", "mean squared error of complex spectra"),
    "mrstft": ("MultiResolutionSTFTLoss", "spectral convergence and log magnitudes at several FFT lengths"),
    "quantile": ("QuantileLoss", "mean squared error of audio, without the worst items of a batch"),
    "si_sdr": ("SISDRLoss", "negative scale-invariant SDR of waveforms, dB"),
}

OPTIMIZERS = {
    "adam": ("torch.optim:Adam", "Adam"),
    "adamw": ("torch.optim:AdamW", "Adam with decoupled weight decay"),
    "radam": ("torch.optim:RAdam", "Adam with a rectified start"),
    "sgd": ("torch.optim:SGD", "gradient descent, with momentum if asked for"),
    "muon": ("auralflow_core.model.muon:MuonAndAdamW", "Muon for matrices, AdamW for the rest"),
    "madgrad": ("auralflow_core.model.madgrad:madgrad", "dual averaging; `pip install madgrad`"),
    "mirrormadgrad": ("auralflow_core.model.madgrad:mirrormadgrad", "its mirror descent; `pip install madgrad`"),
}
"""The core's own optimizers, by name: what makes each, and a line about it."""

SCHEDULERS = {
    "plateau": ("auralflow_core.model.plateau:PlateauSchedule", "halved when validation does not improve"),
    "cosine": ("auralflow_core.model.cosine:CosineSchedule", "warm-up in a line, then half a cosine"),
}
"""The core's own schedules of the learning rate, by name; `model/schedules.py` makes them of settings of their own."""


@hookimpl
def register_losses(register: Register) -> None:
    for name, (loss, summary) in _LOSSES.items():
        register(name, loss=f"auralflow_core.losses:{loss}", summary=summary)
    register(
        "component",
        loss="auralflow_core.losses:ComponentLoss",
        summary="target distortion, residual level and residual shape, weighted",
        settings=("alpha_constant", "beta_constant"),
        aliases=("component_loss",),
    )


@hookimpl
def register_optimizers(register: Register) -> None:
    for name, (optimizer, summary) in OPTIMIZERS.items():
        register(name, optimizer=optimizer, summary=summary)


@hookimpl
def register_schedulers(register: Register) -> None:
    for name, (scheduler, summary) in SCHEDULERS.items():
        register(name, scheduler=scheduler, summary=summary)


@hookimpl
def register_datasets(register: Register) -> None:
    register(
        "musdb",
        dataset="auralflow_core.data.musdb:MusdbDataset",
        summary="MUSDB18 (.stem.mp4) or MUSDB18-HQ (WAV)",
    )
    register(
        "folder",
        dataset="auralflow_core.data.folder:FolderDataset",
        summary="train/ valid/ test/ of song folders with one WAV or FLAC a stem",
    )
    register(
        "described",
        dataset="auralflow_core.data.described:DescribedDataset",
        summary="any folder with the auralflow-data.json that `auralflow init-data` writes",
    )
    register(
        "csv",
        dataset="auralflow_core.data.csv:CsvDataset",
        summary="train.csv, validation.csv and test.csv with a row a song, as Spleeter's",
    )
    register(
        "stem-folders",
        dataset="auralflow_core.data.stem_folders:StemFoldersDataset",
        summary="train/ with a folder a stem, of files that do not belong together",
    )
    register(
        "mix",
        dataset="auralflow_core.data.mix:MixDataset",
        summary="several data sets with weights, listed in auralflow-mix.json",
    )


@hookimpl
def register_loggers(register: Register) -> None:
    register(
        "tensorboard",
        logger="auralflow_core.trainer.tensorboard:TensorBoardLogger",
        summary="losses, learning rate, audio and spectrograms in runs/",
    )
