"""What is measured during a run: accuracy at every step, spikes and synaptic operations, SIN, conversion error; all kept as counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from msat.errors import UserError
from msat.network import Network, Readout, Relu
from msat.simulation import Chunk, Observer


def checkpoints(steps: int) -> list[int]:
    """Return the steps at which details are kept: powers of two up to T, and T."""
    powers = [2**k for k in range(steps.bit_length()) if 2**k <= steps]
    return powers if powers[-1] == steps else [*powers, steps]


class Accuracy(Observer):
    """Correct answers and agreement with the ANN at every step, and one bit per input at each checkpoint step.

    Args:
        labels: classes of all inputs, int64 [N], indexed by sample number.
        answers: the ANN's predictions, int64 [N].
        steps: T.
    """

    def __init__(self, labels: Tensor, answers: Tensor, steps: int) -> None:
        self.labels, self.answers = labels, answers
        self.correct = torch.zeros(steps, dtype=torch.int64)
        self.agree = torch.zeros(steps, dtype=torch.int64)
        self.bits = {t: torch.zeros(len(labels), dtype=torch.bool) for t in checkpoints(steps)}
        self.seen = 0

    def see(self, chunk: Chunk) -> None:
        if not isinstance(chunk.stage.stage.rule, Readout):
            return
        logits = chunk.traffic.output()
        if not logits.isfinite().all():
            raise UserError(
                "the network's logits are not finite; look for a division by zero in a step of the neurons or of the readout."
            )
        predictions = logits.argmax(-1).cpu()
        samples = chunk.samples.cpu()
        right = predictions == self.labels[samples]
        steps = slice(chunk.first, chunk.first + len(predictions))
        self.correct[steps] += right.sum(1)
        self.agree[steps] += (predictions == self.answers[samples]).sum(1)
        for t, bits in self.bits.items():
            if chunk.first < t <= chunk.first + len(predictions):
                bits[samples] = right[t - chunk.first - 1]

    def batch_done(self, inputs: Tensor, samples: Tensor) -> None:
        self.seen += len(samples)


@dataclass
class SiteActivity:
    """Sums over all inputs of what one population sent up to a checkpoint step."""

    spikes: list[int]
    """Spikes, counts."""
    synaptic_events: list[int]
    """Non-zero outputs times their fan-out: accumulates if each costs one (N_sop)."""
    synaptic_spikes: list[int]
    """The same, each weighted by its spike count (N_cnt)."""


class Activity(Observer):
    """Spikes and synaptic operations of every population at the checkpoint steps.

    Args:
        fan_out: synapses behind each neuron, by stage position (`operations.fan_out`).
        steps: T.
    """

    def __init__(self, fan_out: dict[int, Tensor], steps: int) -> None:
        self.fan_out = fan_out
        self.steps = checkpoints(steps)
        # On the network's device: fetching numbers at every chunk would make a GPU wait.
        self.totals = {p: torch.zeros(3, steps, dtype=torch.float64, device=w.device) for p, w in fan_out.items()}

    def see(self, chunk: Chunk) -> None:
        if chunk.position in self.fan_out:
            sums = self._sums(chunk)
            self.totals[chunk.position][:, chunk.first : chunk.first + sums.shape[1]] += sums

    def first_pass(self, chunk: Chunk) -> None:
        """Count the chunk to step 1: an answer at any step has cost the first pass."""
        if chunk.position in self.fan_out:
            self.totals[chunk.position][:, 0] += self._sums(chunk).sum(1)

    def _sums(self, chunk: Chunk) -> Tensor:
        """Return spikes, synaptic events and synaptic spikes of each step: [3, T]."""
        weight = self.fan_out[chunk.position]
        spikes, _ = chunk.traffic.weighted(torch.ones_like(weight))
        counts, events = chunk.traffic.weighted(weight)
        return torch.stack([spikes, events, counts])

    def sites(self) -> dict[int, SiteActivity]:
        """Return the cumulative counts at each checkpoint step, by stage position."""
        picked = [step - 1 for step in self.steps]
        rows = {p: total.cumsum(1)[:, picked].round().long().tolist() for p, total in self.totals.items()}
        return {p: SiteActivity(*row) for p, row in rows.items()}


@dataclass
class SiteDiagnosis:
    """Counts of one site over the diagnosed inputs, one entry per checkpoint step."""

    silent: int
    """Neurons whose clean pre-activation is <= 0."""
    positive: int
    """Neurons whose clean pre-activation is > 0."""
    sin: list[int]
    """Of the silent ones, those that have fired: spikes of inactivated neurons."""
    sin_spikes: list[int]
    """Their spikes so far."""
    fired_positive: list[int]
    """Of the positive ones, those that have fired."""
    squared_error: list[float]
    """Sum of (mean output - activation)^2, activation units squared."""
    squared_activation: float

    def sin_ratio(self, index: int) -> float:
        """Return |SIN| / |{z <= 0}| (methods.md A.6)."""
        return self.sin[index] / self.silent if self.silent else 0.0

    def average_spikes(self, index: int) -> float:
        """Return ANS: spikes of SIN neurons per SIN neuron."""
        return self.sin_spikes[index] / self.sin[index] if self.sin[index] else 0.0

    def confidence(self, index: int) -> float:
        """Return p = 1 - |SIN| / (|SIN| + |POS|) (methods.md A.5, with z > 0 for POS)."""
        fired = self.sin[index] + self.fired_positive[index]
        return 1 - self.sin[index] / fired if fired else 1.0

    def relative_error(self, index: int) -> float:
        """Return the squared conversion error relative to the squared activation."""
        return self.squared_error[index] / self.squared_activation if self.squared_activation else 0.0


class Diagnostics(Observer):
    """SIN, ANS, spike confidence and conversion error of every site against the ANN on the same inputs.

    Args:
        network: the ANN as the conversion arranged it.
        steps: T.
        at: steps to keep; the checkpoints by default.
        differential: outputs are changes of an estimate (`SpikingNetwork.constant_once`), so that what is sent at step t
            moves the mean by 1/t of it.
    """

    def __init__(
        self, network: Network, steps: int, at: Sequence[int] | None = None, differential: bool = False
    ) -> None:
        self.network = network
        self.differential = differential
        self.steps = list(at) if at is not None else checkpoints(steps)
        width = len(self.steps)
        self.sites = {
            p: SiteDiagnosis(0, 0, [0] * width, [0] * width, [0] * width, [0.0] * width, 0.0) for p in network.sites
        }
        self.fired: dict[int, Tensor] = {}
        self.sent: dict[int, Tensor] = {}
        self.snapshots: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def see(self, chunk: Chunk) -> None:
        if chunk.position not in self.sites:
            return
        p, first, gain, count = chunk.position, chunk.first, chunk.stage.population.gain, chunk.traffic.steps
        times = torch.arange(first + 1, first + 1 + count, dtype=torch.float32)
        weight = 1 / times if self.differential else torch.ones(count)
        done = 0
        for index, t in enumerate(self.steps):
            if first < t <= first + count:
                self._add(p, *chunk.traffic.totals(done, t - first, weight))
                done = t - first
                mean = self.sent[p] * (gain if self.differential else gain / t)
                self.snapshots[p, index] = (self.fired[p].clone(), mean)
        if done < count:
            self._add(p, *chunk.traffic.totals(done, count, weight))

    def _add(self, position: int, sent: Tensor, fired: Tensor) -> None:
        self.sent[position] = self.sent.get(position, 0) + sent
        self.fired[position] = self.fired.get(position, 0) + fired

    def batch_done(self, inputs: Tensor, samples: Tensor) -> None:
        for position, z, a in self.network.trace(inputs):
            if isinstance(self.network.stages[position].rule, Relu):
                self._compare(position, z, a)
        self.fired.clear()
        self.sent.clear()
        self.snapshots.clear()

    def _compare(self, position: int, z: Tensor, a: Tensor) -> None:
        site, silent = self.sites[position], z <= 0
        site.silent += int(silent.sum())
        site.positive += int((~silent).sum())
        site.squared_activation += float(a.double().square().sum())
        for index in range(len(self.steps)):
            fired, mean = self.snapshots[position, index]
            site.sin[index] += int((silent & (fired > 0)).sum())
            site.sin_spikes[index] += int(fired[silent].sum())
            site.fired_positive[index] += int((~silent & (fired > 0)).sum())
            site.squared_error[index] += float((mean - a).double().square().sum())
