"""CUDA graphs: one chunk of one stage, recorded once and replayed in one launch.

A recording reads and writes fixed memory. What comes from another recording lies in fixed memory already; all else is
copied in. Its outputs are overwritten by the next replay, so observers, which look between two chunks, must keep counts
only, as they do. Recordings of a session share their scratch memory: within a chunk they are replayed in the order in
which they were made, and no output is needed beyond its chunk.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from msat.backends.trees import changed, tensors
from msat.neurons import Emission

Work = Callable[[tuple[Tensor, ...], Any], tuple[Emission, Any]]
"""(inputs, state) -> (emission, state after it)."""
Replayed = tuple[Emission, Callable[[], None]]
"""The memory that results lie in, and the function that computes them anew."""
Record = Callable[[Callable[[], Emission]], Replayed]


class Recorder:
    """The recordings of one session.

    Args:
        record: turns work on fixed memory into something to replay; CUDA graphs by default.
    """

    def __init__(self, record: Record | None = None) -> None:
        self.record = record or cuda_graphs()
        self.recordings: dict[Any, Recording] = {}

    def run(self, stage: tuple[int, int], work: Work, inputs: tuple[Tensor, ...], state: Any) -> tuple[Emission, Any]:
        """Do the work by replaying its recording, made now if there is none.

        Args:
            stage: position of the stage and steps in the chunk.
            work: depends on the stage, the inputs and the state alone.
            inputs: tensors that it reads.
            state: the state before it.
        """
        key = stage, *(tensor.shape for tensor in tensors((inputs, state)))
        if key not in self.recordings:
            # A smaller last batch and a shorter last chunk have recordings of their own.
            fixed = {id(sent) for recording in self.recordings.values() for sent in tensors(recording.emission)}
            placed = tuple(tensor if id(tensor) in fixed else tensor.clone() for tensor in inputs)
            self.recordings[key] = Recording(self.record, work, placed, changed(state, torch.clone))
        return self.recordings[key](inputs, state)


class Recording:
    """Work on fixed memory.

    Args:
        record: see `Recorder`.
        work: what to record.
        inputs: tensors that it reads; kept.
        state: the state before it, kept and changed in place.
    """

    def __init__(self, record: Record, work: Work, inputs: tuple[Tensor, ...], state: Any) -> None:
        self.inputs, self.state = inputs, state
        work(inputs, state)  # compiles, and chooses algorithms, which must not happen while recording

        def once() -> Emission:
            emission, after = work(inputs, state)
            for kept, new in zip(tensors(state), tensors(after), strict=True):
                if kept.data_ptr() != new.data_ptr():
                    kept.copy_(new)
            return emission

        self.emission, self.replay = record(once)

    def __call__(self, inputs: tuple[Tensor, ...], state: Any) -> tuple[Emission, Any]:
        """Return the emission and the state, both in fixed memory."""
        pairs = zip(tensors((self.inputs, self.state)), tensors((inputs, state)), strict=True)
        for fixed, given in pairs:
            if fixed.data_ptr() != given.data_ptr():
                fixed.copy_(given)
        self.replay()
        return self.emission, self.state


def cuda_graphs() -> Record:
    """Return a recorder of CUDA graphs that share one pool of memory."""
    pool = torch.cuda.graph_pool_handle()

    def record(work: Callable[[], Emission]) -> Replayed:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            emission = work()
        return emission, graph.replay

    return record
