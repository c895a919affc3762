"""The small things that calls are made of: networks, problems, data, folders. All are valid."""

from __future__ import annotations

import contextlib
import functools
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax
from PIL import Image

import fathomx as fx
import fathomx.layers
import fathomx.training
from fathomx.command_line.commands import commands

CLASSES, VOCABULARY, CONTEXT = 5, 6, 3


class World:
    """One of everything that an argument may be, made when first asked for.

    Values lie on a grid of eighths, so that every number format holds them exactly. `folder` is an
    empty folder of its own for what is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places = 0
        self.key = jax.random.key(0)
        self.keys = jax.random.split(jax.random.key(1), 2)
        rng = np.random.default_rng(0)
        self.x = rng.integers(-8, 9, (2, 4)).astype(np.float32) / 8
        self.images = rng.integers(-8, 9, (2, 4, 4, 1)).astype(np.float32) / 8
        self.labels = np.array([1, 4], np.int32)
        self.classes = np.eye(CLASSES, dtype=np.float32)[self.labels]
        self.tokens = np.array([[0, 5, 2], [3, 3, 1]], np.int32)
        self.optimizer = optax.sgd(0.125)

    def place(self, suffix: str = "") -> Path:
        """A path at which nothing is."""
        self._places += 1
        return self.folder / f"place{self._places}{suffix}"

    def empty_folder(self) -> Path:
        """A folder that holds nothing."""
        folder = self.place()
        folder.mkdir()
        return folder

    @functools.cached_property
    def network(self) -> Any:
        """Two nodes, `first` and `output`."""
        return fx.models.mlp(4, CLASSES, width=3, depth=2, key=self.key)

    @property
    def first(self) -> Any:
        """The first node of `network`."""
        return self.network.entry("first")

    @property
    def output(self) -> Any:
        """The last node of `network`."""
        return self.network.output

    @functools.cached_property
    def other(self) -> Any:
        """A network of the same form with other weights."""
        return fx.models.mlp(4, CLASSES, width=3, depth=2, key=self.keys[1])

    @functools.cached_property
    def linear(self) -> Any:
        """A network that is linear in its activities."""
        return fx.models.mlp(4, CLASSES, width=3, depth=2, activation="linear", key=self.key)

    @functools.cached_property
    def deep(self) -> Any:
        """A network with a stack, `hidden`, of two blocks."""
        return fx.models.residual_mlp(
            4, CLASSES, width=3, depth=4, parameterization=fx.MuPC(), key=self.key
        )

    @functools.cached_property
    def latent(self) -> Any:
        """A latent root and two nodes: `cause`, `hidden`, `image`."""
        return fx.Network(
            [
                fx.Root("cause", (2,)),
                fx.Node("hidden", eqx.nn.Linear(2, 3, key=self.key)),
                fx.Node("image", eqx.nn.Linear(3, 4, key=self.keys[0])),
            ]
        )

    @functools.cached_property
    def noisy(self) -> Any:
        """A network with a node that reads noise."""
        return fx.Network(
            [
                fx.Noise("noise"),
                fx.Node("hidden", eqx.nn.Linear(4, 3, key=self.key), parents="input"),
                fx.Node("output", Jittered(self.keys[0]), parents=("hidden", "noise")),
            ],
            input_shape=(4,),
        )

    @functools.cached_property
    def normalized(self) -> Any:
        """A network with batch normalization, of images."""
        return fx.models.vgg(
            5,
            width=2 / 64,
            classes=CLASSES,
            image_shape=(16, 16, 1),
            normalization="batch",
            key=self.key,
        )

    @functools.cached_property
    def pictures(self) -> np.ndarray:
        """Images for `normalized`."""
        return np.tile(self.images, (1, 4, 4, 1))

    @functools.cached_property
    def bidirectional(self) -> Any:
        """A network with a feedback, `back`, from `output` to `first`."""
        return fx.Network(
            self.network.entries,
            feedbacks=[self.feedback],
        )

    @functools.cached_property
    def feedback(self) -> Any:
        """A feedback from `output` to `first`."""
        layer = eqx.nn.Linear(CLASSES, 3, key=self.keys[1])
        return fx.Feedback("back", "first", layer, parents=("output",))

    @functools.cached_property
    def transformer(self) -> Any:
        """A network of tokens."""
        return fx.models.transformer(VOCABULARY, CONTEXT, width=4, depth=1, heads=2, key=self.key)

    @functools.cached_property
    def problem(self) -> Any:
        """Input and output of `network` clamped."""
        return fx.Problem(self.network, self.x, self.labels)

    @functools.cached_property
    def linear_problem(self) -> Any:
        """The same of `linear`."""
        return fx.Problem(self.linear, self.x, self.labels)

    @functools.cached_property
    def deep_problem(self) -> Any:
        """The same of `deep`."""
        return fx.Problem(self.deep, self.x, self.labels)

    @functools.cached_property
    def single_problem(self) -> Any:
        """The first example of `linear_problem`."""
        return fx.Problem(self.linear, self.x[:1], self.labels[:1])

    @functools.cached_property
    def latent_problem(self) -> Any:
        """The image of `latent` clamped."""
        return fx.Problem(self.latent, {"image": self.x})

    @functools.cached_property
    def solver(self) -> Any:
        """The usual solver."""
        return fx.GaussNewton()

    @functools.cached_property
    def descent(self) -> Any:
        """State descent in few steps."""
        return fx.StateDescent(self.optimizer, steps=3)

    @functools.cached_property
    def rule(self) -> Any:
        """The usual rule."""
        return fx.Equilibrium()

    @functools.cached_property
    def relaxed(self) -> Any:
        """The relaxation of `problem`."""
        return fx.infer(self.problem, self.solver)

    @functools.cached_property
    def single_relaxed(self) -> Any:
        """The relaxation of `single_problem`."""
        return fx.infer(self.single_problem, self.solver)

    @functools.cached_property
    def gradient(self) -> Any:
        """The update of `rule` on `problem`."""
        return self.rule.gradient(self.problem, self.key)[0]

    @functools.cached_property
    def learner(self) -> Any:
        """`rule` and `optimizer`."""
        return fx.Learner(self.rule, self.optimizer)

    @functools.cached_property
    def optimizer_state(self) -> Any:
        """The optimizer's state of `network`."""
        return self.learner.begin(self.network)

    @functools.cached_property
    def loss(self) -> Any:
        """A landscape."""
        return fx.theory.Loss(self.x, self.labels)

    @functools.cached_property
    def part(self) -> Any:
        """Eight examples of vectors."""
        return fx.data.Part(np.tile(self.x, (4, 1)), np.tile(self.labels, 4))

    @functools.cached_property
    def data(self) -> Any:
        """A data set that fits `network`."""
        return fx.data.Dataset("toy", *3 * [self.part], classes=CLASSES, image_shape=(2, 2))

    @functools.cached_property
    def named_data(self) -> Any:
        """A data set of arrays by name, that fits `latent`."""
        return fx.data.Dataset("named", *3 * [{"image": self.part.inputs}])

    @functools.cached_property
    def book(self) -> Path:
        """A text file."""
        path = self.folder / "book.txt"
        path.write_text("abcdef" * 40, encoding="utf-8")
        return path

    @functools.cached_property
    def subwords(self) -> Path:
        """A tokenizer in a file."""
        path = self.folder / "tokenizer.json"
        learned = fx.data.Subwords.learned("to be, or not to be, to be", 258)
        path.write_text(learned.json, encoding="utf-8")
        return path

    @functools.cached_property
    def idx(self) -> Path:
        """A file of images as MNIST has them: one of two by two pixels."""
        path = self.folder / "images.idx"
        path.write_bytes(
            bytes([0, 0, 8, 3, *(0, 0, 0, 1), *(0, 0, 0, 2), *(0, 0, 0, 2), 1, 2, 3, 4])
        )
        return path

    @functools.cached_property
    def photographs(self) -> Path:
        """A folder of images of two classes, of two by two pixels."""
        folder = self.folder / "photographs"
        for kind, shade in (("dark", 16), ("light", 208)):
            (folder / kind).mkdir(parents=True)
            for number in range(2):
                rows = np.full((2, 2), shade + number, np.uint8)
                Image.fromarray(rows).save(folder / kind / f"{number}.png")
        return folder

    @functools.cached_property
    def photographs_in_parts(self) -> Path:
        """Those photographs as ImageNet has them, the same to train on and to test."""
        folder = self.folder / "photographs in parts"
        for part in ("train", "val"):
            shutil.copytree(self.photographs, folder / part)
        return folder

    @functools.cached_property
    def text(self) -> Any:
        """A data set of tokens, that fits `transformer`."""
        return fx.data.text(self.book, CONTEXT)

    @functools.cached_property
    def state(self) -> Any:
        """The state of a run before its first step."""
        return fathomx.training.TrainingState.begun(self.network, self.optimizer_state, self.key)

    @functools.cached_property
    def plan(self) -> Any:
        """The size of a run."""
        return fathomx.training.Plan(1, 2, 2, self.network.labels)

    @functools.cached_property
    def run(self) -> Path:
        """The folder of a run that has ended."""
        return self._told("run", "train", "--epochs", "1", "--take", "32")

    @functools.cached_property
    def diagnosis(self) -> Path:
        """The folder of a diagnosis."""
        return self._told("diagnosis", "diagnose")

    @functools.cached_property
    def evaluation(self) -> Path:
        """The folder of an evaluation."""
        folder = self.folder / "evaluation"
        with quiet():
            commands.main(["evaluate", str(self.run), "--out", str(folder)], standalone_mode=False)
        return folder

    @functools.cached_property
    def file(self) -> Path:
        """A file that holds nothing useful."""
        path = self.folder / "file.txt"
        path.write_text("nothing\n", encoding="utf-8")
        return path

    def _told(self, name: str, *command: str) -> Path:
        folder = self.folder / name
        sizes = ("--depth", "2", "--width", "3", "--batch-size", "8")
        with quiet():
            commands.main(
                [*command, "--data", "digits", *sizes, "--out", str(folder)], standalone_mode=False
            )
        return folder


class Jittered(eqx.Module):
    """A linear map that adds noise where it gets a key."""

    linear: eqx.nn.Linear

    def __init__(self, key: Any) -> None:
        self.linear = eqx.nn.Linear(3, CLASSES, key=key)

    def __call__(self, activity: Any, key: Any) -> Any:
        predicted = self.linear(activity)
        return predicted if key is None else predicted + jax.random.normal(key, predicted.shape)


def on_grid(entries: Any) -> dict[str, np.ndarray]:
    """Entries rounded to eighths, which every number format holds exactly."""
    return {name: np.round(8 * np.asarray(entry)) / 8 for name, entry in entries.items()}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what is printed out of the campaign's own output."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
