"""Open the web tool: draw masks, track, correct and export in a browser, on this computer.

VIDEO is a file or a folder of pictures to open; without it, the page shows your projects. Everything is saved in the
projects folder immediately. Ctrl+C ends the tool; an interrupted run can be continued at the next start.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from jointformer.cli.flags import add_device_flag, add_memory_flags, add_model_flag, add_precision_flag

if TYPE_CHECKING:  # the page's packages may be missing
    from jointformer.web.project import Project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `jointformer ui`."""
    parser.add_argument("video", type=Path, nargs="?", help="a video file or a folder of pictures to open")
    parser.add_argument(
        "--masks",
        type=Path,
        help="begin a new project of VIDEO with these masks: a PNG for the first frame, or a folder of PNGs",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        action="append",
        default=[],
        help="a folder whose videos the page may open (repeatable; default: VIDEO's folder, else the current one)",
    )
    parser.add_argument("--projects", type=Path, help="where projects are saved (default: your user data folder)")
    add_model_flag(parser)
    parser.add_argument("--size", type=int, help="shorter side the network sees (480; tiny: 240); -1: the frame's own")
    add_memory_flags(parser)
    add_device_flag(parser)
    add_precision_flag(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1); one that others can reach needs a token",
    )
    parser.add_argument("--port", type=int, help="port to listen on (default: 8765, or a free one)")
    parser.add_argument("--token", help="secret that browsers must send, at least 16 characters; auto: make one")
    parser.add_argument("--max-upload", type=float, default=4096, metavar="MIB", help="largest upload (default: 4096)")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")


def run(args: argparse.Namespace) -> int:
    """Return the exit code of `jointformer ui`."""
    import logging
    import math
    import secrets
    import webbrowser

    from platformdirs import user_data_path

    from jointformer.errors import ConfigError, DataError, missing_extra

    try:
        from jointformer.web.server import address, listen, serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise missing_extra("the web tool needs Starlette and Uvicorn, which are not installed", "web") from None
    from starlette.applications import Starlette

    from jointformer.model.device import choose_device, choose_precision
    from jointformer.model.registry import suitable_size
    from jointformer.model.weights import find_weights
    from jointformer.session.store import FILE as SESSION
    from jointformer.track import TrackerConfig
    from jointformer.web.config import WebConfig, is_loopback

    logging.basicConfig(format="jointformer ui: %(message)s")
    if args.video is not None and not args.video.exists():
        raise DataError("no such file or folder", where=args.video)
    if args.video is not None and (args.video / SESSION).is_file():
        hint = f"open its folder of sessions with --projects {args.video.resolve().parent}"
        raise DataError("a session, not a video", where=args.video, hint=hint)
    if args.masks is not None and args.video is None:
        raise ConfigError("--masks is given without VIDEO", expected="the video whose masks they are")
    max_upload = args.max_upload * 2**20
    if not math.isfinite(max_upload):
        raise ConfigError("--max-upload", expected="a number of MiB", got=args.max_upload)
    # The network is loaded when it is first needed; by then somebody has drawn masks.
    find_weights(args.model)
    choose_precision(choose_device(args.device), args.precision)
    home = [] if args.video is None else [args.video.resolve().parent]
    side = suitable_size(args.model) if args.size is None else args.size
    config = WebConfig(
        projects=args.projects or user_data_path("jointformer") / "projects",
        roots=tuple(args.folder + home) or (Path.cwd(),),
        host=args.host,
        port=8765 if args.port is None else args.port,
        token=secrets.token_urlsafe(24) if args.token == "auto" else args.token,
        model=args.model,
        device=args.device,
        precision=args.precision,
        tracker=TrackerConfig(size=side, max_memory_frames=args.max_memory_frames, topk=args.topk or None),
        max_upload=int(max_upload),
    )
    bound, config = listen(config, any_port=args.port is None)

    def ready(app: Starlette) -> None:
        url = address(config)
        if args.video is not None:
            video = args.video.resolve()
            begun = args.masks is not None
            shelf = app.state.shelf
            if begun and shelf.newest(video) is not None:
                text = "--masks begins a new project; an earlier one is on the tool's first page"
                print(f"{video}: {text}", file=sys.stderr)
            project = shelf.begin(video, args.masks) if begun else shelf.find_or_create(video)
            if project.session.config != config.tracker:
                print(f"{video}: its project keeps the settings it began with: {_told(project)}", file=sys.stderr)
            url += f"#/project/{quote(project.home.name)}"
        print(
            f"JointFormer's web tool is at {url}\nprojects are saved in {config.projects}; Ctrl+C ends", file=sys.stderr
        )
        if "SSH_CONNECTION" in os.environ and is_loopback(config.host):
            print(f"from the computer you sit at: ssh -L {config.port}:localhost:{config.port} …", file=sys.stderr)
        if not args.no_browser and _has_a_browser():
            webbrowser.open(url)

    serve(config, bound, ready)
    return 0


def _told(project: Project) -> str:
    """A project's settings, as the flags say them."""
    config = project.session.config
    return f"--size {config.size} --max-memory-frames {config.max_memory_frames} --topk {config.topk or 0}"


def _has_a_browser() -> bool:
    """Whether a page would be seen: `webbrowser` takes a browser of text in the terminal, and waits for it, if not."""
    seen = sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return seen or bool(os.environ.get("BROWSER"))  # somebody's choice, such as an editor's that forwards the port
