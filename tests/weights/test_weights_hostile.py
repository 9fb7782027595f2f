"""Weights are untrusted input: nothing runs, nothing grows, every failure is one line."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import pickle
import resource
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jointformer.errors import UserError, WeightsError
from jointformer.model.network import JointFormer
from jointformer.model.pickles import more_than_plain
from jointformer.model.storage import load_weights_file, save_weights
from jointformer.model.weights import load_model
from jointformer.train.state import load_checkpoint


class Shell:
    """Unpickling it runs a program."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def load(path: Path) -> object:
    return load_model(path, device="cpu", precision="float32")


def one_line(caught: pytest.ExceptionInfo[WeightsError]) -> str:
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    return text


def archive(data: bytes, storage: bytes = b"\0" * 40, compression: int = zipfile.ZIP_STORED, name: str = "0") -> bytes:
    """A .pth archive around a pickle and one storage."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
        file.writestr(f"archive/data/{name}", storage)
    return buffer.getvalue()


def tensor_pickle(numel: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """The pickle of {'a': tensor} with sizes of the attacker's choice."""

    class Rebuild:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            storage = Storage()
            return torch._utils._rebuild_tensor_v2, (storage, 0, size, stride, False, {})

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, item: object) -> object:
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if isinstance(item, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"a": Rebuild()})
    return buffer.getvalue()


