"""Which methods the MSAT paper's figures and tables show, read from paper.toml; the rest of the harness names no method."""

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict

from msat import energy


class PaperEnergy(BaseModel):
    """The published energy ratio and what its formula gives from the released rates."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    task: str
    model: str
    method: str
    published_ratio: float
    steps: int
    rates: tuple[float, ...]
    operations: tuple[float, ...]

    def rebuilt(self, graded: bool = False) -> float:
        """Return SNN / ANN energy by the paper's formula; `graded` charges every event a multiply-accumulate."""
        cost = energy.costs()
        if not graded:
            return energy.paper_ratio(self.operations, self.rates, self.steps, cost=cost)
        later = sum(ops * rate for ops, rate in zip(self.operations[1:], self.rates, strict=True))
        return (self.steps * later + self.operations[0]) / sum(self.operations)


class Paper(BaseModel):
    """Methods by the figure or table they stand in."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    subject: tuple[str, ...]
    sin: tuple[str, ...]
    sin_steps: tuple[int, ...]
    trace: tuple[str, ...]
    ablation: tuple[str, ...]
    confidence: tuple[tuple[str, str], ...]
    confidence_step: int
    published: Mapping[str, str]
    energy: PaperEnergy


@lru_cache
def paper() -> Paper:
    """Return the content of paper.toml."""
    return Paper.model_validate(tomllib.loads(files("benchmarks").joinpath("paper.toml").read_text(encoding="utf-8")))
