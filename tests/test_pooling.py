"""Max-pool rules: the traces of methods.md B9, and exactness in the mean for any window."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.constant import maximum
from msat.errors import UserError
from msat.network import MaxPool
from msat.pooling import Gate, GatePool, LateralInhibitionPool, SpikingPool, StepMaximumPool

PAIR = MaxPool((2,), (2,), (0,), (1,))


def run_pool(pool: SpikingPool, inputs: Tensor) -> Tensor:
    """Feed inputs [T, B, C, ...]; return outputs [T, B, C, ...]."""
    emission, _ = pool.scan(inputs, pool.start(inputs[0], torch.arange(inputs.shape[1])))
    return emission.output


def pair(pool: type[SpikingPool], a: list[float], b: list[float]) -> list[float]:
    inputs = torch.tensor([a, b], dtype=torch.float64).T.view(-1, 1, 1, 2)
    return run_pool(pool(PAIR), inputs).flatten().tolist()


def test_lateral_inhibition_is_exact_where_the_step_maximum_overestimates() -> None:
    a, b = [1.0, 0, 0, 1], [0.0, 1, 1, 0]
    assert pair(LateralInhibitionPool, a, b) == [1, 0, 1, 0]
    assert pair(StepMaximumPool, a, b) == [1, 1, 1, 1]


def test_graded_inputs() -> None:
    assert pair(LateralInhibitionPool, [0.5, 0, 0.7], [0, 0.8, 0]) == pytest.approx([0.5, 0.3, 0.4])


def test_gate_passes_the_strongest_so_far() -> None:
    assert pair(GatePool, [1.0, 1, 0, 1], [0.0, 0, 1, 0]) == [1, 1, 0, 1]


windows = st.tuples(
    st.integers(1, 2),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 2),
    st.booleans(),
    st.integers(0, 999),
)


@settings(max_examples=60, deadline=None)
@given(windows)
def test_sum_of_outputs_is_the_maximum_of_sums(case: tuple[int, int, int, int, int, bool, int]) -> None:
    dims, kernel, stride, padding, dilation, ceil, seed = case
    pool = MaxPool((kernel,) * dims, (stride,) * dims, (min(padding, kernel // 2),) * dims, (dilation,) * dims, ceil)
    inputs = torch.rand(5, 2, 3, *[9] * dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(run_pool(LateralInhibitionPool(pool), inputs).sum(0), pool(inputs.sum(0)))


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 5), st.integers(1, 4), st.integers(0, 999))
def test_pooled_rates_converge_to_the_pooled_activation(kernel: int, stride: int, seed: int) -> None:
    """Spikes of IF neurons at rate a: the error of the pooled mean is at most theta / T."""
    a = torch.rand(1, 2, 17, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pool = MaxPool((kernel,), (stride,), (kernel // 2,), (1,))
    for steps in (8, 64, 512):
        counts = torch.arange(1, steps + 1, dtype=torch.float64).view(-1, 1, 1, 1)
        spikes = (counts * a).floor() - ((counts - 1) * a).floor()
        error = (run_pool(LateralInhibitionPool(pool), spikes).mean(0) - pool(a)).abs().max()
        assert error <= 1 / steps + 1e-12


def test_outputs_of_binary_spikes_stay_binary() -> None:
    spikes = (torch.rand(50, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    out = run_pool(LateralInhibitionPool(MaxPool((3, 3), (2, 2), (1, 1), (1, 1))), spikes)
    assert set(out.unique().tolist()) <= {0.0, 1.0}


def test_windows_match_torch_unfold() -> None:
    pool = MaxPool((2, 3), (2, 3), (0, 0), (1, 1), ceil=True)  # 7 is no multiple of 2: the last window is cut
    inputs = torch.rand(4, 1, 2, 7, 9)
    assert run_pool(StepMaximumPool(pool), inputs).shape[-2:] == (4, 3)
    torch.testing.assert_close(
        run_pool(LateralInhibitionPool(pool), inputs).sum(0),
        F.max_pool2d(inputs.sum(0), (2, 3), ceil_mode=True),
    )


def test_a_gate_passes_what_arrives_at_a_tie() -> None:
    """methods.md B9: the cumulative-gated pool passes 1, 1, 1, 1."""
    inputs = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]).T.view(4, 1, 1, 2)
    assert run_pool(GatePool(PAIR), inputs).flatten().tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("kind", [LateralInhibitionPool, GatePool, StepMaximumPool])
def test_pools_of_bursts_count_every_spike(kind: type[SpikingPool]) -> None:
    """Outputs are whole multiples of theta without a rounding residue, and events say how many."""
    theta = torch.tensor([0.1, 0.7]).view(2, 1)
    counts = torch.randint(0, 5, (50, 3, 2, 8), generator=torch.Generator().manual_seed(0)).float()
    pool = kind(PAIR, spike_kind="count", unit=theta)
    emission, _ = pool.scan(counts * theta, pool.start(counts[0], torch.arange(3)))
    plain = run_pool(kind(PAIR), counts)
    assert emission.events is not None
    assert torch.equal(emission.events, plain)
    assert torch.equal(emission.output, plain * theta)


def test_pool_rules_have_names() -> None:
    assert maximum(pool="gate").axes.pool == Gate()
    with pytest.raises(UserError, match="unknown max-pool rule 'gates'"):
        maximum(pool="gates")
