"""Expectation compensation: outputs whose running mean is exactly f(mean input), for any f (ECMT; methods.md D9).

All real-valued; currents and outputs in the units of the function compensated.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class PointwiseState(NamedTuple):
    """Running sum of the input [B, ...], cumulative output [B, ...] and steps so far."""

    total: Tensor
    sent: Tensor
    t: int


class ProductState(NamedTuple):
    """Running sums of both factors, cumulative output and steps so far."""

    left: Tensor
    right: Tensor
    sent: Tensor
    t: int


def start_pointwise(x: Tensor) -> PointwiseState:
    """Return the state before step 1 for inputs like `x` [B, ...]."""
    zero = torch.zeros_like(x)
    return PointwiseState(zero, zero, 0)


def pointwise(f: Callable[[Tensor], Tensor], x: Tensor, state: PointwiseState) -> tuple[Tensor, PointwiseState]:
    """Return y(t) = t f(X_t / t) - (t-1) f(X_{t-1} / (t-1)), so that mean y = f(mean x) at every t."""
    t, total = state.t + 1, state.total + x
    due = t * f(total / t)
    return due - state.sent, PointwiseState(total, due, t)


def start_product(a: Tensor, b: Tensor) -> ProductState:
    """Return the state before step 1 for factors like `a` and `b` [B, ...]."""
    return ProductState(torch.zeros_like(a), torch.zeros_like(b), torch.zeros_like(a * b), 0)


def product(a: Tensor, b: Tensor, state: ProductState) -> tuple[Tensor, ProductState]:
    """Return y(t) = A_t B_t / t - A_{t-1} B_{t-1} / (t-1), so that mean y = mean a * mean b at every t."""
    t, left, right = state.t + 1, state.left + a, state.right + b
    due = left * right / t
    return due - state.sent, ProductState(left, right, due, t)
