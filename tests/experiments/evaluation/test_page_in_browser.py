"""The report in a browser: it fits a phone, sorts, has a dark side, and raises no error."""

import json
import shutil
import subprocess

import pytest

from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.report import write_report

BROWSER = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")

# Runs inside the report, which stands in a frame as wide as a phone; the frame's page keeps what it says.
PROBE = """
<script>
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("load", () => {
  const table = [...document.querySelectorAll("table")].find((each) => each.querySelector("th.sorts"));
  const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const before = names(), head = table.tHead.rows[0].cells[0];
  head.click();
  const up = names();
  head.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
  const wide = [...document.querySelectorAll("body *")].filter(
    (each) => !each.closest(".wide, pre") && each.getBoundingClientRect().right > innerWidth + 1);
  parent.postMessage({
    errors, before, up, down: names(), width: innerWidth, scroll: document.documentElement.scrollWidth,
    wide: wide.map((each) => each.outerHTML.slice(0, 80)), paper: getComputedStyle(document.body).backgroundColor,
    figure: getComputedStyle(document.querySelector("figure")).backgroundColor,
    broken: [...document.images].filter((image) => !image.naturalWidth).length,
  }, "*");
});
</script>
"""
FRAME = """<!doctype html><body><iframe src="page.html" style="border:0;width:{width}px;height:900px"></iframe>
<script>
addEventListener("message", (event) => {{ document.body.textContent = JSON.stringify(event.data); }});
</script>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, screen):
    """A run with an evaluation of perturbations, and its page with the probe in it."""
    run = tmp_path_factory.mktemp("runs") / "demo" / ("a_run_with_a_long_name_" * 4)
    run.mkdir(parents=True)
    found = evaluate(
        store=screen.store, split=screen.split, statistics=screen.statistics, generated=screen.oracle, embedding=False
    )
    found.save(run / "evaluations" / "first")
    page = write_report(run, [run / "evaluations" / "first"], run / "report.html").read_text()
    (run / "page.html").write_text(page.replace("<head>", "<head>" + PROBE, 1))
    return run


def seen(folder, width: int, *, dark: bool) -> dict:
    """What the probe says of the page in a window of this width."""
    assert BROWSER is not None
    (folder / "frame.html").write_text(FRAME.format(width=width))
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=20000",
        f"--window-size={width + 60},1000",
        f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
    ]
    command = [BROWSER, *options, "--dump-dom", (folder / "frame.html").as_uri()]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    return json.loads(said[said.index("{") : said.rindex("}") + 1].replace("&lt;", "<").replace("&gt;", ">"))


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_sorts_and_raises_no_error(folder, width):
    found = seen(folder, width, dark=False)
    assert found["errors"] == [] and found["broken"] == 0
    assert found["width"] == width and found["scroll"] <= width and found["wide"] == []
    assert found["up"] == sorted(found["before"], key=str.casefold) and found["down"] == found["up"][::-1]
    assert found["paper"] == "rgb(255, 255, 255)"


def test_the_page_is_dark_where_the_reader_is(folder):
    found = seen(folder, 390, dark=True)
    assert found["paper"] == "rgb(20, 23, 28)" and found["figure"] == "rgb(28, 32, 39)"
