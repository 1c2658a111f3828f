"""Faults of plugins and of settings: each ends as a status or in one sentence that says what, where and what to do."""

import os
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from benchmarks.bench import open_bench
from benchmarks.cli import app
from benchmarks.leaderboard import all_sections
from benchmarks.records import read_records
from benchmarks.tables import labels
from msat.conversion import usable
from msat.errors import UserError
from tests.making import make_record

TINY = Path(__file__).with_name("tiny.py")
FAULTY = """
from dataclasses import dataclass
import torch
from msat.method import Axes, Correction, ReadoutRule, method
from msat.multithreshold import MultiThreshold
from msat.neurons import Emission, IntegrateAndFire, SumReadout
from msat.thresholds import ThresholdRule


@dataclass(frozen=True)
class Given(ThresholdRule):
    value: float

    def threshold(self, site, steps):
        return torch.tensor(self.value)


@dataclass(frozen=True)
class Wide(ThresholdRule):
    def threshold(self, site, steps):
        return torch.ones(5)


@dataclass(frozen=True, eq=False)
class Nothing(IntegrateAndFire):
    def step(self, current, state):
        return Emission(current * float("nan")), state


@dataclass(frozen=True, eq=False)
class NothingWhenFlat(IntegrateAndFire):
    def step(self, current, state):
        emission, state = super().step(current, state)
        return Emission(emission.output * (float("nan") if current.dim() == 2 else 1)), state


@dataclass(frozen=True, eq=False)
class Broken(IntegrateAndFire):
    def step(self, current, state):
        return self.absent


class Forgetful(Correction):
    def apply(self, network, calibration):
        pass


class Spoiling(Correction):
    def apply(self, network, calibration):
        neuron = network.stages[0].population
        return network.with_stage(0, population=neuron.bind(-neuron.threshold, neuron.initial))


class TooFew(ThresholdRule):
    def fit(self, calibration):
        return super().fit(calibration)[:1]

    def threshold(self, site, steps):
        return site.a.max()


@dataclass(frozen=True)
class Drawn(ThresholdRule):
    seeded: bool

    def fit(self, calibration):
        make = torch.Generator().manual_seed(calibration.seed)
        share = torch.rand((), generator=make) if self.seeded else torch.rand(())
        return [theta * (0.2 + share) for theta in super().fit(calibration)]

    def threshold(self, site, steps):
        return site.a.max()


@dataclass(frozen=True)
class Growing(ThresholdRule):
    def threshold(self, site, steps):
        return site.a.max() * steps / 8


@dataclass(frozen=True, eq=False)
class Uncounted(IntegrateAndFire):
    def step(self, current, state):
        return Emission(current.clamp(min=0), torch.zeros_like(current)), state


@dataclass(frozen=True, eq=False)
class CountsOne(IntegrateAndFire):
    spike_kind = "pow2"

    def step(self, current, state):
        emission, state = super().step(current, state)
        return Emission(emission.output * (1 + current.abs()), 2 * emission.spikes()), state


@dataclass(frozen=True, eq=False)
class Parts(IntegrateAndFire):
    def step(self, current, state):
        emission, state = super().step(current, state)
        return Emission(emission.output, emission.spikes() / 2), state


@dataclass(frozen=True, eq=False)
class GradedLevels(MultiThreshold):
    def step(self, current, state):
        emission, state = super().step(current, state)
        return emission._replace(output=emission.output * (1 + current.abs())), state


@dataclass(frozen=True, eq=False)
class Noisy(IntegrateAndFire):
    def step(self, current, state):
        return super().step(current + torch.randn_like(current), state)


@dataclass(frozen=True, eq=False)
class NothingInOtherBatches(IntegrateAndFire):
    def step(self, current, state):
        emission, state = super().step(current, state)
        return Emission(emission.output * (float("nan") if len(current) in {2, 5} else 1)), state


@dataclass(frozen=True, eq=False)
class ForgetsBetweenChunks(IntegrateAndFire):
    def scan(self, currents, state):
        return super().scan(currents, self.start(currents[0], torch.arange(currents.shape[1])))


@dataclass(frozen=True, eq=False)
class Everything(IntegrateAndFire):
    def step(self, current, state):
        emission, state = super().step(current, state)
        return Emission(emission.output * (1 + current.abs())), state


@dataclass(frozen=True, eq=False)
class Inhibiting(IntegrateAndFire):
    def step(self, current, state):
        emission, state = super().step(current, state)
        return Emission(-emission.output), state


@dataclass(frozen=True, eq=False)
class Halves(IntegrateAndFire):
    spike_kind = "pow2"

    def step(self, current, state):
        emission, state = super().step(current, state)
        return Emission(emission.output * (1 + 0.5 * (current > self.threshold))), state


@dataclass(frozen=True, eq=False)
class LooksAhead(IntegrateAndFire):
    window = True

    def scan(self, currents, state):
        return super().scan(currents + currents.mean(0), state)


@dataclass(frozen=True, eq=False)
class Peeking(IntegrateAndFire):
    def step(self, current, state):
        return super().step(current - current.mean(0, keepdim=True), state)


class NoNumber(SumReadout):
    def step(self, current, state):
        emission, state = super().step(current, state)
        return Emission(emission.output * float("nan")), state


class Silent(ReadoutRule):
    def population(self, network, calibration):
        return NoNumber()


@method("here")
def zero() -> Axes:
    return Axes(threshold=Given(0.0))


@method("here")
def endless() -> Axes:
    return Axes(threshold=Given(float("inf")))


@method("here")
def wide() -> Axes:
    return Axes(threshold=Wide())


@method("here")
def nothing() -> Axes:
    return Axes(neuron=Nothing())


@method("here")
def nothing_when_flat() -> Axes:
    return Axes(neuron=NothingWhenFlat())


@method("here")
def broken() -> Axes:
    return Axes(neuron=Broken())


@method("here")
def forgetful() -> Axes:
    return Axes(corrections=(Forgetful(),))


@method("here")
def spoiled() -> Axes:
    return Axes(corrections=(Spoiling(),))


@method("here")
def too_few() -> Axes:
    return Axes(threshold=TooFew())


@method("here")
def silent() -> Axes:
    return Axes(readout=Silent())


@method("here")
def no_axes() -> Axes:
    pass


@method("here", stochastic=True)
def global_draw() -> Axes:
    return Axes(threshold=Drawn(False))


@method("here")
def secret_draw() -> Axes:
    return Axes(threshold=Drawn(True))


@method("here")
def hidden_steps() -> Axes:
    return Axes(threshold=Growing())


@method("here")
def uncounted() -> Axes:
    return Axes(neuron=Uncounted())


@method("here")
def counts_one() -> Axes:
    return Axes(neuron=CountsOne())


@method("here")
def parts() -> Axes:
    return Axes(neuron=Parts())


@method("here")
def graded_levels() -> Axes:
    return Axes(neuron=GradedLevels(), coding="differential")


@method("here")
def noisy() -> Axes:
    return Axes(neuron=Noisy())


@method("here")
def nothing_in_other_batches() -> Axes:
    return Axes(neuron=NothingInOtherBatches())


@method("here")
def forgets() -> Axes:
    return Axes(neuron=ForgetsBetweenChunks())


@method("here")
def looks_ahead() -> Axes:
    return Axes(neuron=LooksAhead())


@method("here")
def everything() -> Axes:
    return Axes(neuron=Everything())


@method("here")
def inhibiting() -> Axes:
    return Axes(neuron=Inhibiting())


@method("here")
def halves() -> Axes:
    return Axes(neuron=Halves())


@method("here")
def peeking() -> Axes:
    return Axes(neuron=Peeking())
"""

