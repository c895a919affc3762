"""What generative networks show of themselves: reconstructions, samples, completions, walks."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from fathomx.data import Dataset, ImageStream
from fathomx.data._imagenet import Examples
from fathomx.drawing.canvas import Canvas, seen_part
from fathomx.graph.clamp import Clamp
from fathomx.graph.network import INPUT, Network
from fathomx.inference import GaussNewton, infer
from fathomx.models import with_precisions
from fathomx.problem.energies import predict
from fathomx.problem.problem import Problem
from fathomx.problem.starts import top_down
from fathomx.records.pictures import Panel, PictureRow

# Near equilibrium, as far as pictures show it.
SOLVER = GaussNewton(iterations=15, cg_iterations=10)
_IN_A_ROW = 10
# Of bidirectional networks, when they imagine.
_IMAGINING = (1e-2, 1.0)
_WALK = 9
_LATENTS_FROM = 500


class Imagery(abc.ABC):
    """A way to show a kind of network."""

    @abc.abstractmethod
    def generated(
        self, network: Network, canvas: Canvas, count: int, key: PRNGKeyArray
    ) -> list[Panel]:
        """What the network makes of nothing, or of labels alone."""

    @abc.abstractmethod
    def completed(self, network: Network, input: Array, seen: Array) -> tuple[Array, list[str]]:
        """Whole images from what is seen of them, and what to say of each."""

    @abc.abstractmethod
    def panels(self, network: Network, data: Dataset, key: PRNGKeyArray) -> list[Panel]:
        """What the page of a run shows."""

    def completion(
        self, network: Network, canvas: Canvas, input: np.ndarray, seen: np.ndarray
    ) -> Panel:
        """A panel of images, what is given of them, and how the network completes them."""
        flat = jnp.asarray(seen).reshape(input.shape[1:])
        found, labels = self.completed(network, jnp.asarray(input), flat)
        whole = canvas(input)
        given = np.where(seen, whole, 0.5)
        rows = [
            PictureRow("image", whole),
            PictureRow("given", given),
            PictureRow("completed", canvas(found), tuple(labels)),
        ]
        return Panel("completions", "Validation images, the part that is given, and all of it as "
                     "the network completes it.", rows)  # fmt: skip


class OfLatents(Imagery):
    """Of a decoder: pictures from the latent that explains them, or from one that is drawn."""

    def generated(
        self, network: Network, canvas: Canvas, count: int, key: PRNGKeyArray
    ) -> list[Panel]:
        drawn = jax.random.normal(key, (count, *network.roots[0].shape), network.dtype)
        pictures = canvas(pictured(network, {network.roots[0].name: drawn}))
        rows = [
            PictureRow("samples" if not begin else "", pictures[begin : begin + _IN_A_ROW])
            for begin in range(0, count, _IN_A_ROW)
        ]
        caption = "Predictions from latents that are drawn from their prior."
        return [Panel("samples", caption, rows)]

    def completed(self, network: Network, input: Array, seen: Array) -> tuple[Array, list[str]]:
        name = network.output.name
        return _relaxed(Problem(network, {name: Clamp(input, seen)}))[name], []

    def panels(self, network: Network, data: Dataset, key: PRNGKeyArray) -> list[Panel]:
        canvas, few = canvas_of(data), data.validation.inputs[:_IN_A_ROW]
        found = pictured(network, latents(network, jnp.asarray(few)))
        reconstructed = Panel(
            "reconstructions",
            "Validation images, and what the decoder predicts from the latent that explains them.",
            [PictureRow("image", canvas(few)), PictureRow("reconstruction", canvas(found))],
        )
        completion = self.completion(network, canvas, few, seen_part("upper", 0.5, canvas.shape, 0))
        samples = self.generated(network, canvas, 3 * _IN_A_ROW, key)
        return [reconstructed, *samples, completion, self._walk(network, data, canvas)]

    def _walk(self, network: Network, data: Dataset, canvas: Canvas) -> Panel:
        """Along the two directions in which the latents of images differ most."""
        root = network.roots[0]
        many = jnp.asarray(data.validation.inputs[:_LATENTS_FROM])
        found = np.asarray(latents(network, many)[root.name], float).reshape(len(many), -1)
        mean = found.mean(axis=0)
        _, size, directions = np.linalg.svd(found - mean, full_matrices=False)
        spread = size / np.sqrt(max(1, len(found) - 1))
        second = min(1, len(directions) - 1)
        steps = np.linspace(-2, 2, _WALK)
        rows = []
        for down in steps:
            z = mean + steps[:, None] * spread[0] * directions[0]
            z = z + (down * spread[second] * directions[second] if second else 0)
            shown = pictured(network, {root.name: jnp.asarray(z).reshape(-1, *root.shape)})
            rows.append(PictureRow(f"{down:+.1f}", canvas(shown)))
            if not second:
                break
        return Panel(
            "walk",
            "A walk through the two directions in which the latents of images differ most, up to "
            "two standard deviations.",
            rows,
        )


class OfLabels(Imagery):
    """Of a bidirectional network: pictures of every class, classes of what is seen in part."""

    def generated(
        self, network: Network, canvas: Canvas, count: int, key: PRNGKeyArray
    ) -> list[Panel]:
        classes = network.output_shape[0]
        labels = jnp.eye(classes, dtype=network.dtype)[jnp.arange(min(count, classes))]
        start, relaxed = imagined_images(with_precisions(network, _IMAGINING), labels)
        names = tuple(map(str, range(len(labels))))
        return [
            Panel(
                "samples",
                "Images of every class, from the label alone: as the feedbacks predict them, and "
                "after all predictions of both directions have settled.",
                [
                    PictureRow("top-down", canvas(start), names),
                    PictureRow("relaxed", canvas(relaxed)),
                ],
            )
        ]

    def completed(self, network: Network, input: Array, seen: Array) -> tuple[Array, list[str]]:
        imagining = with_precisions(network, _IMAGINING)
        relaxed = _relaxed(Problem(imagining, {INPUT: Clamp(input, seen)}))
        labels = np.asarray(relaxed[network.output.name]).argmax(axis=-1)
        return relaxed[INPUT], [str(label) for label in labels]

    def panels(self, network: Network, data: Dataset, key: PRNGKeyArray) -> list[Panel]:
        canvas, few = canvas_of(data), data.validation.inputs[:_IN_A_ROW]
        completion = self.completion(network, canvas, few, seen_part("upper", 0.5, canvas.shape, 0))
        caption = completion.caption + " Above: the class that it sees."
        samples = self.generated(network, canvas, network.output_shape[0], key)
        return [*samples, completion._replace(caption=caption)]


def canvas_of(data: Examples) -> Canvas:
    """That of a data set; what is no image is shown as one row."""
    if isinstance(data, ImageStream):
        ends = np.array([0, 255])[:, None] * np.ones(data.image_shape[-1])
        return Canvas(data.image_shape, *data.preparation.scales["input"](ends))
    return Canvas.of(data.train.inputs, data.image_shape or (1, *data.input_shape))


@eqx.filter_jit
def latents(network: Network, input: Array) -> dict[str, Array]:
    """The latent that explains each image, by the name of the root."""
    problem = Problem(network, {network.output.name: input})
    root = network.roots[0].name
    return {root: infer(problem, SOLVER).activities[root]}


@eqx.filter_jit
def imagined_images(network: Network, labels: Array) -> tuple[Array, Array]:
    """Images from labels: of the top-down pass, and after inference from there."""
    problem = Problem(network, {network.output.name: labels})
    start = top_down(problem)
    return start[INPUT], infer(problem, SOLVER, at=start).activities[INPUT]


def pictured(network: Network, given: Any) -> Array:
    """What the prediction of the output stands for: of a `Bernoulli` energy, probabilities."""
    return network.output.energy.expected(predict(network, given))


def _relaxed(problem: Problem) -> Any:
    return infer(problem, SOLVER).activities
