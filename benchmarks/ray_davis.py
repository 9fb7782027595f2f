"""DAVIS 2016 val on a Ray cluster of two nodes on this machine, against one process: throughput, overhead, deaths.

    python benchmarks/ray_davis.py --data-root ../shared/data

Three evaluations of the same videos, one thread per worker: one process; two actors; two actors of which one is killed
while it labels its first video and one loses its node after a third of the videos. The masks of all three must be the
same bytes, and finished videos must not be touched again. Prints JSON; exit code 1 where anything differs. About 7
minutes on two quiet cores at the default size; --videos and --frames make it shorter. Needs jointformer[scale].
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

#: In a process of its own: Ray's threads and warnings stay there.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 200 * 2**20})
second = cluster.add_node(num_cpus=1, object_store_memory=200 * 2**20)
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "remove":
        cluster.remove_node(second, allow_graceful=False)
        print("removed", flush=True)
    else:
        break
cluster.shutdown()
"""
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": ""}


def make_tree(davis: Path, root: Path, names: list[str], frames: int | None) -> Path:
    """Return a generic tree of links: all frames of the videos (or the first so many), and their first masks."""
    for name in names:
        for kind, count in (("JPEGImages", frames), ("Annotations", 1)):
            folder = root / kind / name
            folder.mkdir(parents=True)
            for path in sorted((davis / kind / "480p" / name).iterdir())[:count]:
                (folder / path.name).symlink_to(path.resolve())
    return root


class Run:
    """One evaluation: started, watched, and what came of it."""

    def __init__(self, args: argparse.Namespace, tree: Path, output: Path, *more: str) -> None:
        self.output = output
        self.start = time.monotonic()
        command = [sys.executable, "-m", "jointformer", "evaluate", "--dataset", "G", "--generic-path", str(tree)]
        command += ["--model", args.model, "--sizes", str(args.size), "--precision", args.precision, "--device", "cpu"]
        command += ["--threads", "1", "--quiet", "-o", str(output), *more]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENV)
        self.wait(lambda: self.pids() or self.finished())
        self.first_video = time.monotonic()

    def pids(self) -> list[int]:
        """Return the processes with a video in work."""
        return [int(path.name.split("-")[2]) for path in self.output.glob(".jointformer-*") if path.is_dir()]

    def finished(self) -> list[str]:
        """Return the finished videos."""
        return [path.name for path in self.output.glob("[!.]*") if path.is_dir()]

    def wait(self, condition: Any) -> None:
        """Wait until a condition holds or the run is over."""
        while not condition() and self.process.poll() is None:
            time.sleep(0.02)

    def figures(self, workers: int) -> dict[str, Any]:
        """Return what the run took, at its end."""
        _, text = self.process.communicate()
        end = time.monotonic()
        if self.process.returncode != 0:
            raise SystemExit(f"exit code {self.process.returncode}: {text}")
        manifest = json.loads((self.output / "run.json").read_text())
        labelling = end - self.first_video
        videos = len(manifest["videos"])
        return {
            "workers": workers,
            "videos": videos,
            "frames": manifest["frames"],
            "seconds_to_first_video": round(self.first_video - self.start, 2),
            "seconds_labelling": round(labelling, 2),
            "seconds_in_model": manifest["seconds"],
            "frames_per_second": round(manifest["frames"] / labelling, 3),
            # Reading, writing, handing out, and workers that have nothing left to do at the end.
            "overhead_seconds_per_video": round((workers * labelling - manifest["seconds"]) / videos, 3),
        }


def masks(output: Path) -> dict[str, bytes]:
    """Return every mask's bytes by its path."""
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*.png")}


def on_cluster(args: argparse.Namespace, tree: Path, output: Path, *, deaths: bool) -> dict[str, Any]:
    """Return the figures of an evaluation by two actors; deaths: with a killed worker and a node that goes."""
    log = output.with_suffix(".cluster.log")
    with log.open("w") as errors, subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CLUSTER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=ENV,
    ) as cluster:  # fmt: skip
        assert cluster.stdin is not None and cluster.stdout is not None  # noqa: PT018
        address = cluster.stdout.readline().strip()
        if not address:
            raise SystemExit(f"the cluster did not start: {log.read_text()[-2000:]}")
        run = Run(args, tree, output, "--ray", address)
        stamps, killed = {}, False
        if deaths:
            for pid in run.pids()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed = True
            third = max(1, len(list((tree / "JPEGImages").iterdir())) // 3)
            run.wait(lambda: len(run.finished()) >= third)
            stamps = {path: path.stat().st_mtime_ns for path in output.glob("[!.]*/*.png")}
            cluster.stdin.write("remove\n")
            cluster.stdin.flush()
            cluster.stdout.readline()
        figures = run.figures(2)
        cluster.stdin.write("end\n")
        cluster.stdin.close()
    if deaths:
        figures["worker_killed"] = killed
        figures["finished_before_the_node_went"] = len({path.parent for path in stamps})
        figures["finished_masks_untouched"] = all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    return figures


def main() -> int:
    """Print the figures; return 1 where masks differ or finished ones were made again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"), help="the folder of DAVIS/")
    parser.add_argument("--videos", nargs="+", help="these only (default: the 20 of val)")
    parser.add_argument("--frames", type=int, help="only the first so many of each video")
    parser.add_argument("--size", type=int, default=240, help="shorter side the network sees")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--model", default="tiny")
    args = parser.parse_args()
    davis = args.data_root / "DAVIS/2016"
    lists = sorted((args.data_root / "DAVIS").rglob("ImageSets/2016/val.txt"))
    names = args.videos or lists[0].read_text().split()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tree = make_tree(davis, root / "tree", names, args.frames)
        one = Run(args, tree, root / "one").figures(1)
        two = on_cluster(args, tree, root / "two", deaths=False)
        deaths = on_cluster(args, tree, root / "deaths", deaths=True)
        whole = masks(root / "one")
        equal = whole == masks(root / "two") == masks(root / "deaths")
        left = [path.name for path in (root / "deaths").glob(".*")]
    ratio = two["frames_per_second"] / one["frames_per_second"]
    print(
        json.dumps(
            {
                "size": args.size,
                "model": args.model,
                "one_process": one,
                "two_actors": two,
                "two_actors_with_deaths": deaths,
                "throughput_of_two_actors_against_one_process": round(ratio, 3),
                "masks": len(whole),
                "byte_equal": equal,
                "left_over": left,
            },
            indent=2,
        )
    )
    return 0 if equal and not left and deaths["finished_masks_untouched"] else 1


if __name__ == "__main__":
    sys.exit(main())
