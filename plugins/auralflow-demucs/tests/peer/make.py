"""Write the files that `test_peer.py` reads; run where `demucs` is installed: `python make.py`.

For each network a file as Demucs publishes it, and beside it what the peer makes of some noise: the estimates in
evaluation, the loss of one training pass, and the norm of each parameter's gradient, by the parameters' sorted names.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from demucs.demucs import Demucs
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs
from safetensors.torch import save_file
from torch import Tensor, nn

SOURCES = ["drums", "bass"]
RATE = 8000
SMALL: dict[str, Any] = {"sources": SOURCES, "samplerate": RATE, "channels": 4, "growth": 1, "dconv_comp": 1}
LSTM = {"dconv_lstm": 1, "dconv_attn": 1, "norm_starts": 1}
HYBRID = {"nfft": 64, "dconv_mode": 3, "dconv_depth": 1, "depth": 3, "segment": 2}
# Long enough for the LSTM of `HDemucs` to be cut into frames.
CASES: dict[str, tuple[nn.Module, int]] = {
    "Demucs": (Demucs(**SMALL, **LSTM, depth=3, lstm_layers=1, segment=2), 701),
    "HDemucs": (HDemucs(**SMALL, **LSTM, **HYBRID), 3300),
    "HTDemucs": (
        HTDemucs(
            **SMALL,
            nfft=256,
            dconv_mode=3,
            dconv_depth=1,
            depth=2,
            bottom_channels=8,
            t_layers=2,
            t_heads=2,
            segment=Fraction(3, 10),
        ),
        600,
    ),
}


def main() -> None:
    """Write all files beside this one."""
    torch.manual_seed(0)
    for name, (network, length) in CASES.items():
        _perturb(network)
        path = Path(__file__).parent / name
        _publish(network, path.with_suffix(".th"), is_zip=name == "HTDemucs")
        facts = _facts(network, length)
        if name == "HDemucs":
            facts["old estimates"] = _old_estimates(network, facts["mixture"])
        save_file(facts, path.with_suffix(".safetensors"))


def _perturb(network: nn.Module) -> None:
    """Move weights away from their initial values, of which many are 0, 1 or tiny; round them as the files do."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
            if name.endswith("scale"):
                parameter.add_(0.3)
            parameter.copy_(parameter.half().float())


def _publish(network: Any, path: Path, *, is_zip: bool) -> None:
    """Save a network as `demucs.states.serialize_model` does, in the older or the newer layout of torch."""
    args, kwargs = network._init_args_kwargs
    state = {name: value.half() for name, value in network.state_dict().items()}
    package = {"klass": type(network), "args": args, "kwargs": kwargs, "state": state}
    torch.save({**package, "training_args": {"epochs": 1}}, path, _use_new_zipfile_serialization=is_zip)


def _facts(network: nn.Module, length: int) -> dict[str, Tensor]:
    mixture = torch.randn(1, 2, length).half()
    network.eval()
    with torch.no_grad():
        estimates = network(mixture.float())
    network.train()
    target = 0.5 * mixture.float().unsqueeze(1)
    loss = (network(mixture.float()) - target).abs().mean()
    loss.backward()
    norms = [parameter.grad.norm() for _, parameter in sorted(network.named_parameters())]
    return {
        "mixture": mixture,
        "estimates": estimates.contiguous(),
        "loss": loss.detach(),
        "gradients": torch.stack(norms),
    }


def _old_estimates(network: nn.Module, mixture: Tensor) -> Tensor:
    """Return what the same weights make of the beginning, with the padding of 2021."""
    old = HDemucs(**SMALL, **LSTM, **HYBRID, hybrid_old=True)
    old.load_state_dict(network.state_dict())
    with torch.no_grad():
        estimates: Tensor = old.eval()(mixture[..., :300].float())
    return estimates.contiguous()


if __name__ == "__main__":
    main()
