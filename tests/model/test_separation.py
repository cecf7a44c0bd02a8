"""Evaluation mode held by several threads, and copies of a model that compute otherwise."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading

import torch
from torch import Tensor, nn

from auralflow_core.config import Config, validate
from auralflow_core.model import WaveformModel
from auralflow_core.model.separation import EvaluationMode, copied_to, variant


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.lstm = nn.LSTM(1, 4, batch_first=True)
        self.head = nn.Linear(4, 1)

    def forward(self, audio: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.norm(audio).transpose(1, 2))
        found: Tensor = self.head(hidden).transpose(1, 2)
        return found


def make_model() -> WaveformModel:
    torch.manual_seed(0)
    data = {"model": {"type": "Toy"}, "training": {"device": "cpu"}}
    return WaveformModel(validate(Config, data), Recurrent())


def test_the_mode_comes_back_when_the_last_thread_leaves() -> None:
    network = nn.Dropout()
    mode = EvaluationMode(network)
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with mode.held():
            inside.set()
            assert leave.wait(10)

    other = threading.Thread(target=stay)
    other.start()
    assert inside.wait(10)
    with mode.held():
        assert not torch.is_grad_enabled()
    assert not network.training
    leave.set()
    other.join()
    assert network.training and torch.is_grad_enabled()


def test_a_model_can_be_copied_and_pickled() -> None:
    model = make_model()
    audio = torch.rand(1, 300)
    expected = model.separate(audio)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            for parameter in twin.network.parameters():
                parameter.add_(1)
        assert not torch.equal(twin.separate(audio), expected)
    assert torch.equal(model.separate(audio), expected)


def test_a_copied_network_is_alike_and_its_own() -> None:
    network = Recurrent().eval()
    twin = copied_to(network, torch.device("cpu"))
    audio = torch.rand(1, 1, 300)
    assert torch.equal(network(audio), twin(audio))
    shared = {tensor.data_ptr() for tensor in network.state_dict().values()}
    assert not shared & {tensor.data_ptr() for tensor in twin.state_dict().values()}
    assert [type(parameter) for parameter in twin.parameters()] == [nn.Parameter] * len(list(network.parameters()))


def test_a_variant_shares_the_network_and_leaves_the_model_as_it_was() -> None:
    model = make_model()
    audio = torch.rand(1, 300)
    expected = model.separate(audio)
    settings = model.config.separation
    lower = variant(model, settings.model_copy(update={"dtype": "bfloat16"}))
    assert lower.network is model.network
    assert not torch.equal(lower.separate(audio), expected)
    assert torch.equal(model.separate(audio), expected)
    assert torch.equal(variant(lower, settings).separate(audio), expected)


def test_separation_goes_without_the_imports_of_training() -> None:
    """`torch._dynamo`, which an optimizer brings, takes as long to import as a third of torch."""
    code = (
        "import sys, torch\n"
        "from auralflow_core.config import Config, validate\n"
        "from auralflow_core.model import WaveformModel\n"
        "data = {'model': {'type': 'Toy'}, 'training': {'device': 'cpu'}}\n"
        "model = WaveformModel(validate(Config, data), torch.nn.Conv1d(1, 1, 1))\n"
        "model.separate(torch.rand(1, 9))\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
