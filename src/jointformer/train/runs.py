"""From settings to a running Trainer: devices, starting weights, exports."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from jointformer.ops.files import make_dir
from jointformer.train import state as checkpoint
from jointformer.train.distributed import Processes
from jointformer.train.initialise import initialise
from jointformer.train.loop import Trainer, save_run_config
from jointformer.train.plan import STILLS_CPU, STILLS_GPU
from jointformer.train.stills import StillsSource, stills_run

if TYPE_CHECKING:
    from jointformer.model.network import JointFormer

log = logging.getLogger(__name__)


def default_device(name: str) -> str:
    """The device to train on: for `auto` "cuda" where there is one, else "cpu"."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_precision(name: str, device: torch.device, checkpointing: bool) -> str:
    """The fastest precision that the device computes in hardware, for `auto`."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "autocast-bfloat16" if torch.cuda.is_bf16_supported() else "autocast-float16"
    if torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "autocast-bfloat16" if checkpointing else "bfloat16"
    return "float32"


def build_network(name: str, init: str | None, seed: int) -> JointFormer:
    """The network to train: a preset with fresh weights, or the one that `init` names."""
    from jointformer.model.config import PRESETS
    from jointformer.model.network import JointFormer

    if init is not None:
        from jointformer.model.weights import load_model

        return load_model(init)
    model = JointFormer(PRESETS[name])
    initialise(model, seed)
    return model


def export(trainer: Trainer, path: Path) -> None:
    """Write the weights to export as float16 safetensors."""
    from jointformer.model.storage import save_weights

    with trainer.exported_weights() as model:
        save_weights(model, path, dtype=torch.float16)


def run_stills(args: argparse.Namespace, processes: Processes) -> bool:
    """Train on stills; True when the whole budget was used."""
    curriculum = STILLS_CPU if processes.device.type == "cpu" else STILLS_GPU
    phases = tuple(dataclasses.replace(p, load=max(1, round(p.load * args.load))) for p in curriculum.phases)
    curriculum = dataclasses.replace(curriculum, phases=phases, seed=args.seed)
    config = stills_run(
        iterations=args.iterations,
        minutes=args.minutes,
        seed=args.seed,
        precision=default_precision(args.precision, processes.device, args.checkpointing),
        workers=args.workers or (1 if processes.device.type == "cpu" else 8),
        checkpointing=args.checkpointing,
    )
    config = dataclasses.replace(config, log_every=args.log_every, save_every=args.save_every)
    make_dir(args.out)
    source = StillsSource(args.stills, args.seed)
    model = build_network(args.model, args.init, args.seed)
    trainer = Trainer(
        model, source, curriculum, config, processes, args.out,
        on_save=lambda trainer: export(trainer, args.out / "weights.safetensors"),
    )  # fmt: skip
    if args.resume and (found := checkpoint.checkpoints(args.out)):
        trainer.load_state(checkpoint.load_checkpoint(found[-1]))
        log.info("going on from %s", found[-1])
    if processes.first:
        save_run_config(args.out, config, {"model": args.model, "stage": "stills", "seed": args.seed})
    return trainer.train()
