"""`fathomx seeds` and `fathomx sweep`: what is trained, what is told, and what is refused."""

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
import scipy.stats
import sqlalchemy
import sqlalchemy.orm

from fathomx.command_line.job import Job
from fathomx.command_line.session import command
from fathomx.command_line.storage import kept_in, opened
from fathomx.command_line.varied import Range, Values, varied

SMALL = ("--width", "4", "--take", "60", "--batch-size", "20", "--epochs", "1")
BACKPROP = (*SMALL, "--learning", "backprop")


def held(path):
    return json.loads(path.read_text())


# What is varied


def test_values_and_ranges():
    assert varied("depth=8, 16", ranges=True) == Values("depth", (8, 16))
    assert varied("--learning=equilibrium,backprop", ranges=True).values[1] == "backprop"
    assert varied("bias=true,false", ranges=True) == Values("bias", (True, False))
    assert varied("learning-rate=0.01..1:log", ranges=True) == Range("learning_rate", 0.01, 1, True)
    assert varied("learning_rate=0..1", ranges=True) == Range("learning_rate", 0.0, 1.0, False)
    assert varied("depth=2..8", ranges=True) == Range("depth", 2, 8, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("depth", ["'depth'", "--vary depth=8,16"]),
        ("dpeth=8", ["'dpeth'", "'depth'"]),
        ("depth=8,many", ["depth", "'many'"]),
        ("depth=8,8", ["'depth=8,8'", "twice"]),
        ("depth=8..2", ["'depth=8..2'", "the lower one first"]),
        ("learning-rate=0..1:log", ["above 0"]),
        ("learning-rate=0.1..1:lin", ["'lin'", "':log'"]),
        ("learning=backprop..equilibrium", ["learning takes names"]),
    ],
)
def test_what_cannot_be_varied(text, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        varied(text, ranges=True)
    assert all(word in str(caught.value) for word in words), caught.value


def test_seeds_list_their_methods():
    with pytest.raises(ValueError, match=r"is a range; list the values"):
        varied("depth=2..8", ranges=False)


# Seeds


def test_seeds(run, tmp_path):
    code, out, err = run(
        "seeds", "--count", 3, "--vary", "depth=2,3", *BACKPROP, "--seed", 7, "--out", "out"
    )
    assert (code, err) == (0, "")
    folder = tmp_path / "out"
    scores = [
        [
            held(folder / f"{at}-depth={depth}" / f"seed-{seed}" / "summary.json")
            for seed in (7, 8, 9)
        ]
        for at, depth in ((1, 2), (2, 3))
    ]
    found = held(folder / "seeds.json")
    for method, summaries, depth in zip(found.values(), scores, (2, 3), strict=True):
        assert {s["depth"] for s in summaries} == {depth}
        losses = [summary["test_loss"] for summary in summaries]
        assert list(method["scores"]["test_loss"].values()) == losses
    first, second = ([s["test_loss"] for s in each] for each in scores)
    told = found["depth=3"]["differences"]["test_loss"]
    np.testing.assert_allclose(told["mean"], np.mean(second) - np.mean(first), rtol=1e-12)
    interval = scipy.stats.ttest_rel(second, first).confidence_interval(0.95)
    np.testing.assert_allclose([told["low"], told["high"]], interval, rtol=1e-9)
    assert "depth=3 less depth=2" in out and "sign-flip" in out
    page = (folder / "index.html").read_text()
    assert "2 methods, 3 seeds" in page and (folder / "runs.html").is_file()
    # What is there is not trained again; what is lost is.
    lost = folder / "2-depth=3" / "seed-8"
    before = {p: p.stat().st_mtime_ns for p in folder.glob("*/*/summary.json")}
    (lost / "summary.json").unlink()
    code, _, err = run("seeds", "--resume", "out")
    assert (code, err) == (0, "")
    after = {p: p.stat().st_mtime_ns for p in folder.glob("*/*/summary.json")}
    assert [p.parent for p in after if after[p] != before[p]] == [lost]
    assert held(folder / "seeds.json") == found


def test_seeds_trained_together_are_those_trained_in_turn(run, tmp_path):
    options = ("--count", 3, "--vary", "depth=2,3", *BACKPROP)
    for out in ("turn", "together"):
        more = ["--together"] if out == "together" else []
        code, said, err = run("seeds", *options, "--out", out, *more)
        assert (code, err) == (0, "")
    assert "depth=3, seed 0 and 2 more are trained together" in said
    one, other = (held(tmp_path / out / "seeds.json") for out in ("turn", "together"))
    assert one.keys() == other.keys()
    for name in one:
        for score, by_seed in one[name]["scores"].items():
            found = [other[name]["scores"][score][seed] for seed in by_seed]
            np.testing.assert_allclose(found, list(by_seed.values()), rtol=1e-4)
    runs = sorted((tmp_path / "together").glob("*/seed-*"))
    assert all((place / "index.html").is_file() for place in runs) and len(runs) == 6
    assert {held(place / "summary.json")["together"] for place in runs} == {3}


@pytest.mark.parametrize("together", [[], ["--together"]])
def test_a_seed_that_diverges_is_named_and_left_out(run, tmp_path, together):
    options = ("--count", 2, "--vary", "learning-rate=0.1,1e30", "--optimizer", "sgd")
    code, out, _ = run("seeds", *options, *BACKPROP, "--out", "out", *together)
    assert code == 0
    assert "learning_rate=1e+30, seed 0: " in out and "no longer finite" in out
    found = held(tmp_path / "out/seeds.json")
    assert found["learning_rate=0.1"]["scores"]["test_loss"].keys() == {"0", "1"}
    assert "test_loss" not in found.get("learning_rate=1e+30", {"scores": {}})["scores"]


def test_seeds_are_beside_backprop_unless_told_otherwise(run, tmp_path):
    code, out, err = run(
        "seeds", "--count", 1, "--depth", 2, *SMALL, "--strength", 0.2, "--out", "out"
    )
    assert (code, err) == (0, "")
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folders == ["1-equilibrium", "2-backprop", "figures"]
    assert held(tmp_path / "out/1-equilibrium/seed-0/config.json")["strength"] == 0.2
    assert "backprop less equilibrium" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--vary", "depth=2..4"], ["is a range"]),
        (["--vary", "seed=1,2"], ["several seeds anyway", "--count"]),
        (["--vary", "depth=2,0"], ["depth must be at least 1"]),
        (["--vary", "depth=2,3", "--depth", "4"], ["depth is varied and given"]),
        (["--learning", "backprop"], ["leave out --learning"]),
        (["--resume", "none"], ["none holds no seeds"]),
        (["--resume", "none", "--depth", "2"], ["leave out the rest"]),
    ],
)
def test_seeds_that_cannot_be(run, tmp_path, options, words):
    code, out, err = run("seeds", *options)
    assert code == 1 and out == "" and len(err.strip().splitlines()) == 1
    assert all(word in err for word in words), err
    assert list(tmp_path.iterdir()) == []


