"""Names, places, devices: what `load_model` takes, and what it says to what it does not."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from jointformer.cli.main import main
from jointformer.errors import ConfigError, WeightsError
from jointformer.model import device as device_module
from jointformer.model.device import choose_device, choose_precision
from jointformer.model.network import JointFormer
from jointformer.model.registry import EMBEDDED, PUBLISHED, find_published
from jointformer.model.storage import save_weights
from jointformer.model.weights import load_for_export, load_model, load_weights, locate
from weights.conftest_weights import Server

CPU: dict[str, Any] = {"device": "cpu", "precision": "float32"}


@pytest.fixture
def published(plain_network: JointFormer, server: Server, tmp_path: Path) -> bytes:
    """The tiny network in the place of s012 on the release page."""
    server.files["jointformer_s012.pth"] = save_weights(plain_network, tmp_path / "x.pth").read_bytes()
    return server.files["jointformer_s012.pth"]


def test_there_are_14_published_weights_and_the_backbone(shared: Path) -> None:
    rows = [row for row in PUBLISHED.values() if not row.backbone]
    assert len(rows) == 14
    table = json.loads((shared / "spec" / "benchmarks.json").read_text())
    for entry in table:
        assert PUBLISHED[entry["checkpoint"]].address == entry["checkpoint_url"]


def test_the_backbone_has_an_address_and_a_page_for_people() -> None:
    row = PUBLISHED["convmae"]
    assert row.address.startswith("https://")
    assert "Alpha-VL/ConvMAE" in row.page


@pytest.mark.parametrize("name", ["s012", "S012", "jointformer_s012", "jointformer_s012.pth"])
def test_a_published_name_has_three_forms(name: str) -> None:
    assert find_published(name) is PUBLISHED["s012"]


@pytest.mark.parametrize("name", ["s012", "jointformer_s012", "jointformer_s012.pth"])
def test_a_published_name_is_downloaded_once_and_loaded(
    plain_network: JointFormer, published: bytes, server: Server, home: Path, name: str
) -> None:
    model = load_model(name, **CPU)
    assert torch.equal(model.decoder.pred.weight, plain_network.decoder.pred.weight)
    load_model(name, **CPU)
    assert len(server.asked) == 1
    assert (home / "jointformer_s012.pth").read_bytes() == published


@pytest.mark.parametrize("progress", [True, False])
def test_a_download_shows_a_bar_unless_nobody_wants_one(
    published: bytes, home: Path, capsys: pytest.CaptureFixture[str], progress: bool
) -> None:
    load_model("s012", **CPU, progress=progress)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("jointformer_s012" in shown.err) == progress


def test_a_file_put_into_the_cache_by_hand_is_taken_and_its_hash_noted(
    plain_network: JointFormer, server: Server, home: Path
) -> None:
    path = save_weights(plain_network, home / "jointformer_s02.pth")
    load_model("s02", **CPU)
    assert server.asked == []
    state = plain_network.state_dict() | {"decoder.pred.bias": torch.ones(1)}
    save_weights(state, path)
    with pytest.raises(WeightsError, match=r"the file has changed since its SHA-256 was noted.*download it again"):
        load_model("s02", **CPU)


def test_a_downloaded_file_is_verified_wherever_it_lies(published: bytes, tmp_path: Path, home: Path) -> None:
    from jointformer.model.weights import download

    path = download(PUBLISHED["s012"], tmp_path / "checkpoints")
    load_model(path, **CPU)
    path.write_bytes(published[:-1] + b"x")
    with pytest.raises(WeightsError, match=r"has changed"):
        load_model(path, **CPU)


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"sha256": 7}', '{"sha256": "zz"}', "[" * 100_000])
def test_a_damaged_note_of_a_hash_is_one_line(plain_network: JointFormer, home: Path, note: str) -> None:
    save_weights(plain_network, home / "jointformer_s02.pth")
    (home / "jointformer_s02.pth.json").write_text(note)
    with pytest.raises(WeightsError, match=r"unreadable note of a weights file's SHA-256"):
        load_model("s02", **CPU)


def test_a_file_of_ones_own_gets_no_note(network: JointFormer, tmp_path: Path) -> None:
    path = save_weights(network, tmp_path / "mine.safetensors")
    load_model(path, **CPU)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.safetensors"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("s0123", "s012"), ("s21", "s2"), ("tny", "tiny"), ("jointformer_s0120.pth", "s012")],
)
def test_an_unknown_name_gets_the_nearest_known_one(name: str, nearest: str) -> None:
    with pytest.raises(WeightsError, match=rf"{name}: no such weights.*did you mean '{nearest}'") as caught:
        load_model(name, **CPU)
    assert "\n" not in str(caught.value)


def test_a_file_below_an_unknown_users_folder_is_no_such_file() -> None:
    with pytest.raises(WeightsError, match=r"~nobody-of-this-name/x\.pth: no such"):
        load_model("~nobody-of-this-name/x.pth", **CPU)


def test_the_backbone_is_named_only_where_it_will_do() -> None:
    with pytest.raises(WeightsError, match=r"convmea: no such weights.*s07, convmae; did you mean 'convmae'"):
        load_weights("convmea", backbone=True)
    with pytest.raises(WeightsError, match=r"convmea: no such weights.*s07; `jointformer weights list`"):
        load_model("convmea", **CPU)


def test_the_backbone_is_not_fetched_where_a_whole_network_is_needed(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("jointformer.model.weights.download", lambda *_, **__: pytest.fail("it was fetched"))
    refused = r"convmae: this is ConvMAE's pre-training file, the backbone alone, expected weights of a whole network"
    for call in (load_model, lambda name: load_for_export(name, torch.float32)):
        with pytest.raises(WeightsError, match=refused):
            call("convmae")
    out = str(tmp_path / "out.safetensors")
    for command in (
        ["weights", "convert", "convmae"],
        ["weights", "mean", "tiny", "convmae"],
        ["weights", "mean", "s012", "convmae"],
    ):
        assert main([*command, out]) == 2
        assert refused in capsys.readouterr().err
    assert main(["info", "--model", "convmae"]) == 2
    assert refused in capsys.readouterr().err


@pytest.mark.parametrize(
    ("preset", "hint"),
    [
        ("base", "its published weights are s012, s02, …; `jointformer weights list` shows all of them"),
        ("small", "no weights of it are published; `jointformer train --model small` trains some"),
    ],
)
def test_a_networks_name_is_none_of_weights(preset: str, hint: str) -> None:
    with pytest.raises(WeightsError) as caught:
        load_model(preset, **CPU)
    assert str(caught.value) == f"{preset} is a network without weights; {hint}"


def test_a_file_that_is_not_there_is_not_taken_for_a_name_that_only_ends_like_it() -> None:
    with pytest.raises(WeightsError, match=r"^nothere\.pth: no such weights") as caught:
        load_model("nothere.pth", **CPU)
    assert "did you mean" not in str(caught.value)


def test_a_missing_published_file_says_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"jointformer weights download s02 --to {tmp_path}"):
        load_model(tmp_path / "jointformer_s02.pth", **CPU)


def test_a_folder_is_no_weights_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"a folder, expected a file"):
        load_model(tmp_path, **CPU)


def test_a_file_in_the_way_of_a_name_is_meant_only_with_its_folder(
    plain_network: JointFormer, published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s012").write_text("something else")
    assert locate("s012") == home / "jointformer_s012.pth"
    with pytest.raises(WeightsError):
        load_weights("./s012")
    own = save_weights(plain_network, tmp_path / "jointformer_s012.pth")
    assert locate("jointformer_s012.pth") == Path(own.name)


def test_missing_embedded_weights_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(EMBEDDED, "tiny", tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match=r"embedded weights 'tiny' are missing from this installation"):
        load_model(**CPU)


def test_the_embedded_weights_load_without_name_network_or_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not EMBEDDED["tiny"].is_file():
        pytest.skip("no embedded weights in this checkout")
    monkeypatch.setenv("JOINTFORMER_HOME", str(tmp_path / "nowhere"))
    model = load_model(**CPU)
    assert model.config.name == "tiny"
    assert not (tmp_path / "nowhere").exists()
    assert EMBEDDED["tiny"].stat().st_size < 20_000_000


def test_auto_precision_follows_what_the_device_computes_natively(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "cpu_has_bfloat16", lambda: True)
    assert choose_precision("cpu") == "bfloat16"
    monkeypatch.setattr(device_module, "cpu_has_bfloat16", lambda: False)
    assert choose_precision("cpu") == "float32"
    assert choose_precision("mps") == "float32"
    for capability, precision in (((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert choose_precision("cuda:0") == precision
    assert choose_precision("cuda", "float32") == "float32"


@pytest.mark.parametrize(("found", "said"), [({}, 1), ({"avx512_fp16": True}, 0), ({"amx_fp16": True}, 0)])
def test_float16_on_a_cpu_that_does_not_multiply_it_is_said_to_be_slow_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, found: dict[str, bool], said: int
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    monkeypatch.setattr(device_module, "_say_if_slow", functools.cache(device_module._say_if_slow.__wrapped__))
    for device in ("cpu", "cpu", "cuda"):
        assert choose_precision(device, "float16") == "float16"
    assert [record.getMessage() for record in caplog.records] == [
        "this processor does not multiply float16, which takes far longer than float32"
    ] * said


def test_the_cpu_is_asked_and_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True})
    assert not device_module.cpu_has_bfloat16()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert device_module.cpu_has_bfloat16()


def test_a_device_that_is_none_or_not_here_is_one_line() -> None:
    kind: Any
    for kind in ("gpu", None, 1.5):
        with pytest.raises(ConfigError, match=rf"^device, expected auto, cpu, cuda, cuda:N or mps, got {kind!r}$"):
            choose_device(kind)
    with pytest.raises(ConfigError, match=r"'cuda:99' is not available here"):
        choose_device("cuda:99")
    with pytest.raises(ConfigError, match=r"precision, expected auto, float32"):
        load_model("tiny", device="cpu", precision="int8")