STORMS = """
from msat_plugin_tiny import Clouds


class Storms(Clouds):
    name = "storms"

    def prepare(self, x):
        raise IndexError("no lightning")
"""


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder; return a file of faulty methods."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MSAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MSAT_DATA", raising=False)
    open_bench.cache_clear()
    file = tmp_path / "faulty.py"
    file.write_text(FAULTY)
    return file


def run(file: Path, *arguments: str):
    plugins = ("--plugin", str(TINY), "--plugin", str(file))
    return CliRunner().invoke(
        app, ["run", "--task", "clouds", "--model", "mlp", "--threads", "1", *plugins, *arguments]
    )


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("zero", 2, "Given gives site '1' a threshold of 0; thresholds must be positive and finite."),
        ("endless", 2, "Given gives site '1' a threshold of inf; thresholds must be positive and finite."),
        (
            "wide",
            2,
            "Wide gives site '1' thresholds of the shape (5,), its neurons have (16,); return [] for the layer",
        ),
        ("forgetful", 2, "Forgetful gives NoneType; return the corrected network."),
        ("spoiled", 2, "Spoiling gives site '1' a threshold of -"),
        ("too-few", 2, "TooFew gives 1 thresholds for 2 sites; return one for each."),
        ("silent", 2, "logits must be finite; look for a division by"),
        ("nothing", 2, "logits must be finite; look for a division by"),
        ("nothing-when-flat", 2, "the network's logits are not finite; look for a division by zero"),
        ("broken", 1, "AttributeError: 'Broken' object has no attribute 'absent' (faulty.py, line 40)."),
        ("no-axes", 2, "gives NoneType; return Axes(...)."),
        ("global-draw", 2, "of the logits; draw from a generator with calibration.seed"),
        ("secret-draw", 2, "the conversion depends on the seed; say @method(…, stochastic=True)"),
        ("hidden-steps", 2, "the conversion depends on T ("),
        ("uncounted", 2, "send something and count no event; give their number as `events` of Emission"),
        ("counts-one", 2, "say that their spikes are 'pow2', but some are no sum of as many powers of two"),
        ("parts", 2, "count parts of an event; give whole numbers"),
        ("graded-levels", 2, "say that their spikes are 'pow2', but some are no sum of"),
        ("noisy", 2, "a second run of the same network gives other logits; draw with msat.randomness.uniform"),
        ("nothing-in-other-batches", 2, "but with a batch of 5 100 % of the logits differ"),
        ("forgets", 2, "results must not depend on how work is cut, but with "),
        ("looks-ahead", 2, "its neurons read all T steps before they send; say @method(…, recalibrate_per_T=True)"),
        ("everything", 2, "say that their spikes are 'binary', but one neuron sends "),
        ("inhibiting", 2, "say that their spikes are 'binary', but some are negative; set spike_kind"),
        ("halves", 2, "say that their spikes are 'pow2', but some are no sum of"),
        ("peeking", 2, "results must not depend on how work is cut, but with a batch of 5"),
    ],
)
def test_a_faulty_method_is_a_status_and_the_others_run(faulty: Path, name: str, code: int, said: str):
    done = run(faulty, "--methods", f"{name},maximum", "--steps", "4")
    assert done.exit_code == code, done.output
    assert said in done.stderr
    found = {record.cell.method: record.status for record in read_records(Path("results"))[0]}
    assert found == {name: "failed", "maximum": "done"}