# Sweeps


def begun(run, *options, trials=2):
    vary = ("--vary", "learning-rate=0.01..0.1:log", "--vary", "depth=2,3")
    return run("sweep", *vary, "--trials", trials, *BACKPROP, *options, "--out", "out")


def study_of(folder):
    return optuna.load_study(study_name="fathomx", storage=f"sqlite:///{folder / 'sweep.db'}")


def test_a_sweep(run, tmp_path):
    code, out, err = begun(run, trials=3)
    assert (code, err) == (0, "")
    folder = tmp_path / "out"
    trials = study_of(folder).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    for trial in trials:
        place = folder / f"trial-{trial.number:04d}"
        summary, config = held(place / "summary.json"), held(place / "config.json")
        assert trial.value == summary["validation_accuracy"]
        assert {name: config[name] for name in trial.params} == trial.params
        # Nothing is chosen by the test part.
        assert summary.get("test_accuracy") is None and summary.get("test_loss") is None
    best = max(trials, key=lambda trial: trial.value)
    assert f"best: trial-{best.number:04d}" in out and "3 trials: 3 complete" in out
    assert f"--learning-rate {best.params['learning_rate']}" in out
    page = (folder / "index.html").read_text()
    assert "over_learning_rate.png" in page and "over_depth.png" in page
    # Nothing is left to do, and it is said again.
    before = {p: p.stat().st_mtime_ns for p in folder.glob("*/summary.json")}
    code, again, err = run("sweep", "--resume", "out")
    assert (code, err) == (0, "") and "3 trials: 3 complete" in again
    assert {p: p.stat().st_mtime_ns for p in folder.glob("*/summary.json")} == before


