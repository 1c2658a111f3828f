"""The page in headless Chromium: no errors, no requests; sorting, filtering, pointing, downloading; and its size."""

import csv
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from benchmarks.records import write
from benchmarks.report import report_all
from tests.making import make_record, many_records

LIMIT = 5_000_000
CHROME = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(not (CHROME and DRIVER), reason="Chromium and chromedriver are not installed")


def fill(folder: Path, count: int, networks: int = 10) -> Path:
    for path, record in many_records(count, networks):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(record.text(), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a report, one cell of it failed with a hostile reason."""
    folder = fill(tmp_path_factory.mktemp("results"), 40, 4)
    bad = make_record("bro<b>ken", status="failed", reason="<script>document.title = 'hit'</script>", profile="full")
    write(bad, folder / "full" / "clouds" / "mlp" / "broken.json")
    report_all(folder)
    return folder


def test_text_from_plugins_is_escaped(results: Path):
    page = (results / "index.html").read_text(encoding="utf-8")
    assert "<script>document" not in page
    assert "bro<b>ken" not in page
    assert "&lt;script&gt;document" in page
    assert "sourceMappingURL" not in page


def test_500_records_within_5_mb(tmp_path: Path):
    fill(tmp_path, 500)
    report = report_all(tmp_path)
    assert report.broken == []
    assert len(report.written) == 12
    assert (tmp_path / "index.html").stat().st_size < LIMIT
    assert len(list(tmp_path.glob("critical-difference-*.svg"))) == 6


def test_everything_is_the_same_bytes_again(tmp_path: Path, results: Path):
    shutil.copytree(results, tmp_path / "copy")
    made = [path for path in (tmp_path / "copy").rglob("*") if path.suffix in (".svg", ".md", ".csv", ".html")]
    assert len(made) > 30
    for path in made:
        path.unlink()
    report_all(tmp_path / "copy")
    for path in made:
        assert path.read_bytes() == (results / path.relative_to(tmp_path / "copy")).read_bytes(), path


class Browser:
    """A few calls of the WebDriver protocol."""

    def __init__(self, port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"
        options = {
            "binary": CHROME,
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"],
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.root += f"/session/{session['sessionId']}"

    def call(self, verb: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        try:
            with urlopen(Request(self.root + path, data, {"Content-Type": "application/json"}, method=verb)) as answer:
                return json.load(answer)["value"]
        except HTTPError as error:
            raise AssertionError(error.read().decode()[:500]) from error

    def run(self, script: str) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def log(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("POST", "/se/log", {"type": kind})
        return found

    def cdp(self, command: str, **parameters: Any) -> Any:
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def point(self, x: float, y: float) -> None:
        """Move the mouse to a place in the window."""
        move = {"type": "pointerMove", "duration": 0, "x": round(x), "y": round(y)}
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [move]}
        self.call("POST", "/actions", {"actions": [mouse]})

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        keys = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": keys}]})

    def click(self, css: str) -> None:
        """Scroll to an element, without the animation, and click it as a user does."""
        self.run(f"document.querySelector('{css}').scrollIntoView({{behavior: 'instant', block: 'center'}})")
        found = self.call("POST", "/element", {"using": "css selector", "value": css})
        self.call("POST", f"/element/{next(iter(found.values()))}/click", {})

    def column(self, place: int) -> list[str]:
        """Return the texts of the shown rows of the table of methods."""
        rows = f"[...document.querySelectorAll('{METHODS} tbody tr')].filter(row => !row.hidden)"
        found: list[str] = self.run(f"return {rows}.map(row => row.cells[{place}].textContent)")
        return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium behind chromedriver, on a port that chromedriver picks."""
    log = tmp_path_factory.mktemp("driver") / "log"
    with log.open("w") as stream:
        driver = subprocess.Popen([str(DRIVER), "--port=0"], stdout=stream, stderr=stream)
    try:
        yield Browser(_port(log))
    finally:
        driver.terminate()
        driver.wait()


def _port(log: Path) -> int:
    for _ in range(100):
        text = log.read_text()
        if "started successfully on port" in text:
            return int(text.split("started successfully on port")[1].split(".")[0])
        time.sleep(0.1)
    raise AssertionError(f"chromedriver did not start: {log.read_text()}")


METHODS = '[data-name="full-real-methods"]'
ENTER, SPACE = "\ue007", " "


@pytest.fixture
def page(browser: Browser, results: Path) -> Iterator[Browser]:
    """The page, opened anew; afterwards nothing may stand in the console."""
    browser.log("performance")
    browser.call("POST", "/url", {"url": (results / "index.html").as_uri()})
    yield browser
    assert [entry for entry in browser.log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def numbers(texts: list[str]) -> list[float]:
    return [float(text.split()[0]) for text in texts]


@needs_browser
def test_clicks_sort_and_no_request_leaves_the_page(page: Browser, results: Path):
    assert page.call("GET", "/title") == "MSAT Bench"
    assert set(page.column(0)) == {"task-0 mlp"}
    page.click(f"{METHODS} th:nth-child(5) button")
    up = numbers(page.column(4))
    page.click(f"{METHODS} th:nth-child(5) button")
    assert up == sorted(up)
    assert numbers(page.column(4)) == up[::-1]
    links = page.run("return [...document.querySelectorAll('td a')].map(a => a.getAttribute('href'))")
    assert len(links) == 41
    assert all((results / link).is_file() for link in links)
    asked = [json.loads(entry["message"])["message"] for entry in page.log("performance")]
    sent = {m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in sent if not url.startswith("data:")} == {(results / "index.html").as_uri()}


@needs_browser
def test_the_keyboard_sorts(page: Browser):
    page.run(f"document.querySelectorAll('{METHODS} th button')[4].focus()")
    page.press(ENTER)
    up = numbers(page.column(4))
    page.press(SPACE)
    assert up == sorted(up)
    assert numbers(page.column(4)) == up[::-1]
    state = f"return document.querySelectorAll('{METHODS} th')[4].getAttribute('aria-sort')"
    assert page.run(state) == "descending"


@needs_browser
def test_filters_reach_tables_and_curves(page: Browser):
    assert page.run("return Chart.getChart(document.querySelector('#full-real canvas')).data.datasets.length") == 11
    page.click("#full-real .filter")
    for key in "MSAT":
        page.press(key)
    assert set(page.column(1)) == {"msat", "msat-sc"}
    front = "return Chart.getChart(document.querySelector('#full-real canvas')).data.datasets"
    assert page.run(f"{front}.filter(set => set.front).map(set => set.label).sort()") == ["ANN", "msat", "msat-sc"]
    page.run(
        "const s = document.querySelector('#full-real .network'); s.value = 'task-1 mlp';"
        "s.dispatchEvent(new Event('input'))"
    )
    assert set(page.column(0)) == {"task-1 mlp"}
    assert page.run(f"return document.querySelector('{METHODS} .count').textContent") == "2 of 20 rows"


@needs_browser
@pytest.mark.parametrize("axis", ["0", "2"])
def test_pointing_at_a_curve_shows_its_numbers(page: Browser, results: Path, axis: str):
    page.run(
        f"const s = document.querySelector('#full-real .axis'); s.value = '{axis}'; s.dispatchEvent(new Event('input'));"
        "document.querySelector('#full-real canvas').scrollIntoView({behavior: 'instant', block: 'center'})"
    )
    x, y, label, share, step = page.run("""
        const canvas = document.querySelector('#full-real canvas'), chart = Chart.getChart(canvas);
        const index = chart.data.datasets.findIndex(set => set.front && set.label !== 'ANN');
        const points = chart.getDatasetMeta(index).data, k = points.length - 12, box = canvas.getBoundingClientRect();
        const raw = chart.data.datasets[index].data[k];
        return [box.left + points[k].x, box.top + points[k].y, chart.data.datasets[index].label, raw.y, raw.step]""")
    page.point(x, y)
    shown = "return (c => [c.tooltip.opacity, c.tooltip.body.map(b => b.lines[0])])(Chart.getChart(document.querySelector('#full-real canvas')))"
    visible, lines = page.run(shown)
    assert visible == 1
    assert any(line.startswith(f"{label}: {share:g} % at step {step}, ") for line in lines)
    record = next(results.glob(f"full/task-0/mlp/{label}-*.json"))
    counted = json.loads(record.read_text())["result"]["correct"][step - 1]
    assert share == pytest.approx(100 * counted / 400, abs=0.01)


@needs_browser
def test_a_downloaded_table_has_what_is_shown(page: Browser, tmp_path: Path):
    page.cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.click(f"{METHODS} th:nth-child(2) button")
    page.click(f"{METHODS} .csv")
    file = tmp_path / "full-real-methods.csv"
    for _ in range(100):
        if file.is_file():
            break
        time.sleep(0.05)
    head, *rows = list(csv.reader(file.read_text(encoding="utf-8").splitlines()))
    assert head[:5] == ["Network", "Method", "records", "T", "right at T, %"]
    assert len(rows) == 10
    for place in range(len(head)):
        assert [row[place] for row in rows] == [text.strip() for text in page.column(place)]


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_in_light_and_dark_scrolls_only_tables(page: Browser, scheme: str):
    page.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.cdp("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    assert page.run("return document.documentElement.scrollWidth") == 390
    paper = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) > 384) == (scheme == "light")
    page.cdp("Emulation.clearDeviceMetricsOverride")
    page.cdp("Emulation.setEmulatedMedia", features=[])


def test_every_site_and_every_published_row_is_on_the_page(results: Path):
    text = (results / "index.html").read_text(encoding="utf-8")
    for name in ("sin", "errors", "published", "ranks-latency", "ranks-steps", "ranks-operations"):
        assert f'data-name="full-real-{name}"' in text
    assert "site 13" in text
    assert "state and event-queue accesses" in text
    assert "A [paper]" in text
    assert "not among ours" in text
    assert 'data-name="sample-sample-published"' not in text
