"""`python -m benchmarks.documents`: fills the tables of README and docs from results/, as docs/tables.toml lists them."""

import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import markdown as md
from benchmarks.compare import corrected, gaps, span
from benchmarks.pairs import ALPHA
from benchmarks.records import Record, read_record
from benchmarks.tables import labels
from msat.errors import UserError

ANN = "ANN"
"""The row of the network that was converted."""
SPECIFICATION = Path("docs/tables.toml")
Spec = Mapping[str, Any]


def main() -> None:
    """Rewrite the tables of every document that the specification names; a mistake there takes one sentence, exit code 2."""
    try:
        texts = rendered(Path())
    except UserError as error:
        print(f"documents: {error}", file=sys.stderr)
        sys.exit(2)
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")


def rendered(root: Path) -> dict[Path, str]:
    """Return the text of every document with its tables as the records have them.

    Raises:
        UserError: a table has no place in its document, or a figure is not among the results.
    """
    texts: dict[Path, str] = {}
    for spec in tomllib.loads((root / SPECIFICATION).read_text(encoding="utf-8"))["table"]:
        file = root / spec["file"]
        text = texts.get(file) or file.read_text(encoding="utf-8")
        texts[file] = replaced(text, spec["name"], table(root / "results", spec), file)
    return texts


def replaced(text: str, name: str, body: str, file: Path) -> str:
    """Return a text with the lines between the marks of a table replaced."""
    marks = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end of table -->)", re.DOTALL)
    if len(marks.findall(text)) != 1:
        raise UserError(f"{file} must have <!-- table: {name} --> and <!-- end of table --> once; put them there.")
    return marks.sub(lambda found: f"{found[1]}{body}\n{found[2]}", text)


def table(results: Path, spec: Spec) -> str:
    """Return a table in Markdown: a row and a column together say network (`at`), method and T (`step`) of a cell.

    Where they also say `over`, it holds the difference to that method; where they say `energy`, that column of energy.csv;
    where they say `within`, the step from which accuracy is at most so many points below the ANN's.
    A method that was not run on a network has a dash there.

    Raises:
        UserError: a row or a column has nothing but dashes, as a mistyped method would give.
    """
    rows, columns = spec["rows"], spec["columns"]
    interval = spec.get("interval", False)

    def cell(spec: Spec) -> str:
        if "energy" in spec:
            return expense(results, spec)
        if "within" in spec:
            return latency(results, spec)
        return contrast(results, spec) if "over" in spec else figure(results, spec, interval)

    lines = [[cell({**row, **column}) for column in columns] for row in rows]
    for entries, found in ((rows, lines), (columns, zip(*lines, strict=True))):
        for entry, cells in zip(entries, found, strict=True):
            if set(cells) == {md.NONE}:
                raise UserError(
                    f"table '{spec['name']}' has no figure for '{_title(entry)}'; correct the name or measure it."
                )
    head = [spec["head"], *map(_title, columns)]
    body = [[_title(row), *cells] for row, cells in zip(rows, lines, strict=True)]
    return "\n".join(map(_line, [head, ["---", *["--:"] * len(columns)], *body]))


def _title(entry: Spec) -> str:
    return str(entry.get("title") or entry.get("method") or entry["step"])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def figure(results: Path, cell: Spec, interval: bool) -> str:
    """Return the accuracy of a method at a step on a network, percent; the mean over seeds, a dash if it was not run there.

    Raises:
        UserError: it was run there for other steps.
    """
    frame = _accuracies(results / cell["at"])
    if cell["method"] == ANN:
        return md.percent([int(frame["ann_correct"].iloc[0])], int(frame["tested"].iloc[0]), interval=False)
    found = frame[frame["method"] == cell["method"]]
    if found.empty:
        return md.NONE
    found = found[found["step"] == cell["step"]]
    if found.empty:
        raise UserError(f"{results / cell['at']} has no {cell['method']} at step {cell['step']}; measure it.")
    return md.percent(found["correct"].astype(int).tolist(), int(found["tested"].iloc[0]), interval)


def contrast(results: Path, cell: Spec) -> str:
    """Return how many points a method is ahead of another, with 95 % interval; bold where `compare` tells the two apart.

    Nothing where they have not both run on the same inputs of the network.
    """
    one, other = (_record(results / cell["at"], cell[side]) for side in ("method", "over"))
    if one is None or other is None or one.inputs.tested != other.inputs.tested:
        return md.NONE
    found = gaps(one, other)
    at = [gap.step for gap in found].index(cell["step"])
    text = span(found[at]).replace("-", "−")
    return f"**{text}**" if corrected(found)[at] < ALPHA else text


def expense(results: Path, cell: Spec) -> str:
    """Return a number of energy.csv for a method on a network at a `place` (T, settled): mean over seeds, a dash if not run.

    Beside the columns of the file there is `neurons`, the share of the neurons in strict energy, percent.

    Raises:
        UserError: there is none.
    """
    place = results / cell["at"]
    frame = pd.read_csv(place.parent / "energy.csv")
    found = frame[(frame["model"] == place.name) & (frame["method"] == cell["method"])]
    if found.empty:
        return md.NONE
    found = found[found["at"] == cell["place"]]
    found = found[found["T"] == found["T"].max()]
    if found.empty or found["step"].isna().any():
        raise UserError(
            f'{place} has no energy of {cell["method"]} at {cell["place"]}; measure it, or take place = "T".'
        )
    if cell["energy"] == "neurons":
        return f"{100 * float((found['strict_neurons_pj'] / found['strict_pj']).mean()):.0f} %"
    mean = float(found[cell["energy"]].mean())
    return f"{mean:.0f}" if cell["energy"] == "step" else md.number(mean)


def latency(results: Path, cell: Spec) -> str:
    """Return the real step at which a method settles `within` some points of the ANN; a dash if it was not run there.

    That of the first seed, of the largest T; "> T" where it does not settle.
    """
    place = results / cell["at"]
    frame = pd.read_csv(place.parent / "latency.csv")
    mine = (frame["model"] == place.name) & (frame["method"] == cell["method"])
    found = frame[mine & (frame["seed"] == 0) & (frame["status"] == "done")]
    if found.empty:
        return md.NONE
    longest = found.loc[found["T"].idxmax()]
    step = longest[f"real_settled_{cell['within']:g}"]
    return f">\u00a0{longest['T']}" if pd.isna(step) else f"{step:.0f}"


@cache
def _record(place: Path, name: str) -> Record | None:
    """Return a method's record on a network, of the first seed: the one on most inputs, then of the largest T."""
    files = sorted(place.glob(f"{name.split()[0]}-{'[0-9a-f]' * 8}-T*-s0.json"))
    records = [record for file in files if (record := read_record(file)) and record.result]
    called = labels(records)
    known = [record for record in records if called[id(record)] == name]
    return max(known, key=lambda record: (record.inputs.tested, record.cell.steps), default=None)


@cache
def _accuracies(place: Path) -> pd.DataFrame:
    """Return the done rows of one network on most test inputs; of a method at several T those of the largest."""
    frame = pd.read_csv(place.parent / "accuracy.csv")
    frame = frame[(frame["model"] == place.name) & (frame["status"] == "done")]
    frame = frame[frame["tested"] == frame["tested"].max()]
    return frame[frame["T"] == frame.groupby(["method", "seed"])["T"].transform("max")]


if __name__ == "__main__":
    main()
