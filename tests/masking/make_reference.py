"""Write `reference.safetensors`: what norbert and openunmix make of random spectrograms.

Run it where both are installed beside auralflow: `pip install norbert openunmix`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from auralflow_core.torchaudio_cpu import import_torchaudio

FRAMES, BINS, TARGETS = 20, 9, 3


def main() -> None:
    import_torchaudio()  # openunmix imports it, and its plain import may fail
    import norbert
    from openunmix.filtering import wiener

    rng = np.random.default_rng(0)
    tensors: dict[str, torch.Tensor] = {}
    for channels in (1, 2):
        shape = (FRAMES, BINS, channels)
        # Loud enough for the scaling down to 10 to matter, and with a bin that is silent.
        mixture = (20 * (rng.normal(size=shape) + 1j * rng.normal(size=shape))).astype(np.complex64)
        mixture[:, 3] = 0
        shares = rng.uniform(0, 1, size=(*shape, TARGETS))
        magnitudes = (np.abs(mixture)[..., None] * shares).astype(np.float32)
        tensors[f"mixture{channels}"] = torch.from_numpy(mixture)
        tensors[f"magnitudes{channels}"] = torch.from_numpy(magnitudes)
        for iterations in (1, 2):
            for softmask in (False, True):
                found = norbert.wiener(magnitudes.copy(), mixture.copy(), iterations, use_softmask=softmask)
                tensors[f"norbert{channels}{iterations}{softmask}"] = torch.from_numpy(found.astype(np.complex64))
        for residual in (False, True):
            pairs = torch.view_as_real(tensors[f"mixture{channels}"]).clone()  # openunmix writes into it
            found = wiener(tensors[f"magnitudes{channels}"], pairs, 1, residual=residual)
            tensors[f"openunmix{channels}{residual}"] = torch.complex(found[..., 0, :], found[..., 1, :])
    save_file(
        {name: torch.view_as_real(value) if value.is_complex() else value for name, value in tensors.items()},
        Path(__file__).with_name("reference.safetensors"),
    )


if __name__ == "__main__":
    main()
