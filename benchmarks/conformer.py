"""Measure what each setting of the Conformer costs: the tables of docs/models/conformer.md.

    python benchmarks/conformer.py
    python benchmarks/conformer.py --lengths 10 40 160

The first table has the defaults with one key changed: parameters, the CPU time in which the network separates 3 s of
one channel on one thread (median of five passes), and what a training pass keeps for the backward pass. The second has
attention of one layer alone, by length of audio: its time, and the memory that it adds at its highest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from auralflow_conformer.network import Conformer

BINS, FRAMES_A_SECOND, SECONDS = 1025, 100, 3
CHANGES: list[dict[str, Any]] = [
    {},
    {"feat_in": 160},
    {"features": "linear", "feat_in": 744},
    {"mel_masks": "bands"},
    {"mask_activation": "relu"},
    {"subsampling_factor": 4},
    {"subsampling_factor": 1},
    {"subsampling": "striding"},
    {"subsampling_act": "silu"},
    {"subsampling_act": "gelu"},
    {"subsampling_conv_channels": -1},
    {"subsampling_norm_out": True},
    {"frame_skip": False},
    {"n_layers": 12},
    {"d_model": 384},
    {"n_heads": 12},
    {"head_dim": 64},
    {"expansion_factor": 2},
    {"bias_in_ff": True},
    {"flash_attn": False},
    {"use_rotary": False},
    {"conv_kernel_size": 31},
    {"conv_expansion_factor": 2},
    {"conv_type": "longconv"},
    {"default_norm": "rms_norm"},
    {"sandwich_norm": True},
    {"dropout_ff": 0.1},
    {"dropout_attn": 0.1},
    {"dropout_conv": 0.1},
    {"checkpoint_every_n_layers": 2},
    {"checkpoint_every_n_layers": 1},
    {"self_conditioning": False},
    {"self_condition_subsampling": True},
    {"gated_sc": True},
    {"decoder_norm": False},
]
ATTENTIONS: dict[str, dict[str, Any]] = {
    "fused": {},
    "`flash_attn` false": {"flash_attn": False},
    "`attention_chunk` 256": {"attention_chunk": 256},
}


def settings_table() -> None:
    """Print a row for each change."""
    print("| change | million parameters | ms | MiB kept |\n|---|---|---|---|")
    magnitude = torch.rand(1, 1, BINS, SECONDS * FRAMES_A_SECOND + 1)
    for change in CHANGES:
        network = Conformer(num_fft_bins=BINS, **change)
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        seconds = cpu_seconds(network.eval(), magnitude)
        kept = kept_bytes(network.train(), magnitude) / 2**20
        name = ", ".join(f"`{key}` {str(value).lower()}" for key, value in change.items()) or "none"
        print(f"| {name} | {millions:.1f} | {1000 * seconds:.0f} | {kept:.0f} |", flush=True)


def cpu_seconds(network: Callable[[Tensor], object], *inputs: Tensor, passes: int = 5) -> float:
    """Return the median CPU time of passes without gradients, after one that is not counted."""
    found = []
    with torch.inference_mode():
        for _ in range(passes + 1):
            begin = time.process_time()
            network(*inputs)
            found.append(time.process_time() - begin)
    return statistics.median(found[1:])


def kept_bytes(network: torch.nn.Module, magnitude: Tensor) -> int:
    """Return the bytes that a pass keeps for the backward pass, without the parameters."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        estimate = network(magnitude)
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    del estimate
    return sum(size for place, size in kept.items() if place not in own)


def lengths_table(lengths: list[int]) -> None:
    """Print time and memory of one layer's attention for each length of audio in seconds."""
    print(f"\n| audio | {' | '.join(ATTENTIONS)} |\n|---|{'---|' * len(ATTENTIONS)}")
    layers = [Conformer(num_fft_bins=BINS, **change).eval().layers[0] for change in ATTENTIONS.values()]
    for length in lengths:
        steps = torch.randn(1, -(-length * FRAMES_A_SECOND // 8), 768)
        cells = []
        for layer in layers:
            attend = lambda x, layer=layer: layer.attention(x, None)  # noqa: E731 - bound to its layer
            milliseconds = 1000 * cpu_seconds(attend, steps, passes=3)
            cells.append(f"{milliseconds:.0f} ms, {peak_bytes(attend, steps) / 1e6:.0f} MB")
        print(f"| {length} s | {' | '.join(cells)} |", flush=True)


def peak_bytes(work: Callable[[Tensor], object], tensor: Tensor) -> int:
    """Return the most that one call has allocated at a time, as torch's profiler tells it."""
    with torch.inference_mode(), torch.profiler.profile(profile_memory=True) as profile:
        work(tensor)
    now = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="*", default=[10, 40, 160], help="seconds of audio (10 40 160)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings_table()
    if options.lengths:
        lengths_table(options.lengths)


if __name__ == "__main__":
    main()
