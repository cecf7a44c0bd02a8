from __future__ import annotations

from typing import ClassVar

from auralflow_core.testing import ModelConformance

UNET = {"T": 64, "conv_n_filters": [2, 2, 4, 4, 4, 4]}


class TestUNet(ModelConformance):
    plugin = "auralflow-spleeter"
    model_type = "unet.unet"
    params: ClassVar = UNET


class TestSoftmaxUNet(ModelConformance):
    plugin = "auralflow-spleeter"
    model_type = "unet.softmax_unet"
    params: ClassVar = UNET


class TestBLSTM(ModelConformance):
    plugin = "auralflow-spleeter"
    model_type = "blstm.blstm"
    params: ClassVar = {"T": 64, "lstm_units": 8}
