"""The page in headless Chromium: no errors, no requests, sorting and filtering; and everything within its time."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
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


def test_500_records_within_30_s_of_work_and_5_mb(tmp_path: Path):
    fill(tmp_path, 500)
    started = time.process_time()
    report = report_all(tmp_path)
    assert time.process_time() - started < 30
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
        with urlopen(Request(self.root + path, data, {"Content-Type": "application/json"}, method=verb)) as answer:
            return json.load(answer)["value"]

    def run(self, script: str) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def log(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("POST", "/se/log", {"type": kind})
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


@needs_browser
def test_the_page_in_a_browser(browser: Browser, results: Path):
    browser.call("POST", "/url", {"url": (results / "index.html").as_uri()})
    assert browser.call("GET", "/title") == "MSAT Bench"
    column = "return [...document.querySelectorAll('[data-name=\"full-real-methods\"] tbody tr')]" \
        ".filter(r => !r.hidden).map(r => r.cells[%d].textContent)"  # fmt: skip
    assert set(browser.run(column % 0)) == {"task-0 mlp"}
    click = "document.querySelectorAll('[data-name=\"full-real-methods\"] th button')[%d].click()"
    browser.run(click % 4)
    up = [float(text.split()[0]) for text in browser.run(column % 4)]
    browser.run(click % 4)
    down = [float(text.split()[0]) for text in browser.run(column % 4)]
    assert up == sorted(up)
    assert down == up[::-1]
    enter = (
        "const f = document.querySelector('#full-real .filter'); f.value = 'MSAT'; f.dispatchEvent(new Event('input'))"
    )
    browser.run(enter)
    assert set(browser.run(column % 1)) == {"msat", "msat-sc"}
    csv = browser.run("return csvOf(document.querySelector('[data-name=\"full-real-methods\"] table'))")
    assert len(csv.strip().split("\r\n")) == 3
    assert csv.startswith('"Network","Method"')
    drawn = browser.run("return Chart.getChart(document.querySelector('#full-real canvas')).data.datasets.length")
    assert drawn == 11
    links = browser.run("return [...document.querySelectorAll('td a')].map(a => a.getAttribute('href'))")
    assert all((results / link).is_file() for link in links)
    assert [entry for entry in browser.log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    sent = {m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in sent if not url.startswith("data:")} == {(results / "index.html").as_uri()}
