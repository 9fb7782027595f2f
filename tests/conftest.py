"""Fixtures shared by all tests."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from jointformer.model.storage import save_weights
from jointformer.ops import products
from seeded import MINI, seeded_model

# The same examples on every machine, and none fails for taking long there. `python -m fuzz` looks for new ones.
settings.register_profile(
    "steady", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

ROOT = Path(__file__).resolve().parent.parent

#: Compile every kernel between them, which takes half a minute of one core where none is kept. Two processes share the
#: tests out: with these files first each compiles its own, and else both the same ones at the same time.
COMPILE_KERNELS = ("tests/ops/test_attention_kernels.py", "tests/ops/test_linear_kernels.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(COMPILE_KERNELS))


@pytest.fixture(scope="session", autouse=True)
def _heed_interrupts() -> None:
    """Ctrl-C interrupts, as at a terminal: what a shell runs in the background begins with it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and golden numbers; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("JOINTFORMER_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the real pictures: no folder {folder}/data (set JOINTFORMER_SHARED)")
    return folder


@pytest.fixture(scope="session")
def mini_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of seeded weights of the mini network."""
    return save_weights(seeded_model(MINI), tmp_path_factory.mktemp("weights") / "mini.safetensors")


@pytest.fixture
def counted_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 is multiplied by operations that PyTorch's counter knows, on processors of all makers."""
    monkeypatch.setattr(products, "onednn_is_faster", lambda: False)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files of at most 8 kB may be written: to a program that is what a full disk is."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files cannot be locked, as on Lustre mounted without."""
    pytest.importorskip("fcntl")

    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", flock)


@pytest.fixture
def heard_hang_ups() -> Iterator[None]:
    """A closed terminal is heard of as in a program that nohup did not begin, whatever began the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
