"""Run by `make package` inside a clean environment that holds the built wheel, what it needs, and no extra.

Every module that needs no extra is imported with warnings as errors, and those that need one fail for want of that one
alone; `jointformer --help` is quick and loads no heavy library; the embedded weights are in the wheel; the newest PyAV
that this Python gets writes and reads a video.
"""

from __future__ import annotations

import importlib
import pkgutil
import resource
import subprocess
import sys
import tempfile
import warnings
from fractions import Fraction
from pathlib import Path

#: Top-level modules of the extras, which must not be here.
EXTRAS = {"tensorboard", "matplotlib", "starlette", "uvicorn", "ray", "onnxscript", "onnxruntime"}
#: What comes with PyTorch's builds for GPUs alone, and is imported where there is one.
WITH_GPUS = {"triton"}
HEAVY = {"torch", "numpy", "cv2", "scipy", "PIL", "av", "numba", "pycocotools", "httpx"}


def modules() -> tuple[list[str], dict[str, str]]:
    """Return the modules that were imported, and {module: the extra's module it lacks}."""
    import jointformer

    assert Path(jointformer.__file__).is_relative_to(sys.prefix), f"not the wheel: {jointformer.__file__}"
    imported, lacking = [], {}
    for found in pkgutil.walk_packages(jointformer.__path__, "jointformer."):
        if found.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            name = (error.name or "").partition(".")[0]
            if name not in EXTRAS | WITH_GPUS:
                sys.exit(f"{found.name} needs {error.name}, which no dependency brings")
            lacking[found.name] = name
        else:
            imported.append(found.name)
    return imported, lacking


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Return a finished run of this environment's Python; its failure is ours."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done


def check_help() -> float:
    """Return the processor's seconds of `jointformer --help`, the best of three."""
    script = Path(sys.executable).with_name("jointformer")
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        text = run(str(script), "--help").stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert text.startswith("usage: jointformer")
    assert min(seconds) < 0.5, f"jointformer --help took {min(seconds):.2f} s"
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in run(
        "-X", "importtime", str(script), "--help").stderr.splitlines()}  # fmt: skip
    assert loaded.isdisjoint(HEAVY | EXTRAS), f"jointformer --help loads {loaded & (HEAVY | EXTRAS)}"
    return min(seconds)


def check_video() -> None:
    """Write a video and read it again: that a new PyAV takes other arguments shows in no import."""
    import numpy as np

    from jointformer.data.video_file import VideoFile
    from jointformer.data.video_writer import VideoWriter

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")
        with VideoWriter(path, Fraction(25), (48, 64)) as writer:
            for grey in (50, 150, 250):
                writer.write(np.full((48, 64, 3), grey, np.uint8))
        assert len(VideoFile(path)) == 3


def main() -> None:
    """Print what was checked."""
    present = [name for name in sorted(EXTRAS) if importlib.util.find_spec(name) is not None]
    assert not present, f"the environment is not clean: {', '.join(present)}"
    run("-W", "error", "-c", "import jointformer")
    seconds = check_help()
    warnings.simplefilter("error")
    imported, lacking = modules()
    assert len(imported) > 150, len(imported)
    misplaced = [f"{name} ({needed})" for name, needed in lacking.items() if needed in EXTRAS and ".web." not in name]
    assert not misplaced, f"extras are imported where they are used, but for the web tool's: {misplaced}"
    import jointformer

    jointformer.load_model("tiny", device="cpu")
    check_video()
    needed = ", ".join(sorted(set(lacking.values())))
    print(f"{len(imported)} modules imported, {len(lacking)} wait for {needed}; --help takes {seconds:.2f} s")


if __name__ == "__main__":
    import importlib.util

    main()