def test_a_parameter_without_a_default_is_named(faulty: Path):
    faulty.write_text(FAULTY.replace("def zero()", "def zero(size)"))
    done = run(faulty)
    assert done.exit_code == 2
    assert "parameter 'size' of method 'zero' in" in done.stderr


def test_a_task_that_breaks_does_not_end_the_run(faulty: Path):
    faulty.write_text(STORMS)
    plugins = ("--plugin", str(TINY), "--plugin", str(faulty))
    done = CliRunner().invoke(
        app, ["run", "--task", "storms,clouds", "--methods", "maximum", "--threads", "1", *plugins]
    )
    assert done.exit_code == 1
    assert "IndexError: no lightning (faulty.py, line " in done.stderr
    assert [record.cell.task for record in read_records(Path("results"))[0]] == ["clouds"]


def test_a_task_that_cannot_name_its_networks_is_a_mistake(faulty: Path):
    faulty.write_text(STORMS + "\n    def models(self, profile):\n        raise KeyError('hail')\n")
    done = CliRunner().invoke(app, ["run", "--task", "storms", "--plugin", str(TINY), "--plugin", str(faulty)])
    assert done.exit_code == 2
    assert "task 'storms' cannot name its networks: KeyError: 'hail' (faulty.py, line " in done.stderr


