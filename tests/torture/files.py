"""Every file of runs and of data damaged: made again, or one line that names it and a remedy."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runs_outcome import differences, outcome, positions
from runs_world import COMPARE, FOLDER, MLP, REPRODUCE, TRANSFORMER, Ended, Job, World, Wrong
from tally import Tally

COUNT = 90
_BRACKETS = 100_000
_DATA, _NOVEL, _DIAGNOSIS = "data", "data/novel.txt", "diagnosis"
_MNIST = Job("train on mnist", MLP.words.replace("train", "train --data mnist", 1))
_OWN = Job("train on a text", f"{TRANSFORMER.words} --data {_NOVEL}")
_READS = {_MNIST: f"^{_DATA}/mnist", TRANSFORMER: f"^{_DATA}/tiny", _OWN: f"^{_NOVEL}|^{FOLDER}"}
_DIAGNOSE = ("diagnose", "--run", FOLDER, "--out", _DIAGNOSIS)
_LENGTH, _SHORT = 20_000, 800
# What nothing but a page, or nobody, reads of a run that has ended.
_UNREAD = re.compile(r"\.png$|\.html$|sample\.txt$|metrics\.jsonl$|\.lock$|checkpoints")
_REMEDIES = re.compile(
    r"\b(delete|choose|give|put|free|allow|move|check|start|install|continue|resume|wait|set|"
    r"connect|leave|use|load|nothing to do)\b"
)
# Where a damaged file is left out or replaced, and the run goes on, one of these is said.
_SAID = re.compile(r"damaged|lost|are gone")


@dataclasses.dataclass(frozen=True)
class Scene:
    """A folder in some state, and the command that reads it.

    **Fields**: `name`, the `command`, what the folder is copied from, and what it comes to if
    nothing is damaged; `reads`, a pattern of the only files that are of interest.
    """

    name: str
    command: tuple[str, ...]
    source: Path
    whole: dict[str, Any]
    reads: str = ""

    def targets(self, rng: random.Random) -> list[str]:
        """Files and folders that can be damaged; of checkpoints, a few of their many files."""
        everything = [path.relative_to(self.source) for path in sorted(self.source.rglob("*"))]
        plain = [
            path
            for path in everything
            if "checkpoints" not in path.parts[:-1] and path.as_posix() not in (FOLDER, _DATA)
        ]
        for folder in [path for path in plain if path.name == "checkpoints"]:
            for position in positions(self.source / folder):
                inner = [path for path in everything if folder / str(position) in path.parents]
                plain += [folder / str(position), *rng.sample(inner, min(3, len(inner)))]
        return [path.as_posix() for path in plain if re.search(self.reads, path.as_posix())]


Damage = Callable[[Path, Path, random.Random], None]


def _delete(path: Path, other: Path, rng: random.Random) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _holding(content: Callable[[bytes, random.Random], bytes]) -> Damage:
    """The file, or the folder, becomes a file with another content."""

    def damage(path: Path, other: Path, rng: random.Random) -> None:
        before = b"" if path.is_dir() else path.read_bytes()
        _delete(path, other, rng)
        path.write_bytes(content(before, rng))

    return damage


def _a_folder(path: Path, other: Path, rng: random.Random) -> None:
    _delete(path, other, rng)
    path.mkdir()


def _swap(path: Path, other: Path, rng: random.Random) -> None:
    spare = path.with_name("spare")
    path.rename(spare)
    other.rename(path)
    spare.rename(other)


def _unreadable(path: Path, other: Path, rng: random.Random) -> None:
    path.chmod(0)


def _turn(path: Path, other: Path, rng: random.Random) -> None:
    """Another text of the same length and the same characters."""
    path.write_text(path.read_text(encoding="utf-8")[::-1], encoding="utf-8")


def _newer(path: Path, other: Path, rng: random.Random) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "format": 99}), encoding="utf-8")


_FOR_FILES: dict[str, Damage] = {
    "deleted": _delete,
    "cut in half": _holding(lambda before, rng: before[: len(before) // 2]),
    "emptied": _holding(lambda before, rng: b""),
    "random bytes": _holding(lambda before, rng: rng.randbytes(max(1, len(before)))),
    "a number": _holding(lambda before, rng: b"7\n"),
    "a list": _holding(lambda before, rng: b"[1, 2]\n"),
    "brackets": _holding(lambda before, rng: b"[" * _BRACKETS + b"]" * _BRACKETS),
    "a folder": _a_folder,
    "swapped": _swap,
}
_FOR_FOLDERS = {name: _FOR_FILES[name] for name in ("deleted", "emptied", "a folder")}
_FOR_CONFIGURATIONS = {**_FOR_FILES, "a newer format": _newer}


def _damages(path: Path) -> dict[str, Damage]:
    """What can be done to a file or a folder."""
    if path.is_dir():
        return _FOR_FOLDERS
    found = _FOR_CONFIGURATIONS if path.name == "config.json" else _FOR_FILES
    if path.name == Path(_NOVEL).name:
        found = {**found, "another text": _turn}
    return found if os.geteuid() == 0 else {**found, "unreadable": _unreadable}


@dataclasses.dataclass(frozen=True)
class Plan:
    """A scene, a file, what is done to it, and the file that it may be swapped with."""

    scene: Scene
    file: str
    damage: str
    other: str
    seed: int

    @property
    def kind(self) -> str:
        return self.scene.name

    def __str__(self) -> str:
        swapped = f" with {self.other}" if self.damage == "swapped" else ""
        return f"{self.scene.name}, {self.file} {self.damage}{swapped}, {self.scene.command}"

    @property
    def touched(self) -> set[str]:
        """The files that are damaged."""
        return {self.file, self.other} if self.damage == "swapped" else {self.file}


def run(seed: int, count: int) -> Tally:
    with World("files", seed) as world:
        plans = _plans(_scenes(world), random.Random(f"files {seed}"), count)
        return world.attempts(plans, lambda plan, where: _attempt(world, plan, where))


def _scenes(world: World) -> list[Scene]:
    resume = tuple(MLP.continued())
    train, compare, reproduce = map(world.reference, (MLP, COMPARE, REPRODUCE))
    stopped = world.stopped(MLP, f"{FOLDER}/checkpoints/[0-9]*")
    second = world.stopped(COMPARE, f"{FOLDER}/backprop/checkpoints/[0-9]*")
    unfinished = _copy(world, train.where, "unfinished")
    (unfinished / FOLDER / "inference.json").unlink()
    begun = _copy(world, reproduce.where, "reproduction")
    min((begun / FOLDER / "rows").iterdir()).unlink()
    diagnosis = _left_by(world, _DIAGNOSE, _copy(world, train.where, "diagnosed"), _DIAGNOSIS)
    scenes = [
        Scene("a stopped run, resumed", resume, stopped, train.outcome),
        Scene("an ended run, resumed", resume, train.where, train.outcome),
        Scene("a run without inference.json, resumed", resume, unfinished, train.outcome),
        Scene("an ended run, diagnosed", _DIAGNOSE, train.where, diagnosis),
        Scene("a comparison, resumed", tuple(COMPARE.continued()), second, compare.outcome),
        Scene("a reproduction, continued", tuple(REPRODUCE.begun()), begun, reproduce.outcome),
    ]
    data = world.folder / "data-alone"
    for name in ("mnist", "tiny-shakespeare"):
        shutil.copytree(world.data / name, data / _DATA / name)
    text = (world.data / "tiny-shakespeare" / "input.txt").read_text(encoding="utf-8")
    (data / _NOVEL).write_text(text[:_LENGTH], encoding="utf-8")
    for job in (_MNIST, TRANSFORMER, _OWN):
        command = tuple(job.begun())
        whole = _left_by(world, command, _copy(world, data, job.name), FOLDER)
        scenes.append(Scene(f"data, {job.name}", command, data, whole, _READS[job]))
    started = _copy(world, data, "started")
    world.stop(_OWN, f"{FOLDER}/checkpoints/[0-9]*", started)
    scenes.append(Scene("a run on a text, resumed", resume, started, whole, _READS[_OWN]))
    return scenes


def _copy(world: World, source: Path, name: str) -> Path:
    return Path(shutil.copytree(source, world.folder / "scenes" / name))


def _left_by(world: World, command: tuple[str, ...], where: Path, folder: str) -> dict[str, Any]:
    """What a command leaves in a folder that nothing has happened to."""
    ended = world.run(command, where, **_environment(where))
    if ended.code or ended.err:
        raise Wrong(f"{command} failed: {ended}")
    return outcome(where / folder)


def _environment(where: Path) -> dict[str, str]:
    """Where an attempt has data of its own, they are used."""
    return {"FATHOMX_DATA": str(where / _DATA)} if (where / _DATA).is_dir() else {}


def _plans(scenes: list[Scene], rng: random.Random, count: int) -> list[Plan]:
    """Every file of every scene in turn, each time with another damage."""
    targets = [(scene, file) for scene in scenes for file in scene.targets(rng)]
    rng.shuffle(targets)
    damages = {}
    for scene, file in targets:
        damages[scene.name, file] = names = list(_damages(scene.source / file))
        rng.shuffle(names)
    plans = []
    for number in range(count):
        turn, place = divmod(number, len(targets))
        scene, file = targets[place]
        names = damages[scene.name, file]
        others = _others(scene, file)
        damage = names[turn % len(names)]
        plans.append(Plan(scene, file, damage, rng.choice(others), rng.randrange(2**32)))
    return plans


def _others(scene: Scene, file: str) -> list[str]:
    """The files that a file may be swapped with, of its own kind where there are others."""
    files = [path for path in sorted(scene.source.rglob("*")) if path.is_file()]
    names = [path.relative_to(scene.source).as_posix() for path in files]
    alike = [name for name in names if name != file and re.search(scene.reads, name)]
    return alike or [name for name in names if name != file]


def _attempt(world: World, plan: Plan, where: Path) -> str:
    scene = plan.scene
    shutil.copytree(scene.source, where, dirs_exist_ok=True)
    path = where / plan.file
    _damages(path)[plan.damage](path, where / plan.other, random.Random(plan.seed))
    before = _untouched(plan, where)
    ended = world.run(scene.command, where, **_environment(where))
    if ended.code not in (0, 1) or "Traceback" in ended.err:
        raise Wrong(str(ended))
    if ended.code == 1:
        ending = _judge_refusal(plan, ended)
        if worse := _worse(plan, before, where):
            raise Wrong(f"refused, but changed {worse}: {ended}")
        return ending
    if ended.err:
        raise Wrong(f"went on, but said on stderr {ended.err!r}")
    return _judge_result(plan, ended, where)


def _untouched(plan: Plan, where: Path) -> dict[str, str]:
    """What the files hold that were not damaged."""
    found = {}
    for path in where.rglob("*"):
        name = path.relative_to(where).as_posix()
        damaged = any(_overlap(name, file) for file in plan.touched)
        if path.is_file() and not damaged and path.name != ".lock":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _worse(plan: Plan, before: dict[str, str], where: Path) -> list[str]:
    """Files that were there, and are changed now to anything but what they have to be."""
    after, whole = _untouched(plan, where), plan.scene.whole
    found = {f"{FOLDER}/{name}": value for name, value in outcome(where / FOLDER).items()}
    expected = {f"{FOLDER}/{name}": value for name, value in whole.items()}
    return [
        name
        for name, content in before.items()
        if after.get(name) != content
        and not (name in after and name in found and found[name] == expected.get(name))
    ]


def _judge_refusal(plan: Plan, ended: Ended) -> str:
    """One line that names the file, or the folder that it belongs to, and what to do about it."""
    if len(ended.errors) != 1:
        raise Wrong(f"more or less than one line: {ended}")
    if "has ended already" in ended.err:
        if not _UNREAD.search(plan.file):
            raise Wrong(f"what a run that has ended lacks is not made again: {ended}")
        return "has ended, and does not read it"
    names = {
        name
        for file in plan.touched
        for name in (file, *map(str, list(Path(file).parents)[:-1]), Path(file).name)
    }
    if not any(name in ended.err for name in names):
        raise Wrong(f"names neither file nor folder: {ended}")
    if not _REMEDIES.search(ended.err):
        raise Wrong(f"has no remedy: {ended}")
    return "one line and a remedy"


def _judge_result(plan: Plan, ended: Ended, where: Path) -> str:
    """All files are there and hold what they must; if the damaged one does not, that was said."""
    diagnosed = (where / _DIAGNOSIS).exists()
    found, whole = outcome(where / (_DIAGNOSIS if diagnosed else FOLDER)), plan.scene.whole
    if plan.touched == {_NOVEL} and not (plan.scene.source / FOLDER).exists():
        # A text that is cut off is a text: what it comes to is another, but it is all there.
        whole = {name: found.get(name) for name in whole}
    wrong = differences(_without_notes(whole), _without_notes(found))
    said = _SAID.search(ended.out)
    if not wrong:
        return f"went on to the same end{', and said what is damaged' if said else ''}"
    names = [f"{FOLDER}/{text.split()[0]}" for text in wrong]
    if all(any(_overlap(name, file) for file in plan.touched) for name in names):
        if said:
            return "went on, and said what is lost"
        if all(_UNREAD.search(name) and not name.endswith("metrics.jsonl") for name in names):
            return "went on, and leaves what it does not read"
    raise Wrong(f"went on, but {'; '.join(wrong)}; stdout: {ended.out[-_SHORT:]!r}")


def _overlap(one: str, other: str) -> bool:
    """Whether two paths are the same, or one is inside the other."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _without_notes(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: kept for key, kept in value.items() if key != "notes"}
        if name.endswith("metrics.jsonl") and isinstance(value, dict)
        else value
        for name, value in found.items()
    }
