"""What the cells of one network share: data, the trained and traced network, calibration inputs, the ANN's answers."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn

from benchmarks.cells import SHIPPED, Options, Setting, checkpoint_folder
from msat.errors import UnsupportedNetwork, UserError
from msat.network import Network, SpikingNetwork
from msat.operations import active, fan_out, front_macs, macs
from msat.randomness import seed_for
from msat.simulation import Batch
from msat.task import Data, ModelSpec, Task
from msat.tracing import trace
from msat.training import Report, TrainingInfo, train

TRACE_TOLERANCE = 1e-4
"""Largest deviation of the traced network's logits from the original's, relative to the largest logit."""
STATISTICS_VALUES = 64_000_000
"""Most float32 values of one layer over all calibration inputs: 250 MB."""
STATE_VALUES = 25_000_000
"""Most neurons of a batch; with three state tensors each they take 300 MB."""
FRAME_VALUES = 500_000
"""Most values of a batch's largest layer in one step: a chunk of steps of all layers then stays below a gigabyte."""
LEAST_BATCH = 4
"""Fewest inputs in a batch, so that several cores have work."""
GPU_BATCH = 1024
"""Most inputs in a batch on a GPU: enough to hide the launches of their kernels."""
GPU_BYTES = 100
"""Room for one neuron on a GPU: states, current and output, a pool's windows, the parts of a convolution's input."""
SELECTION_SEED = 20230323
CALIBRATION_RULE = "training inputs at fixed indices (a seeded shuffle), not augmented"


@lru_cache(maxsize=1)
def load_data(options: Options, task: str) -> tuple[Data, float]:
    """Return a task's splits and how long it took to load them, s; those of the last task are kept."""
    started = time.perf_counter()
    return options.registry.task(task).load(options.profile, options.data), time.perf_counter() - started