def test_a_folder_of_data_must_be_there(faulty: Path):
    done = run(faulty, "--profile", "full", "--data", "nowhere")
    assert done.exit_code == 2
    assert "DATA=nowhere is no folder; correct it" in done.stderr
    assert not Path("nowhere").exists()


def test_a_network_in_which_nothing_spikes_has_a_page(faulty: Path):
    done = run(faulty, "--methods", "maximum", "--steps", "1")
    assert done.exit_code == 0, done.output
    assert Path("results/sample/clouds/README.md").exists()


@pytest.mark.parametrize("shape", [(), (4, 1, 1), (4, 3, 3), (1, 4, 3, 3)])
def test_thresholds_fit_a_layer_channels_or_neurons(shape: tuple[int, ...]):
    theta = torch.ones(shape)
    assert usable(theta, "1", "Rule", (4, 3, 3)) is theta


@pytest.mark.parametrize(
    "theta", [torch.ones(4, 1), torch.ones(2, 4, 3, 3), -torch.ones(()), torch.tensor(float("nan"))]
)
def test_other_thresholds_do_not(theta: Tensor):
    with pytest.raises(UserError, match="Rule gives site '1'"):
        usable(theta, "1", "Rule", (4, 3, 3))


def test_a_changed_default_makes_another_method():
    old, new = make_record(), make_record(seed=1)
    new = new.model_copy(update={"cell": new.cell.model_copy(update={"parameters": {"k": 2}})})
    assert list(labels([old, new]).values()) == ["msat k=1", "msat k=2"]
    assert list(labels([old, make_record(seed=1)]).values()) == ["msat", "msat"]
    none = new.model_copy(update={"cell": new.cell.model_copy(update={"parameters": {}})})
    assert len(set(labels([old, none]).values())) == 2, "a parameter that came later"
    far = new.model_copy(update={"cell": new.cell.model_copy(update={"task": "storms"})})
    assert [part.rows[0].label for part in all_sections([old, far])] == ["msat k=1", "msat k=2"], "on another task"


def test_make_refuses_a_setting_that_it_does_not_know():
    alone = {"PATH": os.environ["PATH"]}  # not a part of `make test`
    command = ["make", "--dry-run", "bench", "LIMITS=10"]
    said = subprocess.run(command, cwd=TINY.parents[1], env=alone, capture_output=True, text=True)
    assert said.returncode == 2
    assert "LIMITS is not a setting of this Makefile" in said.stderr
    fixed = ["make", "--dry-run", "paper", "DATA=.", "LIMIT=10"]
    said = subprocess.run(fixed, cwd=TINY.parents[1], env=alone, capture_output=True, text=True)
    assert said.returncode == 2 and "leave LIMIT away" in said.stderr
    spaced = ["make", "--dry-run", "bench", "PLUGIN=a.py b.py", "METHODS=msat, rmp", "STEPS:=4"]
    said = subprocess.run(spaced, cwd=TINY.parents[1], env=alone, capture_output=True, text=True, check=True)
    assert "--methods 'msat, rmp'" in said.stdout and "--plugin a.py --plugin b.py" in said.stdout


def test_compare_takes_the_spelling_of_methods_and_says_what_there_is(faulty: Path):
    run(faulty, "--methods", "maximum,kappa:fraction=0.3", "--steps", "4")
    asked = ["compare", "kappa:fraction=0.3", "maximum"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    wrong = CliRunner().invoke(app, [*asked, "--task", "cloud"])
    assert wrong.exit_code == 2
    assert "it has clouds mlp (sample)." in wrong.stderr
