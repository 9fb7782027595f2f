"""List, download, convert, average, export and inspect weights."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jointformer.cli.flags import add_topk_flag, parse_frame_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the six actions of `jointformer weights`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
        return sub

    action("list", "List all names, what they were trained on, and whether they are on this computer.")

    get = action("download", "Download published weights into the user's cache; an interrupted download is resumed.")
    get.add_argument("names", nargs="*", metavar="NAME", help="s012, jointformer_s012, convmae, …")
    get.add_argument("--all", action="store_true", help="all 14 published files")
    get.add_argument("--to", type=Path, metavar="FOLDER", help="download into this folder instead of the cache")

    convert = action("convert", "Convert weights to another format (by the suffix of OUT) or precision.")
    convert.add_argument("source", metavar="IN", help="a name or a .pth or .safetensors file")
    convert.add_argument("target", type=Path, metavar="OUT", help="a .safetensors or .pth file")
    convert.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="default: as stored")

    mean = action("mean", "Write the mean of two networks' weights, often better than either end of a run.")
    mean.add_argument("first", metavar="A", help="a name or a .pth or .safetensors file")
    mean.add_argument("second", metavar="B", help="weights of the same network")
    mean.add_argument("target", type=Path, metavar="OUT", help="a .safetensors or .pth file, of A's type")
    mean.add_argument("--share", type=float, default=0.5, help="how much of B: 0 to 1 (default: 0.5)")

    onnx = action("onnx", "Export the network as ONNX files for programs without PyTorch (docs/onnx.md).")
    onnx.add_argument("source", metavar="NAME_OR_PATH", help="a name or a .pth or .safetensors file")
    onnx.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder for the files")
    onnx.add_argument("--size", default="480x854", help="the network's frames as HEIGHTxWIDTH (default: 480x854)")
    add_topk_flag(onnx)
    onnx.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="default: float32")
    onnx.add_argument("--quiet", action="store_true", help="no progress bar")

    info = action("info", "Show the network, parameters, type and SHA-256 of weights.")
    info.add_argument("source", metavar="NAME_OR_PATH", help="a name or a .pth or .safetensors file")


def run(args: argparse.Namespace) -> int:
    """Return the exit code of the action."""
    actions: dict[str, Callable[[argparse.Namespace], Any]] = {
        "list": _list,
        "download": _download,
        "convert": _convert,
        "mean": _mean,
        "onnx": _onnx,
        "info": _info,
    }
    rows = actions[args.action](args)
    if args.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    elif isinstance(rows, list):
        _print_table(rows)
    else:
        for key, value in rows.items():
            if value is not None:
                number = isinstance(value, int) and not isinstance(value, bool)
                print(f"{key:<12} {value:,}" if number else f"{key:<12} {value}")
    return 0


def _list(args: argparse.Namespace) -> list[dict[str, Any]]:
    from jointformer.model.cache import published_path
    from jointformer.model.registry import EMBEDDED, PUBLISHED

    known: list[tuple[str, Path, str, str | None]] = [
        *((name, path, "comes with the package", None) for name, path in EMBEDDED.items()),
        *((row.name, published_path(row), row.trained_on, row.url) for row in PUBLISHED.values()),
    ]
    return [
        {
            "name": name,
            "here": path.is_file(),
            "bytes": path.stat().st_size if path.is_file() else None,
            "trained_on": trained_on,
            "path": str(path),
            "url": url,
        }
        for name, path, trained_on, url in known
    ]


def _download(args: argparse.Namespace) -> list[dict[str, Any]]:
    from jointformer.errors import ConfigError
    from jointformer.model.cache import verify_or_note
    from jointformer.model.registry import EMBEDDED, PUBLISHED, find_published, unknown_name

    wanted = []
    for name in args.names:
        if name in EMBEDDED:
            raise ConfigError(f"{name} comes with the package", hint="there is nothing to download")
        row = find_published(name)
        if row is None:
            raise unknown_name(name, backbone=True)
        wanted.append(row)
    if args.all:
        wanted += [row for row in PUBLISHED.values() if not row.backbone and row not in wanted]
    if not wanted:
        raise ConfigError("nothing to download", expected="names, or --all", hint="see `jointformer weights list`")
    from jointformer.model.weights import download  # after the names are known to be right: it imports torch

    rows = []
    for row in wanted:
        path = download(row, args.to)
        sha256 = verify_or_note(path)
        rows.append({"name": row.name, "path": str(path), "bytes": path.stat().st_size, "sha256": sha256})
        print(f"{row.name}: {path}", file=sys.stderr)
    return rows


def _convert(args: argparse.Namespace) -> dict[str, Any]:
    from jointformer.model.device import DTYPES
    from jointformer.model.storage import check_suffix, save_weights
    from jointformer.model.weights import load_whole
    from jointformer.system.files import check_writable

    check_suffix(args.target)  # before half a gigabyte is fetched for nothing
    check_writable(args.target)
    model, state = load_whole(args.source).fitted()
    dtype = DTYPES[args.dtype] if args.dtype else None
    path = save_weights(state, args.target, model.config, dtype)
    return {"path": str(path), "bytes": path.stat().st_size, "name": model.config.name}


def _mean(args: argparse.Namespace) -> dict[str, Any]:
    from jointformer.model.convert import mean_of_weights
    from jointformer.model.storage import check_suffix, save_weights
    from jointformer.model.weights import check_whole, load_weights
    from jointformer.system.files import check_writable

    check_suffix(args.target)
    check_writable(args.target)
    sources = args.first, args.second
    for source in sources:
        check_whole(source)
    (model, first), (_, second) = (load_weights(source).fitted() for source in sources)
    path = save_weights(mean_of_weights(first, second, args.share), args.target, model.config)
    return {"path": str(path), "bytes": path.stat().st_size, "name": model.config.name}


def _onnx(args: argparse.Namespace) -> dict[str, Any]:
    from tqdm import tqdm

    from jointformer.model.device import DTYPES
    from jointformer.model.onnx_export import STEPS, check_export, export_onnx
    from jointformer.model.onnx_graphs import GraphConfig
    from jointformer.model.weights import load_for_export

    config = GraphConfig(*parse_frame_size(args.size), topk=args.topk or None)
    check_export(args.folder)  # before half a gigabyte is fetched for nothing
    model = load_for_export(args.source, DTYPES[args.dtype], progress=not args.quiet)
    with tqdm(total=len(STEPS), leave=False, disable=args.quiet) as bar:

        def begin(step: str) -> None:
            bar.update(STEPS.index(step) - bar.n)
            bar.set_description(step)

        differences = export_onnx(model, args.folder, config, progress=begin)
    size = sum(path.stat().st_size for path in args.folder.iterdir())
    found = {f"{name}_off": float(f"{difference:.1e}") for name, difference in differences.items()}
    return {"path": str(args.folder), "bytes": size, "name": model.config.name, **found}


def _info(args: argparse.Namespace) -> dict[str, Any]:
    from jointformer.model.cache import published_path
    from jointformer.model.registry import find_published
    from jointformer.model.weights import find_weights, load_weights

    found = find_weights(args.source, backbone=True)
    if not isinstance(found, Path) and not published_path(found).is_file():
        # Half a gigabyte is not fetched by somebody who only asks.
        return {
            "name": found.name,
            "here": False,
            "trained on": found.trained_on,
            "url": found.url,
            "path": str(published_path(found)),
        }
    row = find_published(args.source)
    return _describe(load_weights(args.source), row.trained_on if row else None)


def _describe(stored: Any, trained_on: str | None) -> dict[str, Any]:
    from jointformer.model.cache import file_sha256

    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in stored.state.values()})
    facts: dict[str, Any] = {
        "path": str(stored.path),
        "bytes": stored.path.stat().st_size,
        "sha256": file_sha256(stored.path),
        "tensors": len(stored.state),
        "types": ", ".join(types),
        "trained on": trained_on,
    }
    if stored.is_backbone:
        return facts | {"name": "convmae", "holds": "ConvMAE's pre-trained backbone, a start for training"}
    network = stored.fitted()[0]
    config = network.config
    return facts | {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "name": config.name,
        "widths": list(config.widths),
        "depths": list(config.depths),
        "heads": config.heads,
        "update": config.update_depth,
        "enhance": config.enhance_depth,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        size = f"{row['bytes'] / 1e6:8.1f} MB" if row.get("bytes") else "          -"
        print(f"{row['name']:<8} {size}  {row.get('trained_on') or row['path']}")
