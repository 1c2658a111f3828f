"""Training steps on a GPU: the update of the weights, recorded once as a CUDA graph and replayed in one launch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from msat.errors import UserError

Update = Callable[[Tensor, Tensor], None]
"""Changes weights, optimizer and sums, all in place, from inputs [batch, ...] and labels [batch]."""
WARM_UP = 3
"""Updates that run as they are: PyTorch chooses algorithms and the optimizer makes its buffers, which cannot be recorded."""


def recordable(network: nn.Module, device: torch.device) -> bool:
    """Return whether the same launches make every update: on a GPU, without recurrent layers, whose lengths differ."""
    return device.type == "cuda" and not any(isinstance(layer, nn.RNNBase) for layer in network.modules())


class Recorded:
    """An update for batches of one size.

    Args:
        update: what to record; it must not wait for the GPU nor copy from the CPU.

    Raises:
        UserError: when called, if the update does one of these.
    """

    def __init__(self, update: Update) -> None:
        self.update = update
        self.done = 0
        self.side = torch.cuda.Stream()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs = self.labels = torch.empty(0)

    def __call__(self, inputs: Tensor, labels: Tensor) -> None:
        """Do one update."""
        if self.done < WARM_UP:
            self.done += 1
            self._beside(inputs, labels)
            return
        if self.graph is None:
            self.inputs, self.labels = inputs.clone(), labels.clone()
            self.graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(self.graph):  # only notes the launches
                    self.update(self.inputs, self.labels)
            except RuntimeError as error:
                reason = str(error).split("\n")[0].rstrip(".")
                raise UserError(
                    f"a training step of this network cannot be recorded as a CUDA graph ({reason}); have its forward pass"
                    " look at no values, or train it with DEVICE=cpu."
                ) from error
        self.inputs.copy_(inputs)
        self.labels.copy_(labels)
        self.graph.replay()

    def _beside(self, inputs: Tensor, labels: Tensor) -> None:
        """Run an update on a stream of its own, as recording needs it."""
        main = torch.cuda.current_stream()
        self.side.wait_stream(main)
        with torch.cuda.stream(self.side):
            self.update(inputs, labels)
        main.wait_stream(self.side)
