"""`jointformer weights` and checkpoints/download_checkpoint.sh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from PIL import Image

from jointformer.cli.main import main
from jointformer.errors import WeightsError
from jointformer.model.cache import file_sha256
from jointformer.model.network import JointFormer
from jointformer.model.storage import save_weights
from weights.conftest_weights import SMALL, Server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def published(plain_network: JointFormer, server: Server, tmp_path: Path) -> Server:
    content = save_weights(plain_network, tmp_path / "x.pth").read_bytes()
    server.files |= {"jointformer_s012.pth": content, "jointformer_s02.pth": content}
    return server


def test_list_shows_every_name_and_what_is_here(
    home: Path, plain_network: JointFormer, capsys: pytest.CaptureFixture[str]
) -> None:
    save_weights(plain_network, home / "jointformer_s2.pth")
    assert main(["weights", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert len(rows) == 16
    assert rows["s2"]["here"]
    assert not rows["s7"]["here"]
    assert rows["s012"]["trained_on"] == "static images, then BL30K, then DAVIS 2017 + YouTube-VOS 2019"
    assert main(["weights", "list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 16


def test_download_fetches_each_name_and_reports_it(
    published: Server, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "download", "s012", "jointformer_s02", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["s012", "s02"]
    assert all(Path(row["path"]).parent == home and len(row["sha256"]) == 64 for row in rows)


def test_download_looks_at_a_file_that_is_there_before_it_names_its_hash(
    published: Server, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand = home / "jointformer_s012.pth"
    home.mkdir(parents=True)
    by_hand.write_bytes(b"put here")
    assert main(["weights", "download", "s012", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["sha256"] == file_sha256(by_hand)
    by_hand.write_bytes(b"damaged")
    assert main(["weights", "download", "s012"]) == 2
    assert "the file has changed since its SHA-256 was noted" in capsys.readouterr().err
    assert published.asked == []


def test_the_embedded_weights_need_no_download(
    published: Server, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "download", "s012", "tiny"]) == 2
    assert capsys.readouterr().err == "jointformer weights: tiny comes with the package; there is nothing to download\n"
    assert published.asked == []


@pytest.mark.parametrize("names", [["s012", "s999"], []])
def test_a_wrong_name_stops_before_anything_is_fetched(
    published: Server, home: Path, capsys: pytest.CaptureFixture[str], names: list[str]
) -> None:
    assert main(["weights", "download", *names]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "weights list" in error
    assert published.asked == []


@pytest.mark.parametrize("quiet", [True, False])
@pytest.mark.parametrize(
    "line",
    [
        "demo -o out",
        "speed",
        "track JPEGImages/a --masks Annotations/a -o out",
        "track JPEGImages/a --masks Annotations/a -o out --output-format folder",
        "track JPEGImages/a JPEGImages/b --masks Annotations -o out",
        "evaluate --dataset G --generic-path . -o out",
        "weights onnx s012 out",
    ],
)
def test_quiet_commands_download_quietly(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, quiet: bool
) -> None:
    shown: list[bool] = []

    def fetch(*_: object, progress: bool, **__: object) -> None:
        shown.append(progress)
        raise WeightsError("the test needs no more")

    monkeypatch.setattr("jointformer.model.download.fetch", fetch)
    monkeypatch.setattr("jointformer.model.onnx_export.check_export", lambda _: None)  # its packages may be missing
    monkeypatch.chdir(tmp_path)
    for video in ("a", "b"):
        for folder in ("JPEGImages", "Annotations"):
            (tmp_path / folder / video).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(f"JPEGImages/{video}/00000.png")
        Image.new("L", (32, 32), 1).save(f"Annotations/{video}/00000.png")
    model = [] if line.startswith("weights") else ["--model", "s012"]
    assert main([*line.split(), *model, *["--quiet"] * quiet]) == 2
    assert shown == [not quiet]


def test_convert_writes_half_precision_with_the_config(
    network: JointFormer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save_weights(network, tmp_path / "a.safetensors")
    target = tmp_path / "b.safetensors"
    assert main(["weights", "convert", str(source), str(target), "--dtype", "float16"]) == 0
    with safetensors.safe_open(target, framework="pt") as file:
        assert file.get_tensor("decoder.pred.weight").dtype == torch.float16
        assert json.loads(file.metadata()["config"])["heads"] == SMALL.heads


def test_convert_fetches_nothing_where_it_cannot_write(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jointformer.model.weights.load_weights", lambda *_, **__: pytest.fail("it was fetched"))
    (tmp_path / "file").touch()
    assert main(["weights", "convert", "s012", str(tmp_path / "file/s012.pth")]) == 2
    assert "file/s012.pth: cannot be written: a part of the path is a file" in capsys.readouterr().err


def test_convert_to_pth_and_back_changes_nothing(
    plain_network: JointFormer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save_weights(plain_network, tmp_path / "a.pth")
    assert main(["weights", "convert", str(source), str(tmp_path / "b.safetensors")]) == 0
    assert main(["weights", "convert", str(tmp_path / "b.safetensors"), str(tmp_path / "c.pth")]) == 0
    first, last = (torch.load(p, weights_only=True) for p in (source, tmp_path / "c.pth"))
    assert all(torch.equal(first[name], last[name]) for name in first)


def test_the_mean_of_two_networks_lies_where_the_share_says(
    plain_network: JointFormer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = save_weights(plain_network, tmp_path / "a.safetensors", dtype=torch.float16)
    state = {
        name: tensor + (0 if name.endswith("pos_embed") else 2) for name, tensor in plain_network.state_dict().items()
    }
    second = save_weights(state, tmp_path / "b.pth", plain_network.config)
    out = tmp_path / "mean.safetensors"
    assert main(["weights", "mean", str(first), str(second), str(out), "--share", "0.25", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(out)
    before, after = safetensors.torch.load_file(first), safetensors.torch.load_file(out)
    assert list(before) == list(after)
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype
        moved = 0 if name.endswith("pos_embed") else 0.5
        torch.testing.assert_close(tensor.float(), before[name].float() + moved, atol=2e-3, rtol=1e-3)


def test_weights_of_two_networks_have_no_mean(
    network: JointFormer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = save_weights(network, tmp_path / "a.safetensors"), tmp_path / "mean.safetensors"
    assert main(["weights", "mean", str(path), "tiny", str(out)]) == 2
    assert "weights of two networks have no mean: convmae.blocks1.0.attn.bias, expected (" in capsys.readouterr().err
    assert main(["weights", "mean", str(path), str(path), str(out), "--share", "1.5"]) == 2
    assert "share, expected 0 to 1, got 1.5" in capsys.readouterr().err
    assert not out.exists()


def test_info_describes_a_file(network: JointFormer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_weights(network, tmp_path / "a.safetensors", dtype=torch.float16)
    assert main(["weights", "info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["widths"] == [16, 24, 48]
    assert facts["heads"] == 3
    assert facts["types"] == "float16"
    assert facts["parameters"] == sum(p.numel() for p in network.parameters())  # as `jointformer info` counts
    assert main(["weights", "info", str(path)]) == 0
    assert "float16" in capsys.readouterr().out


def test_info_does_not_fetch_half_a_gigabyte(published: Server, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "info", "s012", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert not facts["here"]
    assert facts["path"] == str(home / "jointformer_s012.pth")
    assert published.asked == []


def test_info_of_a_published_name_does_not_ask_about_a_file_of_that_name(
    published: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s012").touch()
    assert main(["weights", "info", "s012", "--json"]) == 0
    assert not json.loads(capsys.readouterr().out)["here"]
    assert published.asked == []


def test_a_missing_file_is_one_line_and_exit_code_2(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "info", "nothing.pth"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jointformer weights: nothing.pth: no such weights")
    assert len(error.splitlines()) == 1


def test_help_of_every_action_works_without_torch() -> None:
    code = (
        "import sys; from jointformer.cli.main import build_parser; build_parser('weights')[0].format_help();"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=280)


def test_the_download_script_fetches_beside_itself(published: Server, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    script = folder / "download_checkpoint.sh"
    script.write_bytes((ROOT / "checkpoints" / "download_checkpoint.sh").read_bytes())
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    command = bin_folder / "jointformer"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jointformer.cli.main "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", str(script), "s012"], check=True, env=environment, timeout=280)
    assert (folder / "jointformer_s012.pth").is_file()
    assert (folder / "jointformer_s012.pth.json").is_file()
