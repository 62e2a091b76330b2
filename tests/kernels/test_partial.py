from __future__ import annotations

import math

import pytest
import torch

from plait.kernels.partial import Partial, best_partial, flash_partial, matmul_partial


def test_the_flash_operation_is_used_where_torch_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert best_partial(torch.device("cpu")) is flash_partial
    assert best_partial(torch.device("cuda")) is matmul_partial
    monkeypatch.setattr("plait.kernels.partial.flash_partial", _gone)
    assert best_partial(torch.device("cpu")) is matmul_partial


def _gone(*_: object) -> None:
    raise AttributeError("'_OpNamespace' 'aten' object has no attribute")


@pytest.mark.parametrize("partial", [flash_partial, matmul_partial])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("how", ["whole", "masked", "causal"])
def test_partials_answer_output_and_log_sum_exp(partial: Partial, dtype: torch.dtype, how: str) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 24, generator=generator).to(dtype) for _ in range(3))
    hidden = torch.ones(5, 5).triu(1).bool() if how == "causal" else torch.rand(5, 5, generator=generator) < 0.4
    hidden &= ~torch.eye(5).bool() & torch.tensor(how != "whole")
    added = torch.zeros(5, 5).masked_fill(hidden, -math.inf)
    output, lse = partial(q, k, v, added[None, None] if how == "masked" else None, how == "causal", 0.3)
    scores = q.double() @ k.double().transpose(-1, -2) * 0.3 + added
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 2e-2)
    assert torch.allclose(output.double(), scores.softmax(-1) @ v.double(), atol=tolerance)
    assert torch.allclose(lse.double(), scores.logsumexp(-1), atol=tolerance)
    assert lse.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
