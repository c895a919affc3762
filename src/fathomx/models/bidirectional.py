"""Networks whose nodes are predicted from below and from above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from fathomx.checks import Count, Positive, gate
from fathomx.graph.energy import Gaussian
from fathomx.graph.entries import Root
from fathomx.graph.feedback import Feedback
from fathomx.graph.network import INPUT, Network
from fathomx.layers.activations import Activation, linear
from fathomx.layers.parameterization import Parameterization, Role
from fathomx.models._images import ImageMaker, is_image
from fathomx.models.mlp import Dense, Maker

_WIDTHS = {False: 256, True: 32}
# The precision of the prior relative to those of predictions: it only makes a free image
# determined.
_FLAT = 1e-3


@gate
def bidirectional(
    in_shape: Count | Sequence[Count],
    out_size: Count,
    *,
    width: Count | None = None,
    depth: Count = 3,
    activation: Activation = "gelu",
    bias: bool = True,
    precisions: tuple[Positive, Positive] = (1.0, 1.0),
    parameterization: Parameterization | None = None,
    key: PRNGKeyArray,
) -> Network:
    """A network that classifies bottom-up and generates top-down, by one energy.

        F = sum_l (a / 2) ||z_l - f_l(z_{l-1})||^2 + (b / 2) ||z_{l-1} - g_l(z_l)||^2

    Bottom-up it is `fx.models.mlp`, or a small convolutional network; every node has a feedback
    that predicts what it reads. Clamp `{"input": x, "output": y}` to train, with `y` one-hot
    vectors (or labels), the input alone to classify (`relaxed.activities["output"]`), the output
    alone to generate (`relaxed.activities["input"]`), parts of the input to complete it.
    `fx.top_down(problem)` is the start for what is generated.

    **Arguments**

    * `in_shape`: a number of values, or `(height, width, channels)` of images, whose sides are
      multiples of 4; the convolutional network halves them twice.
    * `out_size`: number of classes.
    * `width`: units of a hidden layer, 256 unless given; channels at half size, 32, for images.
    * `depth`: weight layers of one direction, at least 2, for images 3; 3 unless given.
    * `precisions`: `(a, b)`, of the bottom-up and of the top-down predictions.
    * `activation`, `bias` (on unless told otherwise), `parameterization` (`Standard()` unless
      given), `key`: as for `fx.models.mlp`.

    The input is a root with a prior of a thousandth of the smaller precision, so that it may be
    left free. The output's energy is squared error, since feedbacks read it.

    Raises `ValueError` for shapes and depths that do not fit.

    ```python
    network = fx.models.bidirectional(784, 10, precisions=(1e-2, 1.0), key=jax.random.key(0))
    problem = fx.Problem(network, {"output": jax.numpy.eye(10)})
    images = fx.infer(problem, fx.Newton(), at=fx.top_down(problem)).activities["input"]
    ```

    Source: Oliviers et al. (2025), arXiv 2505.23415.
    """
    sizes = [in_shape] if isinstance(in_shape, int) else list(in_shape)
    image = is_image("in_shape", sizes)
    width = _WIDTHS[image] if width is None else width
    choices = (width, depth, activation, bias, parameterization)
    upward, downward = jax.random.split(key)
    below, above = (Gaussian(precision) for precision in precisions)
    if image:
        of_images = ImageMaker(out_size, sizes, *choices)
        entries = of_images.down(None, upward)
        feedbacks = _of_images(of_images, above, downward)
    else:
        of_vectors = Maker((sizes[0], out_size), *choices)
        entries = of_vectors.plain(None, upward)
        feedbacks = _of_vectors(of_vectors, above, downward)
    root = Root(INPUT, sizes, energy=_flat(precisions))
    return Network([root, *(e.with_energy(below) for e in entries)], feedbacks=feedbacks)


@gate
def with_precisions(network: Network, precisions: tuple[Positive, Positive]) -> Network:
    """A bidirectional network with other precisions `(a, b)` of its two directions.

    What classifies best is not what imagines best: trained with hardly any top-down precision, a
    network classifies like one that is trained by backprop; with more of it than bottom-up, its
    images are smooth and its inference is well conditioned.

    ```python
    imagining = fx.models.with_precisions(network, (1e-2, 1.0))
    ```
    """
    below, above = (Gaussian(precision) for precision in precisions)
    parts: dict[str, Any] = {e.name: e.with_energy(below) for e in network.entries}
    parts |= {f.name: f.with_energy(above) for f in network.feedbacks}
    parts[network.roots[0].name] = network.roots[0].with_energy(_flat(precisions))
    return network.with_predictors(parts)


def _flat(precisions: tuple[float, float]) -> Gaussian:
    """The prior of the input."""
    return Gaussian(_FLAT * min(precisions))


def _of_vectors(make: Maker, energy: Gaussian, key: PRNGKeyArray) -> list[Feedback]:
    keys = jax.random.split(key, 3)
    # From above what is read is a label as it is, below it activities.
    to_input = make.dense(Role.OUTPUT, (make.width, make.in_size), keys[0], make.activations[0])
    found = [Feedback("to_input", INPUT, to_input, "first", energy)]
    top = "first"
    if make.depth > 2:
        sizes = (make.width, make.width)

        @eqx.filter_vmap
        def blocks(key: PRNGKeyArray) -> Dense:
            return make.dense(Role.HIDDEN, sizes, key, make.activations[0])

        many = blocks(jax.random.split(keys[1], make.depth - 2))
        found.append(Feedback("to_hidden", "hidden", many, energy=energy))
        top = "hidden"
    last = make.dense(Role.INPUT, (make.out_size, make.width), keys[2], linear)
    return [*found, Feedback("from_output", top, last, "output", energy)]


def _of_images(make: ImageMaker, energy: Gaussian, key: PRNGKeyArray) -> list[Feedback]:
    keys = jax.random.split(key, 4)
    full = make.doubling(Role.OUTPUT, (make.width, make.channels), make.activation, keys[0])
    half = make.doubling(Role.HIDDEN, (2 * make.width, make.width), make.activation, keys[1])
    found = [
        Feedback("to_input", INPUT, full, "first", energy),
        Feedback("to_first", "first", half, "second", energy),
    ]
    top = "second"
    if make.depth > 3:
        blocks = eqx.filter_vmap(lambda key: make.kept(Role.HIDDEN, key))
        many = blocks(jax.random.split(keys[2], make.depth - 3))
        found.append(Feedback("to_hidden", "hidden", many, energy=energy))
        top = "hidden"
    last = make.spread(Role.INPUT, linear, keys[3])
    return [*found, Feedback("from_output", top, last, "output", energy)]
