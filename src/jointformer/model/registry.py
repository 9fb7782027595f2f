"""The weights that have a name: embedded ones and published files, one row each. No torch, no network."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jointformer.errors import WeightsError
from jointformer.model.config import PRESETS

#: Where the published weights lie; `JOINTFORMER_RELEASE_URL` names a mirror.
RELEASE_URL = "https://github.com/MCG-NJU/JointFormer/releases/download/v0.1"
RELEASE_PAGE = "https://github.com/MCG-NJU/JointFormer/releases/tag/v0.1"
RELEASE_VARIABLE = "JOINTFORMER_RELEASE_URL"

#: The network of all published weights.
PUBLISHED_PRESET = "base"

#: Weights that come with the package.
EMBEDDED = {"tiny": Path(__file__).with_name("embedded") / "tiny.safetensors"}

#: The shorter side that suits weights trained on smaller pictures; others see 480 pixels.
SUITABLE_SIZE = {"tiny": 240}

#: What each digit of a published name was trained on, in this order.
_TRAINED_ON = {
    "0": "static images",
    "1": "BL30K",
    "2": "DAVIS 2017 + YouTube-VOS 2019",
    "4": "VOST",
    "5": "MOSE",
    "6": "LVOS",
    "7": "VISOR",
}


@dataclass(frozen=True)
class PublishedWeights:
    """One published file: its short name, file name, address and what it was trained on.

    page: where a person finds it, if the direct address stops working. backbone: it holds the pre-trained
    backbone only (for training), not a whole network.
    """

    name: str
    filename: str
    address: str
    page: str
    trained_on: str
    backbone: bool = False

    @property
    def url(self) -> str:
        """The address to fetch from; below the mirror of `JOINTFORMER_RELEASE_URL` where that is set."""
        return mirrored(self.filename, self.address)


def mirrored(filename: str, address: str) -> str:
    """Return the address to fetch a published file from: the mirror's where `JOINTFORMER_RELEASE_URL` names one."""
    mirror = os.environ.get(RELEASE_VARIABLE, "").rstrip("/")
    return f"{mirror}/{quote(filename)}" if mirror else address


def _trained(stages: str) -> PublishedWeights:
    filename = f"jointformer_s{stages}.pth"
    trained_on = ", then ".join(_TRAINED_ON[digit] for digit in stages)
    return PublishedWeights(
        name=f"s{stages}",
        filename=filename,
        address=f"{RELEASE_URL}/{filename}",
        page=RELEASE_PAGE,
        trained_on=trained_on,
    )


CONVMAE = PublishedWeights(
    name="convmae",
    filename="convmae_base.pth",
    # The file that the "pretrained checkpoints" link of ConvMAE's own README leads to.
    address="https://drive.usercontent.google.com/download?id=1AEPivXw0A0b_m5EwEi6fg2pOAoDr8C31"
    "&export=download&confirm=t",
    page="https://github.com/Alpha-VL/ConvMAE#pretrain-on-imagenet-1k",
    trained_on="ImageNet-1k, self-supervised (ConvMAE-Base, the backbone only: a start for training)",
    backbone=True,
)

#: Every published file by its short name.
PUBLISHED: dict[str, PublishedWeights] = {
    row.name: row
    for row in (
        *map(
            _trained,
            ("0", "01", "2", "02", "012", "24", "024", "5", "05", "015", "026", "0126", "7", "07"),
        ),
        CONVMAE,
    )
}


def find_published(name: str) -> PublishedWeights | None:
    """Return the row of `s012`, `jointformer_s012` or `jointformer_s012.pth`; None for other names."""
    wanted = name.strip().lower()
    for row in PUBLISHED.values():
        if wanted in (row.name, row.filename, row.filename.removesuffix(".pth")):
            return row
    return None


def suitable_size(name_or_path: str | Path) -> int:
    """Return the network size to use where the caller names none: that of most of the weights' training."""
    return SUITABLE_SIZE.get(str(name_or_path), 480)


def unknown_name(name: str, *, backbone: bool = False) -> WeightsError:
    """Return the error for a name that is neither a file nor known, with the nearest known one as a hint.

    backbone: the backbone alone will do, so that `convmae` is among them.
    """
    if name in PRESETS:
        hint = f"no weights of it are published; `jointformer train --model {name}` trains some"
        if name == PUBLISHED_PRESET:
            hint = "its published weights are s012, s02, …; `jointformer weights list` shows all of them"
        return WeightsError(f"{name} is a network without weights", hint=hint)
    rows = [row for row in PUBLISHED.values() if backbone or not row.backbone]
    names = (*EMBEDDED, *(row.name for row in rows))
    aliases = {name: name for name in names}
    aliases |= {row.filename.removesuffix(".pth"): row.name for row in rows}
    close = difflib.get_close_matches(Path(name).name.lower().removesuffix(".pth"), aliases, n=1, cutoff=0.5)
    hint = f"did you mean {aliases[close[0]]!r}? " if close else ""
    return WeightsError(
        "no such weights",
        where=name,
        expected=f"a .pth or .safetensors file, or one of {', '.join(names)}",
        hint=f"{hint}`jointformer weights list` shows all of them",
    )
