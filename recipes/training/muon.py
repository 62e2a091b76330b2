"""Muon for many small matrices: orthogonalised momentum, batched by shape and shared out between ranks.

`torch.optim.Muon` works on one matrix at a time and in bfloat16, which is several times slower on a CPU at this size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Newton-Schulz, Keller Jordan, "Muon" (2024)
_STEPS = 5


class Muon:
    """Updates each matrix by its orthogonalised momentum, scaled to AdamW's step size (Moonlight, section 2.2)."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        *,
        momentum: float = 0.95,
        decay: float = 0.02,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        shapes: dict[torch.Size, list[nn.Parameter]] = {}
        for parameter in parameters:
            shapes.setdefault(parameter.shape, []).append(parameter)
        self.groups = list(shapes.values())
        self.momenta = [torch.zeros(len(group), *group[0].shape, device=group[0].device) for group in self.groups]
        self.momentum, self.decay = momentum, decay
        self.rank, self.ranks = rank, ranks

    @torch.no_grad()
    def step(self, rate: float, add_over_ranks: Callable[[Tensor], None]) -> None:
        """One step; each rank orthogonalises its share of the matrices, `add_over_ranks` sums the shares."""
        updates = [self._share(group, momentum) for group, momentum in zip(self.groups, self.momenta, strict=True)]
        flat = torch.cat([update.flatten() for update in updates])
        add_over_ranks(flat)
        for group, update in zip(self.groups, torch.split(flat, [update.numel() for update in updates]), strict=True):
            scale = 0.2 * max(group[0].shape) ** 0.5
            for parameter, change in zip(group, update.view(len(group), *group[0].shape), strict=True):
                parameter.mul_(1 - rate * self.decay).add_(change, alpha=-rate * scale)

    def _share(self, group: Sequence[nn.Parameter], momentum: Tensor) -> Tensor:
        gradients = torch.stack([parameter.grad for parameter in group if parameter.grad is not None])
        momentum.mul_(self.momentum).add_(gradients)
        update = torch.zeros_like(momentum)
        mine = slice(self.rank, None, self.ranks)
        update[mine] = orthogonalised(gradients[mine].add(momentum[mine], alpha=self.momentum))
        return update

    def state(self) -> list[Tensor]:
        """What a checkpoint keeps."""
        return self.momenta

    def restore(self, momenta: Sequence[Tensor]) -> None:
        """Continue from a checkpoint."""
        for own, saved in zip(self.momenta, momenta, strict=True):
            own.copy_(saved)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Each of `matrices` [count, rows, columns] with its singular values brought near one."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    first, second, third = _COEFFICIENTS
    for _ in range(_STEPS):
        square = x @ x.transpose(1, 2)
        x = first * x + (second * square + third * (square @ square)) @ x
    result: Tensor = x.transpose(1, 2) if tall else x
    return result
