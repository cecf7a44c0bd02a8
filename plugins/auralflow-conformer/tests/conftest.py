"""The document as a user would save it, and what a forward pass keeps for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

# The YAML between the document's fences, with a comment after each value.
DOCUMENT = """\
model:
  feat_in: 80 # number of mel bins: 80
  n_layers: 6 # layers
  d_model: 768 # width
  n_heads: 6 # heads
  head_dim: 128 # of each head
  dropout_ff: 0.0 # feedforward
  dropout_attn: 0.0 # attention
  dropout_conv: 0.0 # convolution
  subsampling_factor: 8 # i.e 8x
  subsampling: dw_striding # dw_striding or striding - dw is depthwise
  subsampling_act: relu # relu/silu/gelu
  subsampling_conv_channels: 256 # -1 is d_model
  expansion_factor: 4 # feedforward
  self_condition_subsampling: false # after subsampling
  subsampling_norm_out: false # layer norm
  conv_kernel_size: 9 # in blocks
  conv_expansion_factor: 1 # in blocks
  conv_type: 'standard' # 'standard' = the paper's, longconv = (https://arxiv.org/abs/2302.06646)
  self_conditioning: true # after blocks
  gated_sc: false # with a sigmoid (not recommended)
  decoder_norm: true # before the decoder
  use_rotary: true # positions
  default_norm: layer_norm # or rms_norm
  sandwich_norm: false # (https://arxiv.org/abs/2105.13290) default is pre_norm
  bias_in_ff: false # biases
  checkpoint_every_n_layers: 0 # (0 means none) (gradient checkpointing)
  flash_attn: true # use it (recommended!!)


optimizer:
  name: madgrad # adam/madgrad/mirrormadgrad
  args: # i.e. lr, weight_decay etc
    lr: 2.5e-3

scheduler: # cosine decay
  warmup_steps: 4000 # until it decays

audio_chunking:
  size: 512 # 5.12 seconds

sequence_scheduler: # (may be left out)
  increase_every: 5000 # steps
  stop_after: 90000 # steps
  start_after: 0 # steps
  max_sequence_length: 16384 # frames
  increase_by_multiplier: 2 # length
  batch_size_multiplier: 0.5 # batch

wandb:
  use: true # (recommended)
  project_name: spotify_long_context # project
  name: 'multi_epoch_run_16k' # run
  id: '' # (to go on with a run)

checkpointing:
  dir: /mnt/parscratch/users/acp21rjf/spotify/checkpoints/multi_epoch_run_16k # folder
  save_every_n_steps: 2000 # steps

data:
  path: /mnt/parscratch/users/acp21rjf/spotify/audio_txt_pairs.json # pairs

spec_augment:
  n_time_masks: 2 # 0: none
  time_mask_param: 100 # longest
  n_freq_masks: 2 # 0: none
  freq_mask_param: 27 # widest
  iid_masks: true # each of the batch
  p: 0.5 # [0.0, 1.0]. (Default: 1.0)
  zero_masking: false # otherwise the mean

training:
  start_spec_augment_after_n_epochs: 1 # -1 to disable
  max_epochs: 9 # epochs
  batch_size: 704 # at first
  backprop_every: 1 # n steps
  backwards_every: 1 # n steps
  clip_value: 0.8 # norm

"""


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """The document's YAML in a file."""
    path = tmp_path / "conformer.yaml"
    path.write_text(DOCUMENT)
    return path


@pytest.fixture
def kept_bytes() -> Callable[..., tuple[int, Tensor]]:
    """A function of a module and its inputs: the bytes that the pass keeps for its backward pass, and its output."""

    def measure(module: nn.Module, *inputs: Tensor | None) -> tuple[int, Tensor]:
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output: Tensor = module(*inputs)
        return sum(kept.values()), output

    return measure
