"""Starting weights of a fresh network that make it learn to match frames within minutes."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

MATCH = 1.6  # scale of the common query and key projection
COPY = 0.6  # scale of the value projection and, transposed, of the output projection
NOISE = 0.02
MASK = 0.5  # strength of the mask channels beside the picture's


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Set all parameters of a fresh network from a seed; buffers (the position table) stay.

    Mimetic initialisation (Trockman & Kolter, arXiv 2305.09828): in every attention the query and key
    projections are the same orthogonal matrix and the output projection is the transpose of the value
    projection, so that a token attends to tokens like itself and copies what they hold. Memory frames pass
    the same picture weights as query frames, so both give equal features before the first iteration;
    the mask enters as a constant offset.
    """
    rng = torch.Generator().manual_seed(seed)
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        parameter.copy_(_plain(name, parameter, rng))
    for name in parameters:
        if name.endswith("attn.qkv.weight"):
            _mimetic(parameters[name], parameters[name.replace("qkv", "proj")], rng)
    for name in ("proj.weight", "proj.bias", "norm.weight", "norm.bias"):
        query = parameters[f"convmae.patch_embed1_query.{name}"]
        memory = parameters[f"convmae.patch_embed1_memory.{name}"]
        if name != "proj.weight":
            memory.copy_(query)
            continue
        memory[:, :3] = query
        channels, _, height, width = memory.shape
        offset = _normal((channels, 2, 1, 1), MASK / (height * width), rng)
        memory[:, 3:] = offset + _normal((channels, 2, height, width), NOISE / (height * width), rng)


def _plain(name: str, parameter: Tensor, rng: torch.Generator) -> Tensor:
    shape = tuple(parameter.shape)
    if re.search(r"(^|\.)norm\d?\.", name):
        return torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
    if name.endswith("cls_token"):
        return _normal(shape, NOISE, rng)
    if parameter.ndim == 1:
        return torch.zeros(shape)
    fan = parameter[0].numel()
    if re.search(r"patch_embed4", name):
        return _orthogonal(shape[0], rng)
    if re.search(r"(mlp\.fc2|\.conv2)\.weight$", name):  # the end of a residual branch starts quiet
        return _normal(shape, 0.3 * fan**-0.5, rng)
    if name.startswith("decoder.") and parameter.ndim == 4 and not name.startswith("decoder.pred"):
        return _normal(shape, (2 / fan) ** 0.5, rng)
    return _normal(shape, fan**-0.5, rng)


def _mimetic(qkv: Tensor, proj: Tensor, rng: torch.Generator) -> None:
    width = proj.shape[0]
    match, copy = _orthogonal(width, rng), _orthogonal(width, rng)
    for rows, value in zip(qkv.split(width), (MATCH * match, MATCH * match, COPY * copy), strict=True):
        rows.copy_(value + _normal((width, width), NOISE, rng))
    proj.copy_(COPY * copy.T + _normal((width, width), NOISE, rng))


def _orthogonal(width: int, rng: torch.Generator) -> Tensor:
    q, r = torch.linalg.qr(torch.randn(width, width, generator=rng))
    return q * r.diagonal().sign()


def _normal(shape: tuple[int, ...], std: float, rng: torch.Generator) -> Tensor:
    return std * torch.randn(shape, generator=rng)