def test_a_trial_that_a_killed_worker_left_is_gone_on_with(run, tmp_path):
    """Asked for, with some of its options or all, and not begun; and one whose folder is there."""
    code, _, _ = begun(run, trials=1)
    assert code == 0
    left = study_of(tmp_path / "out").ask()
    rate = left.suggest_float("learning_rate", 0.01, 0.1, log=True)
    code, out, err = run("sweep", "--resume", "out", "--trials", 3)
    assert (code, err) == (0, "") and "3 trials: 3 complete" in out
    assert held(tmp_path / "out" / "sweep.json")["trials"] == 3
    trials = study_of(tmp_path / "out").trials
    assert len(trials) == 3 and trials[1].params["learning_rate"] == rate
    assert held(tmp_path / "out" / "trial-0001" / "config.json")["learning_rate"] == rate


def test_a_trial_goes_on_as_it_was_begun(run, tmp_path):
    """With the settings of its folder, whatever those that were not given would be today."""
    code, _, _ = begun(run, trials=1)
    assert code == 0
    folder = tmp_path / "out"
    left = study_of(folder).ask()
    rate = left.suggest_float("learning_rate", 0.01, 0.1, log=True)
    depth = left.suggest_categorical("depth", [2, 3])
    config = held(folder / "trial-0000" / "config.json")
    config |= {"learning_rate": rate, "depth": depth, "batch_size": 10}
    config["command"] = command(Job.from_config(config))
    (folder / "trial-0001").mkdir()
    (folder / "trial-0001" / "config.json").write_text(json.dumps(config))
    code, out, err = run("sweep", "--resume", "out", "--trials", 2)
    assert (code, err) == (0, "") and "trial-0001: gone on with" in out
    assert held(folder / "trial-0001" / "config.json") == config
    first, second = (held(folder / f"trial-000{n}" / "summary.json") for n in (0, 1))
    for number, steps in enumerate((3, 6)):
        lines = (folder / f"trial-000{number}" / "metrics.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["steps"] == steps
    best = max((0, 1), key=lambda n: (first, second)[n]["validation_accuracy"])
    said = held(folder / f"trial-000{best}" / "config.json")["command"]
    assert f"train with it, and score it: {said}\n" in out
    # Also where the folder is gone.
    shutil.rmtree(folder / f"trial-000{best}")
    code, out, err = run("sweep", "--resume", "out")
    assert (code, err) == (0, "") and "train with it, and score it: fathomx train --" in out


def test_trials_that_diverge_fail(run, tmp_path):
    code, out, _ = run(
        *("sweep", "--vary", "learning-rate=1e30,2e30", "--trials", "1", *BACKPROP),
        *("--optimizer", "sgd", "--depth", "3", "--out", "out"),
    )
    assert code == 0 and "1 trials: 1 fail" in out and "no trial has ended with a score" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["--vary learning-rate=0.01..1:log"]),
        (["--vary", "depth=2,0"], ["depth must be at least 1"]),
        (["--vary", "depth=2,3", "--vary", "depth=4,5"], ["varied twice"]),
        (["--vary", "depth=2,3", "--metric", "acuracy"], ["'acuracy'", "'accuracy'"]),
        (["--vary", "depth=2,3", "--storage", "nowhere://x"], ["nowhere://x", "cannot be reached"]),
        (["--resume", "none"], ["none holds no sweep"]),
        (["--resume", "none", "--depth", "2"], ["leave out the rest"]),
    ],
)
def test_sweeps_that_cannot_be(run, tmp_path, options, words):
    code, out, err = run("sweep", *options)
    assert code == 1 and out == "" and len(err.strip().splitlines()) == 1
    assert all(word in err for word in words), err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_twelve_trials_by_two_workers_of_which_one_is_killed(tmp_path):
    """All trials are accounted for, none is trained twice."""
    program = [sys.executable, "-m", "fathomx", "sweep"]
    options = ("--vary", "learning-rate=0.05..1:log", "--vary", "depth=2,4", "--trials", "12")
    quiet = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "env": {**os.environ}}
    first = subprocess.Popen([*program, *options, *SMALL, "--epochs", "3", "--out", "out"], **quiet)
    folder = tmp_path / "out"
    while not (folder / "trial-0000").exists():
        time.sleep(0.1)
    second = subprocess.Popen([*program, "--resume", "out"], **quiet)
    while not (folder / "trial-0003").exists():
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    third = subprocess.Popen([*program, "--resume", "out"], **quiet)
    assert (second.wait(), third.wait()) == (0, 0)
    trials = study_of(folder).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 12
    assert len(list(folder.glob("trial-*/summary.json"))) == 12
    for place in folder.glob("trial-*"):
        records = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        assert [r["epoch"] for r in records if r["kind"] == "epoch"] == [1, 2, 3]
        steps = [(r["epoch"], r["step"]) for r in records if r["kind"] == "steps"]
        assert len(steps) == len(set(steps))


