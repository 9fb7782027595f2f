"""Where packages of an extra are not installed, one line says how to install them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from jointformer.cli.main import main
from jointformer.errors import ConfigError


def how(extra: str) -> str:
    """The end of the line."""
    return f"; pip install 'jointformer[{extra}]'"


def test_the_web_tool_names_its_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delitem(sys.modules, "jointformer.web.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["ui"]) == 2
    said = "jointformer ui: the web tool needs Starlette and Uvicorn, which are not installed"
    assert capsys.readouterr().err.strip() == said + how("web")


def test_graphs_of_training_name_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jointformer.train.board import Board

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said = "--tensorboard: TensorBoard is not installed" + how("train")
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        Board(tmp_path)


def test_ray_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from jointformer.evaluation.scale import ray_actors

    monkeypatch.setitem(sys.modules, "ray", None)
    said = "--ray: Ray is not installed" + how("scale")
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        ray_actors._connect("auto")


def test_onnx_files_name_their_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["weights", "onnx", "tiny", str(tmp_path / "new")]) == 2
    said = "jointformer weights: ONNX files need onnxscript and onnxruntime, which are not installed"
    assert capsys.readouterr().err.strip() == said + how("onnx")
    assert not (tmp_path / "new").exists()
