"""Throw changed inputs at the readers: `python -m fuzz --minutes 10` in tests/, `--reader videos` for one of them.

Whatever a reader does but return or raise a UserError is a finding: another exception, a crash of the process, more
than 10 s of the processor for one input, or more memory than 7 GB of addresses. Findings go to --keep, small enough to
be added to the corpus, which tests/fuzz/test_corpus.py reads again for ever.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fuzz.readers
import fuzz.streams  # noqa: F401  both enter their readers into the table
from fuzz.mutate import change_bytes, change_json
from fuzz.table import READERS
from jointformer.errors import UserError

CORPUS = Path(__file__).parent / "corpus"
_SECONDS, _ADDRESSES = 10, 7 << 30


def inputs(name: str) -> list[tuple[str, bytes]]:
    """Return a reader's whole inputs and its corpus, by file name."""
    kept = sorted((CORPUS / name).glob("*")) if (CORPUS / name).is_dir() else []
    return [*READERS[name].seeds().items(), *((path.name, path.read_bytes()) for path in kept)]


def complaint(name: str, path: Path) -> str | None:
    """Return what is wrong with how a reader takes a file; None where it reads or refuses it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            READERS[name].read(path)
    except UserError as error:
        return None if "\n" not in str(error) else "a message of several lines"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:80]} at {Path(place.filename).name}:{place.lineno}"
    return None


def _hunt(name: str, seed: int, seconds: float, keep: Path, count: Any, seen: Any) -> None:
    """Run changed inputs; in a process of its own, which may die of one: it lies in keep/present then."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries complain in their own words
    chance, whole = random.Random(seed), inputs(name)
    change = change_json if READERS[name].made_of == "json" else change_bytes
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        file, data = chance.choice(whole)
        data = change(chance, data, [other for _, other in whole])
        with TemporaryDirectory() as folder:
            path = Path(folder) / file
            path.write_bytes(data)
            (keep / "present").write_bytes(file.encode() + b"\0" + data)
            began = time.process_time()
            signal.alarm(int(_SECONDS * 30))
            found = complaint(name, path)
            signal.alarm(0)
            if found is None and time.process_time() - began > _SECONDS:
                found = f"slow: {time.process_time() - began:.0f} s"
        count.value += 1
        if found is not None and found not in seen:
            seen.append(found)
            (keep / f"{len(seen):03d}-{os.getpid()}{Path(file).suffix}").write_bytes(data)
            print(f"{name}: {found} ({file}, {len(data)} bytes)", flush=True)
    (keep / "present").unlink(missing_ok=True)


def hunt(name: str, seconds: float, keep: Path, seed: int) -> tuple[int, list[str]]:
    """Return (inputs tried, findings) of one reader after so many seconds."""
    keep.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        seen, count = manager.list(), context.Value("Q", 0)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.2:
            process = context.Process(target=_hunt, args=(name, seed, left, keep, count, seen))
            process.start()
            process.join()
            seed += 1
            if process.exitcode == 0:
                break
            what = f"the process ended with exit code {process.exitcode}"
            if what not in seen:
                seen.append(what)
                file, _, data = (keep / "present").read_bytes().partition(b"\0")
                (keep / f"crash-{seed}{Path(file.decode()).suffix}").write_bytes(data)
                print(f"{name}: {what} ({file.decode()}, {len(data)} bytes)", flush=True)
        return count.value, list(seen)


def main() -> int:
    """Return 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--reader", choices=sorted(READERS), action="append", help="default: all, one after another")
    parser.add_argument("--minutes", type=float, default=1.0, help="for all of them together")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="where inputs of findings go")
    args = parser.parse_args()
    names, total, bad = args.reader or list(READERS), 0, 0
    for name in names:
        READERS[name].seeds()
        tried, findings = hunt(name, 60 * args.minutes / len(names), args.keep / name, args.seed)
        print(f"| {name} | {tried:,} | {len(findings)} |", flush=True)
        total, bad = total + tried, bad + len(findings)
    print(f"{total:,} inputs, {bad} findings, seed {args.seed}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