# Databases


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A PostgreSQL server whose user has a password; `None` where its programs are not found."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (str(found[-1]) if found else None)
    # The server refuses to run as root.
    owner = {}
    if os.getuid() == 0:
        with contextlib.suppress(KeyError):
            owner = {"user": pwd.getpwnam("nobody").pw_uid}
    if initdb is None or (os.getuid() == 0 and not owner):
        yield None
        return
    # Not below the folder of the tests, which only their user may enter.
    with tempfile.TemporaryDirectory(prefix="fathomx-") as folder:
        os.chmod(folder, 0o755)
        (Path(folder) / "password").write_text("right")
        if owner:
            os.chown(folder, owner["user"], -1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder, **owner}
        data, control = f"{folder}/data", str(Path(initdb).with_name("pg_ctl"))
        made = ("--username", "sweeps", "--auth", "scram-sha-256", "--pwfile", f"{folder}/password")
        subprocess.run([initdb, "-D", data, "--no-sync", *made], **quiet)
        options = f"-p {port} -k {folder} -h 127.0.0.1 -F"
        log = f"{folder}/log"
        subprocess.run([control, "-D", data, "-l", log, "-w", "-o", options, "start"], **quiet)
        yield f"127.0.0.1:{port}/postgres"
        subprocess.run([control, "-D", data, "-m", "immediate", "stop"], **quiet)


@pytest.fixture
def database(server, tmp_path):
    """The address of a database with a server, or else of a file."""
    if server is None:
        return f"sqlite:///{tmp_path / 'trials.db'}"
    return f"postgresql://sweeps:right@{server}"


def needs(server):
    if server is None:
        pytest.skip("no PostgreSQL on this machine")


def test_two_processes_share_the_trials_in_a_database(run, tmp_path, database):
    """One of which nobody is told that its worker was killed; none is trained twice."""
    code, out, err = begun(
        run, "--storage", database, "--study", "shared", "--workers", 0, trials=3
    )
    assert (code, err) == (0, "") and "fathomx sweep --resume out" in out
    folder = tmp_path / "out"
    study = optuna.load_study(study_name="shared", storage=opened(database))
    assert not study.trials
    study.ask().suggest_float("learning_rate", 0.01, 0.1, log=True)
    program = [sys.executable, "-m", "fathomx", "sweep", "--resume", "out"]
    with (tmp_path / "log").open("w") as log:
        other = subprocess.Popen(program, cwd=tmp_path, stdout=log, stderr=log)
    # From now on both take trials.
    while not (folder / "trial-0000").exists():
        assert other.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.05)
    code, out, err = run("sweep", "--resume", "out")
    assert (code, err, other.wait()) == (0, "", 0)
    trials = study.get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    assert [place.name for place in sorted(folder.glob("trial-*"))] == [
        f"trial-{number:04d}" for number in range(3)
    ]
    taken = [*out.splitlines(), *(tmp_path / "log").read_text().splitlines()]
    began = [
        line.partition(":")[0] for line in taken if re.match(r"trial-\d+: .*learning_rate", line)
    ]
    assert sorted(began) == [f"trial-{number:04d}" for number in range(3)]
    for trial in trials:
        place = folder / f"trial-{trial.number:04d}"
        assert trial.value == held(place / "summary.json")["validation_accuracy"]
        assert held(place / "config.json")["learning_rate"] == trial.params["learning_rate"]


