"""The harness end to end on a tiny plugin: cells end in a closed set of states, work resumes, mistakes take one sentence."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from benchmarks import runner
from benchmarks.bench import Bench, open_bench
from benchmarks.catalogue import read
from benchmarks.cells import Cell, Options, Setting, grid
from benchmarks.cli import app
from benchmarks.memory import peak_memory
from benchmarks.plugins import registry
from benchmarks.provenance import _code
from benchmarks.records import pack, read_record, read_records
from benchmarks.selection import choose_methods, parse
from msat.observers import checkpoints
from msat.task import Data

PLUGIN = Path(__file__).with_name("tiny.py")
Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command line in an empty folder, with the plugin."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MSAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MSAT_DATA", raising=False)
    open_bench.cache_clear()

    def run(command: str, *arguments: str) -> Result:
        return CliRunner().invoke(app, [command, *arguments])

    return run


def run(call: Call, *arguments: str) -> Result:
    return call("run", "--task", "clouds", "--threads", "1", "--plugin", str(PLUGIN), *arguments)


def records(folder: str = "results") -> dict[str, dict[str, object]]:
    files = sorted(Path(folder).glob("sample/clouds/*/*.json"))
    return {file.name: json.loads(file.read_text()) for file in files}


def test_a_run_leaves_records_tables_and_a_summary(call: Call):
    done = run(call, "--methods", "msat,maximum,repeated,mmse", "--seeds", "2")
    assert done.exit_code == 0, done.output
    assert "Tables: results/sample/clouds/README.md" in done.stdout
    found, broken = read_records(Path("results"))
    assert (len(found), broken) == (5, [])
    followed = []
    for record in found:
        assert record.result is not None
        assert record.inputs.tested == 90
        expected = checkpoints(8) if record.cell.method == "mmse" else list(range(1, 9))
        assert record.result.steps == expected
        assert len(record.result.bits) == len(record.result.checkpoints) == 4
        assert [p.role for p in record.result.populations] == ["site", "site", "readout"]
        assert record.ann.macs == 6 * 16 + 16 * 8 + 8 * 3
        assert record.ann.active_macs is not None
        assert 6 * 16 < record.ann.active_macs < record.ann.macs
        traces = record.result.traces or []
        assert 1 <= len(traces) <= 3
        followed.append([trace.neuron for trace in traces])
        for trace in traces:
            assert len(trace.current) == len(trace.threshold) == len(trace.potential) == len(trace.output) == 8
            moved = [v + x - o for v, x, o in zip([0.0, *trace.potential], trace.current, trace.output, strict=False)]
            assert moved == pytest.approx(trace.potential, abs=2e-2)
        assert record.ann.correct > 45
    assert followed == followed[:1] * len(found)  # every method shows the same neurons
    page = Path("results/sample/clouds/README.md").read_text()
    assert r"Clouds \| of \*points\*" in page
    assert "nothing is drawn, in truth." in page


def test_a_site_that_the_ann_has_not_is_no_site_in_the_tables(call: Call):
    done = run(call, "--model", "residual", "--methods", "bsnn,maximum")
    assert done.exit_code == 0, done.output
    found, _ = read_records(Path("results"))
    roles = {r.cell.method: [p.role for p in r.result.populations] for r in found if r.result}
    assert roles["maximum"] == ["site"] * 3 + ["readout"]
    assert sorted(roles["bsnn"]) == sorted([*roles["maximum"], "relay"])
    assert Path("results/sample/clouds/residual-error.svg").exists()


def test_one_bad_method_does_not_end_the_others(call: Call):
    done = run(call, "--methods", "raises,skips,maximum")
    assert done.exit_code == 1
    assert "ZeroDivisionError: one by | zero" in done.stderr
    assert "Traceback" not in done.output
    by_method = {str(name).split("-")[0]: record for name, record in records().items()}
    assert {name: record["status"] for name, record in by_method.items()} == {
        "maximum": "done", "raises": "failed", "skips": "skipped",
    }  # fmt: skip
    assert "ZeroDivisionError" in str(by_method["raises"]["traceback"])
    assert by_method["raises"]["result"] is None
    assert "skipped: needs a retrained network" in Path("results/sample/clouds/README.md").read_text()


def test_an_interrupted_run_goes_on_where_it_was(call: Call, monkeypatch: pytest.MonkeyPatch):
    real, ran = runner.run_cell, []

    def killed(cell: Cell, *rest: object) -> object:
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(cell.method)
        return real(cell, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "run_cell", killed)
    assert run(call, "--methods", "det,dtt,maximum,msat").exit_code == 130
    first = {file: file.stat().st_mtime_ns for file in Path("results").glob("**/*.json")}
    assert len(first) == 2
    monkeypatch.setattr(runner, "run_cell", lambda cell, *rest: (ran.append(cell.method), real(cell, *rest))[1])
    assert run(call, "--methods", "det,dtt,maximum,msat").exit_code == 0
    assert ran == ["det", "dtt", "maximum", "msat"]
    assert first.items() <= {file: file.stat().st_mtime_ns for file in Path("results").glob("**/*.json")}.items()


def test_a_broken_record_is_measured_again(call: Call):
    run(call, "--methods", "maximum")
    (file,) = Path("results").glob("**/*.json")
    whole = read_record(file)
    file.write_text(file.read_text()[:100])
    assert run(call, "--methods", "maximum").exit_code == 0
    again = read_record(file)
    assert whole is not None and again is not None
    assert again.result == whole.result


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (("--epochs", "3"), "measured with EPOCHS=8 and would be lost"),
        (("--calibration", "64"), "measured with CALIBRATION=128 and"),
        (("--seed", "1"), "measured with SEED=0 and"),
        ((), "measured with other data and"),
    ],
)
def test_a_measurement_takes_the_place_of_none_of_another_choice(
    call: Call, monkeypatch: pytest.MonkeyPatch, choice: tuple[str, ...], said: str
):
    run(call, "--methods", "maximum")
    (file,) = Path("results").glob("**/*.json")
    before = file.read_text()
    if not choice:
        monkeypatch.setattr(Data, "fingerprint", lambda _: "of other examples")
    refused = run(call, "--methods", "maximum,msat", *choice)
    assert (refused.exit_code, file.read_text(), len(records())) == (2, before, 1)
    assert f"{file} was {said}" in refused.stderr
    assert run(call, "--methods", "maximum", *choice, "--results", "other").exit_code == 0


def test_a_larger_limit_adds_inputs_to_a_record(call: Call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Bench, "batch_size", lambda *_: 16)
    methods = ("--methods", "maximum,mmse,repeated,parallel,srp,cos", "--seeds", "2")
    for limit in ("30", "45", "70"):
        assert run(call, *methods, "--limit", limit, "--results", "grown").exit_code == 0
    run(call, *methods, "--limit", "70", "--results", "whole")
    grown, whole = (read_records(Path(folder))[0] for folder in ("grown", "whole"))
    assert len(grown) == len(whole) == 7
    assert [[part.tested for part in record.earlier] for record in grown + whole] == [[30, 15]] * 7 + [[]] * 7
    for one, other in zip(grown, whole, strict=True):
        assert (one.result, one.ann.bits, one.identity) == (other.result, other.ann.bits, other.identity)
    file = next(Path("grown").glob("**/maximum-*.json"))
    assert call("verify", str(file), "--plugin", str(PLUGIN)).stdout == "the same counts\n"


@pytest.mark.parametrize("other", ["sin", "kind", "operations", "ann"])
def test_inputs_are_not_added_to_another_conversion(call: Call, other: str):
    run(call, "--methods", "maximum", "--limit", "30")
    (file,) = Path("results").glob("**/*.json")
    stored = json.loads(file.read_text())
    result, population = stored["result"], stored["result"]["populations"][0]
    result["correct"] = [0 for _ in result["correct"]]
    match other:
        case "sin":
            population["diagnosis"]["sin_spikes"][-1] += 1
        case "kind":
            result["events"]["graded"] = result["events"].pop("binary")
        case "operations":
            population["additions"] += 1
        case "ann":
            stored["ann"]["bits"] = pack(torch.zeros(30, dtype=torch.bool))
    file.write_text(json.dumps(stored))
    run(call, "--methods", "maximum", "--limit", "70")
    record = read_record(file)
    assert record is not None and record.result is not None
    assert record.earlier == []
    assert record.result.correct[-1] > 40
    assert call("verify", str(file), "--plugin", str(PLUGIN)).stdout == "the same counts\n"


def test_what_was_measured_outlives_a_smaller_limit_and_a_failure(call: Call, monkeypatch: pytest.MonkeyPatch):
    run(call, "--methods", "maximum", "--limit", "60")
    (file,) = Path("results").glob("**/*.json")
    before = file.read_text()
    smaller = run(call, "--methods", "maximum", "--limit", "30")
    assert (smaller.exit_code, file.read_text()) == (0, before)
    assert "already measured on 60 inputs" in smaller.stdout + smaller.stderr

    def full(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(runner, "measure", full)
    assert run(call, "--methods", "maximum", "--limit", "90").exit_code == 1
    assert file.read_text() == before


def test_a_limit_is_said_in_the_tables(call: Call):
    run(call, "--methods", "maximum", "--limit", "30")
    assert "30 of 90 (the first 30 of a seeded shuffle" in Path("results/sample/clouds/README.md").read_text()


def test_report_rebuilds_the_same_bytes(call: Call):
    run(call, "--methods", "maximum,msat,skips")
    folder = Path("results/sample/clouds")
    before = {path.name: path.read_bytes() for path in folder.glob("*.*")}
    for path in folder.glob("*.*"):
        path.unlink()
    assert call("report").exit_code == 0
    assert {path.name: path.read_bytes() for path in folder.glob("*.*")} == before


def test_verify_measures_again(call: Call):
    run(call, "--methods", "repeated", "--seeds", "1", "--epochs", "3", "--limit", "60")
    (file,) = Path("results").glob("**/*.json")
    same = call("verify", str(file), "--plugin", str(PLUGIN))
    assert (same.exit_code, same.stdout) == (0, "the same counts\n")
    fields = json.loads(file.read_text())
    fields["cell"]["adaptive"]["alpha"] *= 2
    file.write_text(json.dumps(fields))
    other = call("verify", str(file), "--plugin", str(PLUGIN))
    assert other.exit_code == 2 and "the constants of MSAT at hand" in other.stderr
    fields["cell"]["adaptive"]["alpha"] /= 2
    fields["result"]["correct"][0] += 1
    file.write_text(json.dumps(fields))
    assert call("verify", str(file), "--plugin", str(PLUGIN)).exit_code == 1


def test_verify_takes_the_parameters_of_the_record_not_the_defaults_of_today(call: Call):
    run(call, "--methods", "kappa:fraction=0.3", "--limit", "60")
    (file,) = Path("results").glob("**/*.json")
    fields = json.loads(file.read_text())
    assert fields["cell"]["overrides"] == {"fraction": 0.3}
    fields["cell"]["overrides"] = {}
    file.write_text(json.dumps(fields))
    assert call("verify", str(file), "--plugin", str(PLUGIN)).stdout == "the same counts\n"


def test_a_failure_may_be_replaced_by_any_choice(call: Call):
    assert run(call, "--methods", "raises").exit_code == 1
    assert run(call, "--methods", "raises", "--epochs", "3").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--methods", "mast"], "unknown method 'mast': did you mean msat"),
        (["--methods", "kappa:fractoin=0.2"], "unknown parameter of method 'kappa' 'fractoin': did you mean fraction"),
        (["--methods", "kappa:fraction"], "has no value"),
        (["--methods", "kappa:fraction=lots"], "of the wrong type"),
        (["--methods", "msat:units=metres"], "unknown value of msat:units 'metres'"),
        (["--methods", ","], "names no method"),
        (["--model", "mpl"], "did you mean mlp"),
        (["--steps", "0"], "STEPS must be at least 1, got 0"),
        (["--limit", "-1"], "LIMIT must be at least 1"),
        (["--profile", "ful"], "unknown profile 'ful': did you mean full"),
        (["--backend", "folder"], "unknown backend 'folder': did you mean folded"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
        (["--profile", "full"], "clouds are not there"),
        (["--model", "dead", "--methods", "maximum"], "never fires"),
        (["--model", "smooth"], "(Tanh) follows a ReLU and is not linear"),
        (["--plugin", "nowhere.py"], "nowhere.py is not a Python file"),
    ],
)
def test_mistakes_take_one_sentence_and_exit_code_2(call: Call, arguments: list[str], text: str):
    done = run(call, *arguments)
    assert done.exit_code == 2, done.output
    assert text in done.stderr
    assert "Traceback" not in done.output
    assert not any(record["result"] for record in records().values())


def test_an_unknown_task_gets_suggestions(call: Call):
    done = call("run", "--task", "speach")
    assert done.exit_code == 2
    assert "unknown task 'speach': did you mean speech?" in done.stderr


def test_a_damaged_checkpoint_is_named(call: Call, tmp_path: Path):
    run(call, "--methods", "maximum")
    (file,) = (tmp_path / "cache" / "checkpoints").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:50])
    open_bench.cache_clear()
    done = run(call, "--methods", "msat")
    assert done.exit_code == 2
    assert file.name in done.stderr


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import msat\n1 / 0\n", "bad.py: ZeroDivisionError: division by zero (bad.py, line 2)."),
        ("def f(:\n", "bad.py, line 1: "),
        (PLUGIN.read_text().replace('"clouds"', '"digits"'), "task 'digits' is defined twice"),
    ],
)
def test_a_plugin_that_breaks_is_named(call: Call, tmp_path: Path, source: str, text: str):
    (tmp_path / "bad.py").write_text(source)
    done = call("run", "--task", "digits", "--plugin", "bad.py")
    assert done.exit_code == 2
    assert text in done.stderr


def test_list_imports_nothing_heavy():
    heavy = {"torch", "numpy", "pandas", "matplotlib"}
    code = f"import sys, benchmarks.cli as c; c.app(['list'], standalone_mode=False); assert not {heavy} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "speech" in done.stdout
    assert "fraction=0.5" in done.stdout


def test_the_list_names_what_the_registry_holds():
    entries, known = read([PLUGIN]), registry((str(PLUGIN),))
    assert {e.name for e in entries if e.kind == "task"} == set(known.tasks)
    assert {e.name for e in entries if e.kind == "method"} == set(known.methods)
    for entry in entries:
        if entry.kind == "method":
            assert [name for name, _ in entry.parameters] == list(known.methods[entry.name].defaults)


@pytest.mark.parametrize(
    "spelling",
    ["msat:units=normalised;dtt=false", "msat dtt=False units=normalised", "msat units = normalised :dtt= false"],
)
def test_parameters_are_parsed(spelling: str):
    choices = choose_methods(registry(), f"kappa:fraction=0.3, {spelling},kappa:fraction=0.5")
    assert [choice.parameters for choice in choices] == [
        (("fraction", 0.3),), (("dtt", False), ("units", "normalised")), (),
    ]  # fmt: skip
    assert [parse(text) for text in ("1", "True", "false", "a-b", "(1, 2)")] == [1, True, False, "a-b", (1, 2)]


def test_make_hands_methods_over_whole(tmp_path: Path):
    """A semicolon, which separates a method's parameters, would end the command if a shell saw it bare."""
    binary, ready = tmp_path / "msat-bench", tmp_path / "ready"
    binary.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    binary.chmod(0o755)
    ready.touch()
    wanted = "msat:units=normalised;dtt=false,rmp"
    command = ["make", "bench", f"METHODS={wanted}", f"BIN={tmp_path}", f"READY={ready}"]
    # Not a part of `make test`, and settings are what the command says.
    alone = {"PATH": os.environ["PATH"], "SEED": "7", "DATA": "/"}
    root = Path(__file__).parents[1]
    said = subprocess.run(command, cwd=root, env=alone, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["run", "--methods", wanted]


@pytest.mark.usefixtures("call")
def test_cells_travel():
    options = Options(plugins=(str(PLUGIN),))
    cells = grid(Setting("clouds", "mlp", options), choose_methods(options.registry, "repeated,kappa:fraction=0.3"))
    assert [cell.repetition for cell in cells] == [0, 1, 2, 0]
    assert pickle.loads(pickle.dumps(cells)) == cells
    assert len({cell.file for cell in cells}) == 4


@pytest.mark.usefixtures("call")
def test_active_macs_are_the_products_whose_input_is_not_zero():
    bench = open_bench(Setting("clouds", "residual", Options(plugins=(str(PLUGIN),), limit=50)))
    inputs, measured = bench.task.prepare(bench.data.test.take(bench.indices)), bench.active_macs
    first, *layers = [layer for layer in bench.module.modules() if isinstance(layer, torch.nn.Linear)]
    counts = [50 * first.weight.numel()]  # its inputs are real numbers: it is computed in full
    for layer in layers:
        layer.register_forward_hook(lambda layer, x, _: counts.append(int((x[0] != 0).sum()) * len(layer.weight)))
    # The shortcut adds what its ReLU sends.
    bench.module.relu1.register_forward_hook(lambda *args: counts.append(int((args[2] != 0).sum())))
    bench.module(inputs)
    assert len(counts) == 5
    assert measured == sum(counts) / 50


@pytest.mark.usefixtures("call")
def test_results_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch):
    options = Options(plugins=(str(PLUGIN),))
    setting = Setting("clouds", "mlp", options)
    cell = Cell(setting, "msat", (), 8)
    whole = runner.run_cell(cell)
    monkeypatch.setattr("benchmarks.bench.STATE_VALUES", 7 * 27)
    parts = runner.run_cell(cell)
    assert whole.result is not None and parts.result is not None
    assert parts.result.correct == whole.result.correct
    assert parts.result.events == whole.result.events


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "."], "DATA= is read with PROFILE=full alone; add it"),
        (["--calibration", "0"], "CALIBRATION must be at least 1, got 0"),
        (["--results", "taken"], "RESULTS=taken cannot be written to (File exists); name another folder."),
        (
            ["--methods", "msat,dtt=false"],
            "'dtt=false' has no method; commas set methods apart, spaces their parameters",
        ),
        (["--methods", "maximum", "--profile", "full"], "clouds are not there; name a folder with DATA=."),
    ],
)
def test_settings_that_cannot_be_meant_end_before_any_work(call: Call, arguments: list[str], said: str):
    Path("taken").write_text("a file")
    done = run(call, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not list(Path().glob("**/*.md"))


def test_nothing_is_shown_of_a_run_that_measured_nothing(call: Call):
    run(call, "--methods", "maximum", "--limit", "5")
    done = run(call, "--methods", "maximum", "--limit", "5", "--epochs", "3")
    assert done.exit_code == 2
    assert "Tables:" not in done.stdout


def test_rows_of_other_code_are_named_after_a_run(call: Call):
    own = Path("own.py")
    source = (
        "from msat.method import Axes, Initial, method\n\n"
        "@method('here')\ndef own(start: float = 0.5) -> Axes:\n    return Axes(initial=Initial(start))\n"
    )
    own.write_text(source)
    both = ("--limit", "5", "--plugin", str(own), "--methods")
    assert "other code" not in run(call, *both, "own,own start=0.25").stderr
    own.write_text(source.replace("Initial(start)", "Initial(start / 2)"))
    registry.cache_clear()
    _code.cache_clear()
    said = run(call, *both, "own").stderr
    assert "measured with other code than today's: mlp own start=0.25; run these again." in said


def test_a_folder_of_data_may_stand_in_the_environment(call: Call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MSAT_DATA", ".")
    assert run(call, "--methods", "maximum", "--limit", "5").exit_code == 0


def test_folders_without_a_common_method_say_so(call: Call):
    run(call, "--methods", "maximum", "--limit", "5", "--results", "one")
    run(call, "--methods", "rmp", "--limit", "5", "--results", "two")
    said = call("compare", "one", "two").stderr
    assert "share no method that ran on a network with the same weights and test inputs" in said


def test_check_refuses_a_name_that_is_taken(call: Call):
    assert f"try it: {sys.argv[0]} check msat.py" in call("new", "method", "msat").stdout
    call("new", "task", "digits")
    for file, what in (("msat.py", "method msat"), ("digits.py", "task digits")):
        done = call("check", file)
        assert done.exit_code == 1
        assert f"{what}: the name is taken in " in done.stdout


@pytest.mark.parametrize("kind", ["method", "task"])
def test_new_plugins_pass_the_check(call: Call, kind: str):
    assert call("new", kind, f"my-{kind}").exit_code == 0
    done = call("check", f"my_{kind}.py")
    assert (done.exit_code, done.stdout) == (0, f"{kind} my-{kind}: ok\n")
    for bad in ([kind, f"my-{kind}"], [kind, "My Method"], ["mehtod", "x"]):
        assert call("new", *bad).exit_code == 2


def test_check_finds_faults(call: Call):
    done = call("check", str(PLUGIN))
    assert done.exit_code == 1
    assert "method raises: ZeroDivisionError" in done.stdout
    assert "network 'smooth'" in done.stdout or "Tanh" in done.stdout


def test_the_readme_s_method_works(call: Call, tmp_path: Path):
    text = (PLUGIN.parents[1] / "README.md").read_text(encoding="utf-8")
    source = text.split("```python\n")[1].split("```")[0]
    assert len(source.splitlines()) <= 30
    (tmp_path / "deviations.py").write_text(source)
    assert call("check", "deviations.py").stdout == "method deviations: ok\n"


def test_peak_memory_leaves_out_what_the_parent_had() -> None:
    held = np.ones(50_000_000)
    call = "from benchmarks.memory import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)
    assert peak_memory() > held.nbytes / 2**20 > float(done.stdout) > 1
