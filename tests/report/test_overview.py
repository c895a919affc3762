"""The page of all runs: what it holds, and what a browser makes of it and of clicks."""

import json
import re
import shutil
import subprocess

import pytest

from fathomx.records.errors import RunFolderError
from fathomx.report import write_overview
from fathomx.report.overview import overview

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


def written(folder, name, config, accuracies, *, ended=True):
    """A run of as many epochs as there are accuracies."""
    place = folder / name
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps({"format": 1, **config}))
    lines = [
        {"kind": "epoch", "epoch": i + 1, "validation_accuracy": a, "train_loss": 1 / (i + 1)}
        for i, a in enumerate(accuracies)
    ]
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if ended:
        score = {"test_accuracy": accuracies[-1] - 0.01, "train_seconds": 12.5, "depth": 4}
        (place / "summary.json").write_text(json.dumps(score))
        (place / "index.html").write_text("the page")
    return place


@pytest.fixture
def runs(tmp_path):
    usual = {"model": "mlp", "data": "digits", "learning": "equilibrium", "width": 16}
    written(tmp_path, "b", {**usual, "seed": 10}, [0.5, 0.7])
    written(tmp_path, "a", {**usual, "seed": 9}, [0.4, 0.9])
    written(tmp_path, "both/backprop", {**usual, "learning": "backprop", "seed": 9}, [0.8])
    written(tmp_path, "going on", {**usual, "seed": 11}, [0.6], ended=False)
    return tmp_path


def held(page):
    found = re.search(r'<script type="application/json" id="runs">(.*?)</script>', page.read_text())
    return json.loads(found[1])


def seen(page, actions=""):
    """The page as the browser shows it, after some actions."""
    acted = page.with_name("acted.html")
    acted.write_text(page.read_text().replace("</body>", f"<script>{actions}</script></body>"))
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom", acted.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    text = done.stdout
    body = re.search(r'<tbody id="rows">(.*?)</tbody>', text, re.DOTALL)[1]
    names = re.findall(r'<th scope="row">(?:<a [^>]*>)?([^<]*)', body)
    return text, names


def test_what_it_holds(runs):
    page = write_overview(runs)
    assert page == runs / "runs.html"
    found = held(page)
    # Of the configuration: what is always told, and what differs; of the results what is there.
    assert found["columns"] == [
        *("model", "data", "learning", "seed", "test accuracy", "validation accuracy"),
        "train seconds",
    ]
    by_name = {run["name"]: run for run in found["runs"]}
    assert list(by_name) == ["a", "b", "both/backprop", "going on"]
    assert by_name["a"]["cells"] == ["mlp", "digits", "equilibrium", 9, 0.89, 0.9, 12.5]
    assert by_name["a"]["curves"] == {"validation_accuracy": [0.4, 0.9], "train_loss": [1, 0.5]}
    assert by_name["a"]["link"] == "a/index.html"
    assert by_name["both/backprop"]["link"] == "both/backprop/index.html"
    assert by_name["going on"]["link"] == ""
    assert by_name["going on"]["state"] == "(not ended, 1 epochs)"
    assert by_name["going on"]["cells"][4:6] == [None, 0.6]


@browser
def test_in_a_browser(runs):
    page = write_overview(runs)
    text, names = seen(page)
    assert names == ["a", "b", "both/backprop", "going on"]
    assert 'href="a/index.html"' in text and "4 of 4 runs" in text
    curves = re.search(r'<svg id="curves".*?</svg>', text, re.DOTALL)[0]
    assert curves.count("<path") == 4
    column = "document.querySelectorAll('#heads button')[4].click();"  # The seed.
    assert seen(page, column)[1] == ["a", "both/backprop", "b", "going on"]
    assert seen(page, 2 * column)[1] == ["going on", "b", "a", "both/backprop"]
    typed = "const f = document.getElementById('filter'); f.value = {!r};"
    typed += "f.dispatchEvent(new Event('input'));"
    assert seen(page, typed.format("seed=9"))[1] == ["a", "both/backprop"]
    assert seen(page, typed.format("backprop digits"))[1] == ["both/backprop"]
    text, names = seen(page, typed.format("nothing like this"))
    assert names == [] and "0 of 4 runs" in text and "No run that is ticked" in text
    tick = "document.querySelector('#rows input').click();"
    text, _ = seen(page, tick)
    assert re.search(r'<svg id="curves".*?</svg>', text, re.DOTALL)[0].count("<path") == 3


@browser
def test_names_are_no_markup(tmp_path):
    name = "<img src=x onerror=document.title=1> & </script>".replace("/", "")
    written(tmp_path, name, {"model": "</script><b>"}, [0.5])
    text, names = seen(write_overview(tmp_path))
    assert len(names) == 1 and "<img" not in text.split("<body>")[1]
    assert "&lt;img" in names[0]


@browser
def test_two_hundred_runs(tmp_path):
    for number in range(200):
        written(tmp_path, f"run-{number}", {"model": "mlp", "seed": number}, [number / 200])
    text, names = seen(write_overview(tmp_path))
    # As people count: run-2 before run-10.
    assert names == [f"run-{number}" for number in range(200)]
    assert "200 of 200 runs" in text


def test_what_is_damaged_is_said(runs):
    (runs / "a" / "summary.json").write_text("{")
    page = write_overview(runs)
    assert [run["name"] for run in held(page)["runs"]] == ["b", "both/backprop", "going on"]
    assert "a is left out: " in page.read_text() and "summary.json" in page.read_text()
    (told,) = overview(runs)[1]
    assert told.startswith("a is left out: ")
    with pytest.raises(RunFolderError, match="is a run itself, with a page of its own"):
        write_overview(runs / "b")


def test_folders_without_runs(tmp_path):
    with pytest.raises(RunFolderError, match=r"there is no run in .* or below it; give a folder"):
        write_overview(tmp_path)
    with pytest.raises(RunFolderError, match=r"none is no folder; give one that holds runs"):
        write_overview(tmp_path / "none")
    # Neither a diagnosis nor an experiment is a run.
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "config.json").write_text("{}")
    with pytest.raises(RunFolderError, match="there is no run in"):
        write_overview(tmp_path)
    assert not (tmp_path / "runs.html").exists()


def test_from_the_command_line(runs, monkeypatch, capsys):
    from click.testing import CliRunner

    from fathomx.command_line.report import report

    done = CliRunner().invoke(report, [str(runs)])
    assert done.exit_code == 0 and "runs.html" in done.output