def test_a_study_of_another_search_is_left_alone(run, tmp_path, database):
    to = ("--storage", database, "--study", "taken", "--workers", 0)
    assert begun(run, *to)[0] == 0
    # Nothing is said of the password.
    shown = database.replace(":right@", ":***@")
    code, out, err = run("sweep", "--vary", "depth=2,4", *BACKPROP, *to, "--out", "other")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "--vary learning-rate=0.01..0.1:log --vary depth=2,3" in err and repr(shown) in err
    # The same one, whose folder has trials.
    optuna.load_study(study_name="taken", storage=opened(database)).ask()
    code, _, err = run(
        *("sweep", "--vary", "learning-rate=0.01..0.1:log", "--vary", "depth=2,3", *BACKPROP),
        *(*to, "--out", "other"),
    )
    assert code == 1 and "holds a study 'taken' already, of the same search" in err
    # Its own folder, changed or without its study.
    path = tmp_path / "out" / "sweep.json"
    whole = held(path)
    for change, words in (({"vary": ["depth=2,4"]}, "not that of out but of another search"),
                          ({"named": "lost"}, "holds no study 'lost'")):  # fmt: skip
        path.write_text(json.dumps({**whole, **change}))
        code, _, err = run("sweep", "--resume", "out")
        assert (code, len(err.splitlines())) == (1, 1) and words in err, err
    assert not (tmp_path / "other").exists()


def test_servers_that_do_not_let_in(server):
    needs(server)
    for address, words in (
        (f"postgresql://sweeps:wrong@{server}", ["password authentication failed", "~/.pgpass"]),
        (f"postgres://sweeps:right@{server}s", ["does not exist", "createdb"]),
        ("postgresql://sweeps:wrong@127.0.0.1:1/x", ["Connection refused", "the server runs"]),
    ):
        with pytest.raises(ValueError, match="cannot be reached") as caught:
            opened(address)
        said = str(caught.value)
        assert all(word in said for word in words) and "\n" not in said, said
        assert "wrong" not in said and ":***@" in said


def test_a_server_that_goes_away(server):
    needs(server)
    address = f"postgresql://sweeps:right@{server}"
    study = optuna.create_study(storage=opened(address), study_name="cut off")
    # Its port is another's, from now on.
    engine = sqlalchemy.create_engine("postgresql+psycopg://sweeps:right@127.0.0.1:1/postgres")
    sessions = sqlalchemy.orm.scoped_session(sqlalchemy.orm.sessionmaker(bind=engine))
    study._storage._backend.scoped_session = sessions
    with (
        pytest.raises(ConnectionError, match="fathomx sweep --resume here"),
        kept_in(address, "here"),
    ):
        study.ask()


@pytest.mark.parametrize(
    ("address", "package"),
    [
        ("postgresql://here/sweeps", r"'fathomx\[postgresql\]'"),
        ("postgresql+psycopg2://here/sweeps", "psycopg2-binary"),
        ("mysql://here/sweeps", "mysqlclient"),
    ],
)
def test_a_storage_without_its_driver_names_it(monkeypatch, address, package):
    def missing(*_, **__):
        raise ImportError("Failed to import DB access module.")

    monkeypatch.setattr(optuna.storages, "RDBStorage", missing)
    with pytest.raises(ValueError, match=f"pip install {package}"):
        opened(address)
