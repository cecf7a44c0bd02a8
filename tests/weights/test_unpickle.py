"""Checkpoints of torch in both layouts, against torch's own reader."""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict, defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from auralflow_core.errors import CheckpointError
from auralflow_core.weights import Record, load_checkpoint, load_state_dict
from auralflow_core.weights.pickle_machine import PickleError, PickleMachine

LAYOUTS = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "older"])
DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.int64,
    torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


def save(value: Any, path: Path, is_zip: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=is_zip)
    return path


def same(first: Any, second: Any) -> bool:
    """Whether two values are of the same types and bits."""
    if isinstance(first, torch.Tensor):
        return bool(
            type(second) is torch.Tensor
            and first.dtype == second.dtype
            and first.stride() == second.stride()
            and torch.equal(first, second)
        )
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(type(first) is type(second) and first == second)


class Net(torch.nn.Module):
    """A class that a checkpoint may name; its file must not be able to make one."""

    made = 0

    def __init__(self, channels: int) -> None:
        super().__init__()
        Net.made += 1
        self.channels = channels


class Slotted:
    __slots__ = ("x",)


class Listed(list[int]):
    pass


@LAYOUTS
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_of_every_type(dtype: torch.dtype, is_zip: bool, tmp_path: Path) -> None:
    tensor = (10 * torch.randn(3, 5)).to(dtype)
    state = OrderedDict(whole=tensor, part=tensor[1:, ::2], turned=tensor.t(), scalar=tensor[0, 0], none=tensor[:0])
    loaded = load_checkpoint(save(state, tmp_path / "x.pth", is_zip))
    assert type(loaded) is OrderedDict and same(state, loaded)


@LAYOUTS
def test_shared_memory_is_shared(is_zip: bool, tmp_path: Path) -> None:
    tensor = torch.arange(6.0)
    loaded = load_checkpoint(save([tensor, tensor[2:], tensor], tmp_path / "x.pth", is_zip))
    loaded[0].add_(1)
    assert torch.equal(loaded[1], tensor[2:] + 1) and loaded[0] is loaded[2]


