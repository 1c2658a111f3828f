"""`python -m benchmarks.speed`: times every backend on every network in one run and writes `results/speed/`."""

import argparse
import os
import time
from pathlib import Path

import torch

from benchmarks.speed.contenders import rate, works
from benchmarks.speed.growth import batch_memory, curves
from benchmarks.speed.kernels import LAYERS, measure_layers
from benchmarks.speed.measure import paired
from benchmarks.speed.report import HEAD, Findings, grid, ratio_rows, text, write
from benchmarks.speed.subjects import METHODS, SPECS, subject
from msat.backends.kernels import NoCompiler, library


def main() -> None:
    """Measure, print, write."""
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    names = options.networks.split(",")
    begun = time.perf_counter()
    try:
        library()
    except NoCompiler as reason:
        print(f"events is measured as folded: {reason}")
    findings = Findings(options.steps, options.repeats, time.perf_counter() - begun)
    for name in names:
        chosen = subject(name, options.data, options.steps)
        findings.origins[name] = chosen.origin
        print(f"{name}: {chosen.origin}", flush=True)
        for neuron in options.neurons.split(","):
            timing = paired(works(chosen, neuron, options.steps), options.repeats)
            share = rate(chosen.converted(neuron), chosen.inputs, options.steps)
            findings.rows.append((name, neuron, share, timing))
            print(grid(HEAD, ratio_rows(findings)[-1:]), flush=True)
    if not options.quick:
        findings.growth_of = names[0]
        findings.growth = curves(subject(names[0], options.data, options.steps), options.steps, options.repeats)
        findings.memory = [
            (name, neuron, {b: batch_memory(name, neuron, b, options.data, 16) for b in ("step", "folded", "events")})
            for name in names
            for neuron in ("IF", "MSAT")
        ]
        findings.layers = measure_layers(options.repeats, LAYERS)
    print(text(findings))
    write(findings, options.out)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=main.__doc__)
    data = os.environ.get("MSAT_DATA")
    parser.add_argument("--networks", default=",".join(SPECS), help=f"of {', '.join(SPECS)}")
    parser.add_argument("--neurons", default=",".join(METHODS), help="of these three, or names of methods")
    parser.add_argument("--steps", type=int, default=64, help="T")
    parser.add_argument("--repeats", type=int, default=5, help="paired repeats")
    parser.add_argument("--threads", type=int, default=0, help="torch's choice by default")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None, help="folder of data sets")
    parser.add_argument("--out", type=Path, default=Path("results/speed"), help="where tables go")
    parser.add_argument("--quick", action="store_true", help="only the table of backends")
    return parser.parse_args()


if __name__ == "__main__":
    main()