def test_a_pickle_that_would_run_a_program_is_refused_with_its_name(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "a.pth"
    torch.save({"model": Shell(marker)}, path)
    with pytest.raises(WeightsError, match=r"refused: .* more than plain tensors.*got (posix|nt|os).system") as caught:
        load(path)
    one_line(caught)
    assert not marker.exists()


def test_a_bare_pickle_is_not_even_opened(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "a.pth"
    path.write_bytes(pickle.dumps(Shell(marker)))
    with pytest.raises(WeightsError, match=r"not a file of PyTorch, or damaged"):
        load(path)
    assert not marker.exists()


def test_a_pickle_under_the_name_of_safetensors_is_not_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "a.safetensors"
    torch.save({"model": Shell(marker)}, path)
    with pytest.raises(WeightsError, match=r"damaged or not a safetensors file"):
        load(path)
    assert not marker.exists()


def test_objects_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    import argparse

    torch.save({"model": {}, "args": argparse.Namespace(a=1)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"got argparse.Namespace; ask its author"):
        load(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [{}, [], 7, {"a": 1}, {1: torch.zeros(1)}, {"model": {}}, torch.zeros(3)])
def test_a_file_without_named_tensors_is_one_line(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"no weights in the file|not a state dict") as caught:
        load(tmp_path / "a.pth")
    one_line(caught)


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (torch.zeros(1).expand(10**7, 10**6), "from 4 bytes of data"),
        (torch.zeros(3, dtype=torch.int64), "int64"),
        (torch.zeros(3, dtype=torch.complex64), "complex64"),
        (torch.zeros(0, 5), "an empty one"),
    ],
)
def test_tensors_that_are_not_what_they_seem_are_refused(tmp_path: Path, tensor: torch.Tensor, what: str) -> None:
    torch.save({"a": tensor}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=rf"tensor a is not usable.*{what}") as caught:
        load(tmp_path / "a.pth")
    one_line(caught)


with torch.sparse.check_sparse_tensor_invariants():  # PyTorch 2.11 warns where nobody said whether to
    SPARSE = torch.sparse_coo_tensor(torch.zeros(1, 1), torch.ones(1), (10**12,))


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (SPARSE, "sparse_tensor"),
        (torch.empty(10**7, 10**6, device="meta"), "meta_tensor"),
        (torch.zeros(4).to(torch.float8_e4m3fn), "tensor_v3"),
    ],
)
def test_tensors_of_unusual_kinds_are_not_even_built(tmp_path: Path, tensor: torch.Tensor, what: str) -> None:
    torch.save({"a": tensor}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=rf"more than plain tensors.*got torch\._utils\._rebuild_{what}"):
        load(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("numel", "size", "stride"),
    [
        (10**13, (10**13,), (1,)),
        (10, (10**6, 10**6), (10**6, 1)),
        (10, (10**12,), (0,)),
        (10**9, (10,), (1,)),
        (10, (20,), (1,)),
        (-1, (10,), (1,)),
        (10, (-10,), (1,)),
        (10, (10,), (-1,)),
        (2**63, (2**62, 2), (1, 1)),
    ],
)
def test_sizes_that_ask_for_terabytes_take_no_memory(
    tmp_path: Path, numel: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(archive(tensor_pickle(numel, size, stride)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError) as caught:
        load(path)
    one_line(caught)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_packed_archive_is_refused_before_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    size = 50_000_000
    path.write_bytes(archive(tensor_pickle(size // 4, (size // 4,), (1,)), b"\0" * size, zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 100_000
    with pytest.raises(WeightsError, match=r"refused: a packed archive.*got 50,"):
        load(path)


class Call:
    """Unpickling it calls a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


#: Each level doubles the bytes.
NESTED: object = "00"
for _ in range(30):
    NESTED = Call(codecs.encode, NESTED, "hex")


@pytest.mark.parametrize(
    "call", [Call(bytearray, 10**9), Call(torch.Tensor, 10**9), Call(torch.UntypedStorage, 10**9), NESTED]
)
@pytest.mark.parametrize("reader", [load, load_checkpoint])
def test_a_call_for_memory_is_refused_before_it_is_made(
    tmp_path: Path, call: object, reader: Callable[[Path], object]
) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(archive(pickle.dumps({"a": call}, 2)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="refused: it holds more than plain tensors"):
        reader(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def again(*operations: bytes, maker: bytes = b"ccollections\nOrderedDict\n") -> bytes:
    """The pickle of {0: [(0, 0), ...], 1: ...}: a list of 10,000 pairs at 0 in the memo, then these operations."""
    pairs = b"]q\x00(" + b"".join(b"M" + struct.pack("<H", i) + b"K\x00\x86" for i in range(10_000)) + b"e"
    ends = b"".join(b"M" + struct.pack("<H", 1 + i) + operation for i, operation in enumerate(operations))
    return b"\x80\x02}(K\x00" + pairs + b"M\xff\xff" + maker + b"q\x01" + ends + b"u."


@pytest.mark.parametrize(
    "pickled",
    [
        again(*[b"h\x01h\x00\x85R"] * 200),
        again(*[b"h\x01(h\x00tR"] * 200),
        again(*[b"h\x01h\x00(e\x85R"] * 200),  # nothing appended to it in between
        again(b"h\x00\x85q\x02", *[b"h\x01h\x02R"] * 200),
        again(*[b"h\x01h\x00\x85R"] * 200, maker=b"ccollections\nCounter\n"),
        again(*[b"h\x01h\x00\x85\x81"] * 200, maker=b"ctorch\nSize\n"),
        again(b"h\x01" * 200 + b"]" + b"\x85Rq\x02" * 200),  # copies of copies, each kept
        again(*[b"h\x01)Rh\x00b"] * 200),
    ],
)
def test_containers_that_are_copied_again_and_again_are_refused_before_they_are(tmp_path: Path, pickled: bytes) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(archive(pickled))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=r"refused: .*, got (a copy as|changes to)"):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def shared(nothing: bytes, pair: bytes) -> bytes:
    """Written in a few bytes, a pair of the same two, each a pair of the same two, and so on, 40 times."""
    levels = (pair.replace(b"?", b"h" + bytes([i])) + b"q" + bytes([i + 1]) for i in range(40))
    return nothing + b"q\x00" + b"".join(levels)


def of_data(key: bytes) -> bytes:
    """The pickle of {'a': tensor's data} under a key."""
    return b"}U\x01a(U\x07storagectorch\nFloatStorage\n" + key + b"U\x03cpuK\x01tQs."


@pytest.mark.parametrize(
    "tuples",
    [
        b")" + b"\x85" * 200_000,
        shared(b")", b"??\x86"),
        b"ctorch\nSize\n(" + b"K\x00" * 900 + b"t\x85Rq\x00(" + b"h\x00" * 900 + b"t",
    ],
    ids=["deep", "shared", "sizes"],
)
@pytest.mark.parametrize(
    "place",
    [
        b"}?K\x01s.",
        b"ccollections\nOrderedDict\n](?K\x01\x86e\x85R.",
        b"ccollections\nCounter\n](?e\x85R.",
        of_data(b"?"),
    ],
    ids=["key", "OrderedDict", "Counter", "data"],
)
def test_tuples_that_nobody_could_hash_are_refused(tmp_path: Path, tuples: bytes, place: bytes) -> None:
    pickled = b"\x80\x02" + place.replace(b"?", tuples)
    assert more_than_plain(pickled) == "a tuple of more than 1000 things"  # reading them would end the process
    (tmp_path / "a.pth").write_bytes(archive(pickled))
    with pytest.raises(WeightsError, match="got a tuple of more than 1000 things"):
        load(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("pickled", "what"),
    [
        (shared(b"]", b"](??e") + b")R.", "a call of what has no name"),
        (shared(b"]", b"](??e") + b")\x81.", "a call of what has no name"),
        (of_data(b"U\x01aq\x00(" + b"h\x00" * 900 + b"t"), "data by a tuple"),
    ],
)
def test_what_the_reader_would_write_out_without_end_is_refused(tmp_path: Path, pickled: bytes, what: str) -> None:
    assert more_than_plain(b"\x80\x02" + pickled) == what
    (tmp_path / "a.pth").write_bytes(archive(b"\x80\x02" + pickled))
    with pytest.raises(WeightsError, match=f"got {what}"):
        load(tmp_path / "a.pth")


def test_a_key_that_is_no_name_is_not_written_out(tmp_path: Path) -> None:
    torch.save({("a" * 1000,) * 900: torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"not a state dict.* got a key of type tuple: Tensor"):
        load(tmp_path / "a.pth")


def test_a_tensor_whose_size_would_be_changed_is_refused(tmp_path: Path) -> None:
    tensor = tensor_pickle(10, (10,), (1,)).removesuffix(b"s.")
    grow = b"q\xfe)b(h\xfeK\x00J" + struct.pack("<i", 10**9) + b"\x85K\x01\x85tb"
    (tmp_path / "a.pth").write_bytes(archive(tensor + grow + b"s."))
    with pytest.raises(WeightsError, match="got changes to what was made"):
        load(tmp_path / "a.pth")


def test_data_that_would_be_read_under_many_names_is_refused(tmp_path: Path) -> None:
    for name in ("abc", "ABC", "0/a"):
        (tmp_path / "a.pth").write_bytes(archive(pickle.dumps({}, 2), name=name))
        with pytest.raises(WeightsError, match=f"not as torch.save names .* got archive/data/{name}"):
            load(tmp_path / "a.pth")


def test_tensors_that_are_one_and_the_same_take_no_more_than_twice_the_file(tmp_path: Path) -> None:
    one = torch.zeros(100_000)
    torch.save({f"{i}": one[i:] for i in range(2)}, tmp_path / "a.pth")
    assert len(load_weights_file(tmp_path / "a.pth").state) == 2
    torch.save({f"{i}": one[i:] for i in range(50)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"same data again and again, expected at most .* got 19,995,100"):
        load_weights_file(tmp_path / "a.pth")


def test_a_pickle_in_front_of_an_archive_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": Call(bytearray, 10**9)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes() + archive(pickle.dumps({})))
    with pytest.raises(WeightsError, match=r"damaged.*something else in front"):
        load(path)


def test_what_lies_beside_the_network_in_training_checkpoints_is_read(network: JointFormer, tmp_path: Path) -> None:
    scheduler = {"milestones": Counter([3]), "base_lrs": [0.1]}  # as MultiStepLR has them
    optimiser = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.nn.Parameter(torch.zeros(2))}}}
    whole = {"it": 7, "network": network.state_dict(), "optimizer": optimiser, "scheduler": scheduler}
    torch.save(whole | {"device": torch.device("cpu"), "crop": torch.Size([2])}, tmp_path / "a.pth")
    assert load(tmp_path / "a.pth")


def safetensors_file(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        safetensors_file({"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}),
        safetensors_file({"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4]}}, b"\0" * 4),
        safetensors_file({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}}),
        safetensors_file({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"\0" * 4),
        safetensors_file({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
        safetensors_file(b'{"a":' + b"[" * 100_000),
        safetensors_file({}),
        safetensors_file({"__metadata__": {"config": "{}"}}),
        struct.pack("<Q", 2**63) + b"{}",
        b"\x01",
        b"\0" * 1000,
    ],
)
def test_a_forged_safetensors_header_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        load(path)
    one_line(caught)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_file_is_one_line_wherever_it_ends(plain_network: JointFormer, tmp_path: Path, suffix: str) -> None:
    whole = save_weights(plain_network, tmp_path / f"whole{suffix}").read_bytes()
    path = tmp_path / f"a{suffix}"
    for length in (1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError) as caught:
            load(path)
        one_line(caught)


def test_nan_in_the_weights_is_found_at_loading(network: JointFormer, tmp_path: Path) -> None:
    state = network.state_dict()
    state["convmae.norm.bias"][3] = float("inf")
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"tensor convmae.norm.bias holds NaN or infinite values"):
        load(tmp_path / "a.pth")


def test_shapes_of_a_monstrous_network_are_refused_before_it_is_built(tmp_path: Path) -> None:
    state = {
        "convmae.patch_embed1_query.proj.weight": torch.zeros(100_000, 3, 1, 1),
        "convmae.patch_embed2.proj.weight": torch.zeros(120_000, 1, 1, 1),
        "convmae.patch_embed3.proj.weight": torch.zeros(120_000, 1, 1, 1),
    }
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"its shapes make no network, expected widths up to 8192"):
        load(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"<html><body>404", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS"),
        (b"", "an empty"),
    ],
)
def test_a_page_saved_by_hand_in_the_place_of_the_file_is_recognised(tmp_path: Path, head: bytes, what: str) -> None:
    (tmp_path / "a.pth").write_bytes(head)
    with pytest.raises(WeightsError, match=rf"not a weights file, got {what}.*download it again"):
        load(tmp_path / "a.pth")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from([".safetensors", ".pth"]))
def test_damaged_bytes_load_as_they_were_or_fail_in_one_line(
    plain_network: JointFormer, tmp_path: Path, data: st.DataObject, suffix: str
) -> None:
    whole = bytearray(save_weights(plain_network, tmp_path / f"whole{suffix}").read_bytes())
    # Headers, directories and pickles are at the ends; in between lie numbers.
    places = st.one_of(
        st.integers(0, 4000), st.integers(len(whole) - 4000, len(whole) - 1), st.integers(0, len(whole) - 1)
    )
    for place in data.draw(st.lists(places, min_size=1, max_size=8)):
        whole[place] = data.draw(st.integers(0, 255))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(whole)
    with contextlib.suppress(WeightsError):
        load_weights_file(path).fitted()
