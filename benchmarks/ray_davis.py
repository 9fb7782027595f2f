"""DAVIS 2016 val on a Ray cluster of two nodes on this machine, against one process: throughput, overhead, deaths.

    python benchmarks/ray_davis.py --data-root ../shared/data

Three evaluations of the same videos, one thread per worker: one process; two actors; two actors of which one is killed
while it labels its first video and one loses its node after a third of the videos. The masks of all three must be the
same bytes, and finished videos must not be touched again. Prints JSON; exit code 1 where anything differs. About 7
minutes on two quiet cores at the default size; --videos and --frames make it shorter. Needs the extra `scale`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from watched import ENV, finished, kill_a_worker, label_pids, masks, stamps, two_nodes, wait_for


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
        wait_for(lambda: label_pids(output) or finished(output), self.process)
        self.first_video = time.monotonic()

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


def on_cluster(args: argparse.Namespace, tree: Path, output: Path, *, deaths: bool) -> dict[str, Any]:
    """Return the figures of an evaluation by two actors; deaths: with a killed worker and a node that goes."""
    with two_nodes(output.with_suffix(".cluster.log")) as cluster:
        run = Run(args, tree, output, "--ray", cluster.address)
        if not deaths:
            return run.figures(2)
        killed = kill_a_worker(output, run.process)
        third = max(1, len(list((tree / "JPEGImages").iterdir())) // 3)
        wait_for(lambda: len(finished(output)) >= third, run.process)
        before = stamps(output)
        cluster.remove_second()
        figures = run.figures(2)
    figures["worker_killed"] = killed is not None
    figures["finished_before_the_node_went"] = len({path.parent for path in before})
    figures["finished_masks_untouched"] = before.items() <= stamps(output).items()
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
