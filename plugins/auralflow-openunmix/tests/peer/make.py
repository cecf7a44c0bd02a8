"""Write the files beside this one: tiny networks saved by openunmix, and what it makes of a mixture with them.

Run it where openunmix is installed beside auralflow: `pip install openunmix`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from auralflow_core.torchaudio_cpu import import_torchaudio

HERE = Path(__file__).parent
NUM_FFT, HOP = 64, 16
TARGETS = ("vocals", "drums")


def network(seed: int) -> nn.Module:
    """Return a network in which every parameter and statistic has a value of its own."""
    from openunmix.model import OpenUnmix

    torch.manual_seed(seed)
    made = OpenUnmix(NUM_FFT // 2 + 1, nb_channels=2, hidden_size=8, nb_layers=2, max_bin=20)
    with torch.no_grad():
        for name, tensor in made.state_dict().items():
            if tensor.is_floating_point() and not name.startswith("lstm"):
                tensor += 0.3 * torch.rand_like(tensor)
    return made.eval()


def mixture(length: int) -> Tensor:
    """Return stereo tones and noise, `(1, 2, length)`, of 16-bit samples."""
    time = torch.arange(length) / 8000
    tones = torch.stack([torch.sin(6000 * time + phase) * torch.sin(9 * time) for phase in (0.0, 0.7)])
    noise = torch.rand(2, length, generator=torch.Generator().manual_seed(9)) - 0.5
    return (32000 * (0.6 * tones + 0.3 * noise)).round()[None]


def main() -> None:
    import_torchaudio()  # openunmix imports it, and its plain import may fail
    from openunmix.model import Separator

    networks = {name: network(seed) for seed, name in enumerate(TARGETS)}
    for name, made in networks.items():
        # As in the older published files.
        extra = {"sample_rate": torch.tensor(44100.0), "stft.window": torch.hann_window(NUM_FFT)}
        torch.save({**made.state_dict(), **extra, "transform.0.window": extra["stft.window"]}, HERE / f"{name}-0.pth")
    audio = mixture(5003)
    sizes = {"n_fft": NUM_FFT, "n_hop": HOP, "sample_rate": 8000.0}
    magnitude = torch.rand(2, 2, NUM_FFT // 2 + 1, 7, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        whole = Separator(networks, niter=1, **sizes)(audio / 32768)
        plain = Separator(networks, niter=0, **sizes)(audio[..., :1000] / 32768)
        residual = Separator({"vocals": networks["vocals"]}, niter=2, residual=True, **sizes)(audio[..., :1000] / 32768)
        outputs = {f"output.{name}": made(magnitude).contiguous() for name, made in networks.items()}
    songs = {"niter1": whole, "niter0": plain, "residual": residual[:, :1].contiguous()}
    audio = audio.to(torch.int16)
    save_file({"mixture": audio, "magnitude": magnitude, **songs, **outputs}, HERE / "outputs.safetensors")


if __name__ == "__main__":
    main()
