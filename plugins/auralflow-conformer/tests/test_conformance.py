from __future__ import annotations

from typing import ClassVar

from auralflow_core.testing import ModelConformance

SMALL = {"feat_in": 16, "n_layers": 2, "d_model": 16, "n_heads": 2, "head_dim": 8, "subsampling_conv_channels": 4}


class TestMelFeatures(ModelConformance):
    plugin = "auralflow-conformer"
    model_type = "Conformer"
    params: ClassVar = SMALL


class TestEveryOptionalModule(ModelConformance):
    plugin = "auralflow-conformer"
    model_type = "Conformer"
    params: ClassVar = SMALL | {
        "features": "linear",
        "subsampling": "striding",
        "subsampling_factor": 4,
        "subsampling_norm_out": True,
        "conv_type": "longconv",
        "bias_in_ff": True,
        "sandwich_norm": True,
        "default_norm": "rms_norm",
        "rotary_learned_freq": True,
        "self_condition_subsampling": True,
        "gated_sc": True,
        "attention_chunk": 3,
        "checkpoint_every_n_layers": 1,
        "mask_activation": "softmax",
    }
