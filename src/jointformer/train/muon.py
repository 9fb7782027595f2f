"""Muon: weight matrices step along their orthogonalised momentum; everything else steps by AdamW."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: Coefficients of the quintic Newton-Schulz iteration (Jordan et al., 2024), and how often it is run.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5
#: An orthogonal step is scaled so that its root mean square is AdamW's usual one (Liu et al., arXiv 2502.16982).
RMS = 0.2


class Muon(torch.optim.AdamW):
    """AdamW, but for groups with `orthogonal` > 0, whose parameters step by Muon (K. Jordan et al., 2024).

    `orthogonal` is the number of matrices that a parameter of the group holds one above the other (3 for a joint
    query-key-value projection). Kernels of convolutions count as matrices of one row per output channel. One
    learning rate suits both kinds of group. PyTorch's own Muon takes two-dimensional parameters only, one by one.
    """

    def __init__(self, groups: list[dict[str, Any]], *, momentum: float = 0.95, **adamw: Any) -> None:
        super().__init__([{"orthogonal": 0, **group} for group in groups], **adamw)
        self.momentum = momentum
        # Fused, AdamW would be called by a GradScaler even where it found infinities; our own part cannot be told.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["orthogonal"]]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["orthogonal"]:
                self._orthogonal_step(group)
        return loss

    def _orthogonal_step(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_shape[parameter.shape].append(parameter)
        for shape, parameters in by_shape.items():
            states = [self.state[p] for p in parameters]
            for state, parameter in zip(states, parameters, strict=True):
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                    state["step"] = torch.zeros(())  # Adam looks for it when a state is loaded
            grads = [p.grad for p in parameters if p.grad is not None]
            moments = [state["momentum"] for state in states]
            torch._foreach_lerp_(moments, grads, 1 - self.momentum)
            ahead = torch._foreach_lerp(grads, moments, self.momentum)  # Nesterov's
            rows = shape[0] // group["orthogonal"]
            matrices = torch.stack(ahead).reshape(-1, rows, shape.numel() // shape[0])
            scale = RMS * max(matrices.shape[1:]) ** 0.5
            updates = orthogonalised(matrices).to(parameters[0].dtype).reshape(len(parameters), *shape)
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, list(updates.unbind()), alpha=-group["lr"] * scale)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices (n, r, c) with their singular values brought to about 1 (0.7 to 1.2), in bfloat16."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16()
    if tall:
        x = x.mT
    x = x / x.float().norm(dim=(1, 2), keepdim=True).clamp(min=1e-7).to(x.dtype)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