@dataclass(frozen=True)
class Bench:
    """One network ready for conversion; everything that costs time is made when first asked for."""

    setting: Setting
    task: Task
    spec: ModelSpec
    data: Data
    module: nn.Module
    info: TrainingInfo
    seconds: float
    """Wall time of loading the data and loading or training the network."""
    counted: dict[tuple[object, ...], tuple[dict[int, Tensor], list[int]]] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the data."""
        return self.data.fingerprint()

    @cached_property
    def traced(self) -> Network:
        """The whole traced network, on the device."""
        example = self.task.prepare(self.data.train.take(torch.arange(1)))
        return trace(self.module.cpu(), example).to(self.setting.options.device)

    @cached_property
    def has_features(self) -> bool:
        """True where what lies before the first site is costly and its result small (a BiLSTM): then it runs once per input."""
        recurrent = any(isinstance(layer, nn.RNNBase) for layer in self.traced.front.modules())
        return recurrent and len(self.traced.front(self.traced.example)) == 1

    @cached_property
    def network(self) -> Network:
        """The network that is converted: the traced one, behind its front where `has_features`."""
        return self.traced.after_front(front_macs(self.traced)) if self.has_features else self.traced

    def inputs(self, stored: Tensor) -> Tensor:
        """Return what `network` takes for stored examples [n, ...]."""
        prepared = self.task.prepare(stored).to(self.setting.options.device)
        if not self.has_features:
            return prepared
        with torch.inference_mode():
            parts = [self.traced.front(part)[0] for part in prepared.split(64)]
        return torch.cat(parts).clone()

    @cached_property
    def features(self) -> Tensor | None:
        """The network's inputs for all simulated test examples, where `has_features`."""
        return self.inputs(self.data.test.take(self.indices)) if self.has_features else None

    @cached_property
    def trace_error(self) -> float:
        """Largest deviation of the traced network's logits on some inputs, relative to the largest logit.

        Raises:
            UnsupportedNetwork: it exceeds the tolerance.
        """
        inputs = self.task.prepare(self.data.calibration(32).take(torch.arange(32))).to(self.setting.options.device)
        with torch.no_grad():
            wanted = self.module.to(inputs.device)(inputs)
        error = float((self.traced(inputs) - wanted).abs().max() / wanted.abs().max())
        if not error <= TRACE_TOLERANCE:
            raise UnsupportedNetwork(
                f"network '{self.setting.model}' answers differently once traced (by {error:.1e} of its largest logit,"
                f" {TRACE_TOLERANCE:.0e} is allowed); report it with the network's source."
            )
        return error

    @cached_property
    def calibration(self) -> Tensor:
        """Training inputs of `network`; fewer than asked for where a layer's statistics would not fit."""
        largest = max(math.prod(shape) for shape in self.network.shapes())
        size = max(1, min(self.setting.options.calibration, STATISTICS_VALUES // largest, len(self.data.train)))
        subset = self.data.calibration(size)
        return self.inputs(subset.take(torch.arange(size)))

    @cached_property
    def indices(self) -> Tensor:
        """Numbers of the test inputs that are simulated, int64 [n]."""
        return self.first(self.setting.options.limit)

    def first(self, limit: int | None) -> Tensor:
        """Return the numbers that a LIMIT of this size picks."""
        return stratified(self.data.test.labels, limit)

    @property
    def selection(self) -> str:
        """How the test inputs were chosen."""
        if len(self.indices) == len(self.data.test):
            return "all"
        return f"the first {len(self.indices)} of a seeded shuffle, in the proportions of the classes"

    def batches(self, numbers: Tensor, size: int) -> Iterator[Batch]:
        """Yield test inputs of `network` and their numbers in the test split, which are among `indices`."""
        device = self.setting.options.device
        for part in numbers.split(size):
            if self.features is None:
                yield self.inputs(self.data.test.take(part)), part.to(device)
            else:
                yield self.features[torch.searchsorted(self.indices, part).to(device)], part.to(device)

    @cached_property
    def ann_pass(self) -> tuple[Tensor, float]:
        """The ANN's class for each input of the test split, -1 where it is not simulated, and its `active_macs`."""
        answers, carrying = torch.full((len(self.data.test),), -1), 0.0
        fans, products = self.counts(self.network)
        for inputs, numbers in self.batches(self.indices, self.batch_size(self.network, 1)):
            for position, _, output in self.network.trace(inputs):
                carrying += active(output, fans[position]) if position in fans else 0.0
            answers[numbers.cpu()] = output.argmax(1).cpu()
        constant = sum(n for n, stage in zip(products, self.network.stages, strict=True) if stage.constant)
        return answers, constant + carrying / len(self.indices)

    @property
    def answers(self) -> Tensor:
        """The ANN's class for each input of the test split; -1 where it is not simulated."""
        return self.ann_pass[0]

    @property
    def active_macs(self) -> float:
        """Multiply-accumulates of one input that an ANN needs which skips zeros, mean over the inputs.

        Counted as for the spiking network, each non-zero output being one event: the stages that spikes do not reach in
        full, behind them fan-out times non-zero outputs, through average pools too.
        """
        return self.ann_pass[1]

    @property
    def right(self) -> Tensor:
        """Whether the ANN's class is right, bool [N]; False where an input is not simulated."""
        return self.answers == self.data.test.labels

    def counts(self, network: Network) -> tuple[dict[int, Tensor], list[int]]:
        """Return fan-out and multiply-accumulates; once for each arrangement of stages that pool rules make."""
        key = tuple((stage.name, stage.sources, stage.rule) for stage in network.stages)
        if key not in self.counted:
            self.counted[key] = fan_out(network), macs(network)
        return self.counted[key]

    def seed(self, method: str, repetition: int) -> int:
        """Return the seed of one conversion."""
        return seed_for(self.setting.options.base_seed, self.task.name, method, repetition)

    def batch_size(self, network: Network | SpikingNetwork, steps: int) -> int:
        """Return how many inputs to simulate at once so that states and one chunk stay small."""
        arranged = network.network if isinstance(network, SpikingNetwork) else network
        sizes = [math.prod(shape) for shape in arranged.shapes()]
        # A population that looks ahead is run over all steps in one chunk.
        whole = isinstance(network, SpikingNetwork) and any(stage.population.window for stage in network.stages)
        device = torch.device(self.setting.options.device)
        if device.type == "cuda":
            return gpu_batch(sizes, free_memory(device) // (max(1, steps // 4) if whole else 1))
        frames = FRAME_VALUES // max(sizes) // (max(1, steps // 8) if whole else 1)
        return max(1, min(256, STATE_VALUES // sum(sizes), max(frames, LEAST_BATCH)))


def gpu_batch(sizes: Sequence[int], free: int) -> int:
    """Return how many inputs of a network with stages of these sizes to simulate at once in `free` bytes of a GPU."""
    return max(1, min(GPU_BATCH, free // (GPU_BYTES * sum(sizes))))


def free_memory(device: torch.device) -> int:
    """Return the bytes of a GPU that are free, or held by PyTorch but not in use."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


@lru_cache(maxsize=1)
def open_bench(setting: Setting, report: Report | None = None) -> Bench:
    """Load the data and train or load the network; the last one is kept.

    Raises:
        MissingData: data or weights are absent.
        UserError: the checkpoint does not fit.
    """
    options = setting.options
    # On a GPU PyTorch rounds the factors of convolutions to 11 bits (TF32); the ANN's answers shall be fp32's everywhere.
    torch.backends.cudnn.allow_tf32 = False
    task, spec = setting.resolve()
    data, loading = load_data(options, setting.task)
    started = time.perf_counter()
    if not len(data.test) or not len(data.train):
        raise UserError(f"task '{task.name}' has an empty split; check the data in {options.data}.")
    module, info = train(
        task, setting.model, spec, data, seed=options.base_seed, folder=checkpoint_folder(),
        shipped=SHIPPED, device=options.device, report=report, data_folder=options.data,
    )  # fmt: skip
    return Bench(setting, task, spec, data, module, info, loading + time.perf_counter() - started)


def stratified(labels: Tensor, limit: int | None) -> Tensor:
    """Return the numbers of `limit` inputs in the proportions of the classes, ascending; all for None.

    A smaller limit picks a part of what a larger one picks.
    """
    if limit is None or limit >= len(labels):
        return torch.arange(len(labels))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SELECTION_SEED))
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = order[labels[order] == label]
        place[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return order[place[order].argsort(stable=True)[:limit]].sort().values


def recipe_fields(info: TrainingInfo) -> dict[str, object] | None:
    """Return a recipe as a record holds it."""
    return asdict(info.recipe) if info.recipe else None