@LAYOUTS
def test_state_dict_of_a_network(is_zip: bool, tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.LSTM(3, 4, 2), torch.nn.BatchNorm1d(4))
    path = save(network.state_dict(), tmp_path / "x.pth", is_zip)
    assert same(torch.load(path, weights_only=True), load_state_dict(path))
    network.load_state_dict(load_state_dict(path))
    parameters = load_state_dict(save(dict(network.named_parameters()), path, is_zip))
    assert all(type(value) is torch.Tensor and not value.requires_grad for value in parameters.values())


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(max_size=300)
    | st.fractions(-(10**9), 10**9, max_denominator=10**9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(-(2**31), 2**31), inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(value=plain, protocol=st.integers(0, 5))
@example(value={1, 2}, protocol=2)
@example(value=frozenset("ab"), protocol=4)
@example(value=[[]] * 3, protocol=0)
def test_plain_values_come_back_as_python_reads_them(value: Any, protocol: int) -> None:
    assert same(PickleMachine().run(io.BytesIO(pickle.dumps(value, protocol))), value)


def test_several_pickles_in_a_row() -> None:
    stream = io.BytesIO(pickle.dumps(1) + pickle.dumps("two") + b"rest")
    machine = PickleMachine()
    assert (machine.run(stream), machine.run(stream), stream.read()) == (1, "two", b"rest")


@LAYOUTS
@pytest.mark.parametrize("protocol", [2, 4])
def test_classes_become_records(is_zip: bool, protocol: int, tmp_path: Path) -> None:
    package = {
        "klass": Net,
        "args": (4,),
        "kwargs": {"segment": Fraction(39, 5), "sources": ["drums", "bass"]},
        "state": {"w": torch.ones(2, 2, dtype=torch.float16)},
        "model": Net(3),
        "counts": defaultdict(int, a=1),
        "listed": Listed([1, 2]),
        "path": Path("x"),
        "dtype": torch.float32,
    }
    path = tmp_path / "x.th"
    torch.save(package, path, _use_new_zipfile_serialization=is_zip, pickle_protocol=protocol)
    before = Net.made
    loaded = load_checkpoint(path)
    assert Net.made == before
    assert same({name: package[name] for name in ("args", "kwargs", "state")}, {
        name: loaded[name] for name in ("args", "kwargs", "state")
    })  # fmt: skip
    klass, model = loaded["klass"], loaded["model"]
    assert isinstance(klass, Record) and (klass.module, klass.name, klass.args) == (Net.__module__, "Net", None)
    assert isinstance(model, Record) and (model.name, model.args) == ("Net", ()) and model.state["channels"] == 3
    assert (loaded["counts"].path, loaded["counts"].entries) == ("collections.defaultdict", [("a", 1)])
    assert loaded["listed"].items == [1, 2] and loaded["dtype"].path == "torch.float32"
    assert repr(klass) == f"<Record of {Net.__module__}.Net>"


def test_record_keeps_named_arguments_and_slots() -> None:
    class_of = Slotted()
    class_of.x = 5  # type: ignore[attr-defined]
    record = PickleMachine().run(io.BytesIO(pickle.dumps(class_of, 2)))
    assert record.state == (None, {"x": 5})
    # collections.Counter(a=1), by NEWOBJ_EX
    made = PickleMachine().run(io.BytesIO(b"\x80\x04ccollections\nCounter\n)}X\x01\x00\x00\x00aK\x01s\x92."))
    assert (made.args, made.kwargs) == ((), {"a": 1})


def test_only_state_dicts_are_state_dicts(tmp_path: Path) -> None:
    for value in ([torch.ones(1)], {}, {"a": 1}, {"state": {"w": torch.ones(1)}}, Net):
        with pytest.raises(CheckpointError, match="holds no state dict"):
            load_state_dict(save(value, tmp_path / "x.pth", True))


@pytest.fixture(scope="module", params=[True, False], ids=["zip", "older"])
def saved(request: pytest.FixtureRequest) -> bytes:
    stream = io.BytesIO()
    value = {"a": torch.arange(8.0), "b": torch.arange(4), "c": "text"}
    torch.save(value, stream, _use_new_zipfile_serialization=request.param)
    return stream.getvalue()


def test_every_truncation_is_refused(saved: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    for length in [*range(0, len(saved), 37), len(saved) - 1]:
        path.write_bytes(saved[:length])
        with pytest.raises(CheckpointError, match="damaged, or not a checkpoint of torch"):
            load_checkpoint(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_an_error_or_data(data: st.DataObject, saved: bytes, tmp_path: Path) -> None:
    damaged = bytearray(saved)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(saved) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "x.pth"
    path.write_bytes(damaged)
    try:
        loaded = load_checkpoint(path)
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(loaded, (dict, list, tuple, str, int, float, bool, Record, torch.Tensor, type(None)))


OPCODES = sorted(opcode.code.encode("latin-1") for opcode in pickletools.opcodes)


@settings(max_examples=300, deadline=None)
@given(program=st.lists(st.sampled_from([*OPCODES, b" ", b"\n", b"\x00", b"\x01", b"2"]), max_size=40))
def test_any_program_is_refused_or_makes_data(program: list[bytes]) -> None:
    try:
        PickleMachine().run(io.BytesIO(b"".join([*program, b"."])))
    except PickleError:
        return


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "ValueError"),
        (b"<html>login</html>", "opcode"),
        (pickle.dumps({"a": 1}), "begins otherwise"),
        (pickle.dumps(0x1950A86A20F9469CFC6C) + pickle.dumps(1000), "begins otherwise"),
        (pickle.dumps(0x1950A86A20F9469CFC6C) + pickle.dumps(1001) + pickle.dumps({"little_endian": False}), "big-end"),
        (pickle.dumps(0x1950A86A20F9469CFC6C) + pickle.dumps(1001) + pickle.dumps([]), "attribute"),
    ],
)
def test_other_files(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(path)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_checkpoint(path)


def rezipped(path: Path, change: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> Path:
    """Rewrite a checkpoint's archive with members changed or removed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
        root = next(iter(members)).split("/")[0]
    members |= {f"{root}/{name}": content for name, content in change.items() if content is not None}
    gone = {f"{root}/{name}" for name, content in change.items() if content is None}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            if name not in gone:
                archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"byteorder": b"big"}, "big-endian"),
        ({"data.pkl": None}, "data.pkl"),
        ({"data/0": None}, "data/0"),
        ({"data/0": b"1234"}, "another size"),
        ({"data/0": b"1" * 36}, "another size"),
    ],
)
def test_archives_that_are_not_whole(change: dict[str, bytes | None], words: str, tmp_path: Path) -> None:
    path = save({"a": torch.arange(8.0)}, tmp_path / "x.pth", True)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(rezipped(path, change))


def test_compressed_archive_is_refused(tmp_path: Path) -> None:
    path = save({"a": torch.zeros(1 << 16)}, tmp_path / "x.pth", True)
    with pytest.raises(CheckpointError, match="compressed"):
        load_checkpoint(rezipped(path, {}, zipfile.ZIP_DEFLATED))


def test_changed_byte_of_a_tensor_is_noticed_in_an_archive(tmp_path: Path) -> None:
    path = save({"a": torch.full((64,), 1.2345)}, tmp_path / "x.pth", True)
    content = bytearray(path.read_bytes())
    content[content.index(torch.tensor(1.2345).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="CRC"):
        load_checkpoint(path)
