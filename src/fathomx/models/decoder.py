"""Generative networks: from a latent root to what is observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import PRNGKeyArray

from fathomx.checks import Count, Positive, gate
from fathomx.graph.energy import Energy, Gaussian
from fathomx.graph.entries import Entry, Root
from fathomx.graph.feedback import Amortized
from fathomx.graph.network import Network
from fathomx.layers.activations import Activation
from fathomx.layers.parameterization import Parameterization
from fathomx.models._images import ImageMaker, is_image
from fathomx.models.mlp import Maker
from fathomx.models.wrapping import Chain

_WIDTHS = {False: 256, True: 32}


@gate
def decoder(
    latents: Count,
    shape: Count | Sequence[Count],
    *,
    width: Count | None = None,
    depth: Count = 3,
    activation: Activation = "gelu",
    bias: bool = True,
    precision: Positive = 1.0,
    parameterization: Parameterization | None = None,
    key: PRNGKeyArray,
    output: Energy | None = None,
) -> Network:
    """A generative network: a latent root predicts, layer by layer, what is observed.

        F = 1/2 ||z_0||^2 + sum_l (pi_l / 2) ||z_l - mu_l(z_{l-1})||^2,    z_L = what is observed

    The entries are the root `latent` with the prior N(0, I), `first`, the stack `hidden` (if it is
    deep enough) and `output`. With `{"output": x}` clamped, inference finds the latent that
    explains `x`; with a mask it completes what is not seen; `fx.sample` draws from the prior; with
    `{"latent": y, "output": x}` it learns to generate from what is given.

    For images all but the last two layers are at a quarter of height and width, with twice `width`
    channels; two transposed convolutions (nodes `half` and `output`) lead to all of it.

    **Arguments**

    * `latents`: number of latent units.
    * `shape`: what is observed: a number of values, or `(height, width, channels)` of images, whose
      sides are multiples of 4.
    * `width`: units of a hidden layer, 256 unless given; channels at half size, 32, for images.
    * `depth`: weight layers, at least 2, for images 3; 3 unless given.
    * `precision`: of the hidden nodes. The larger it is, the more must be explained by the latent,
      and not by errors of hidden nodes; 100 and more make the latent a code of what is observed.
    * `activation`, `bias` (zero at first; on unless told otherwise), `parameterization`
      (`Standard()` unless given), `key`: as for `fx.models.mlp`.
    * `output`: energy of what is observed, `Gaussian()` unless given. Its precision is how exactly
      images are explained: the inverse of the variance of what a latent does not explain.

    Raises `ValueError` for shapes and depths that do not fit.

    ```python
    network = fx.models.decoder(32, 784, key=jax.random.key(0))
    relaxed = fx.infer(fx.Problem(network, {"output": images}), fx.GaussNewton(5, 10))
    images = fx.sample(network, jax.random.key(1), batch=16)["output"]
    ```

    Source: Rao and Ballard (1999); Whittington and Bogacz (2017).
    """
    make = _maker(latents, shape, width, depth, activation, bias, parameterization)
    return _network(latents, make.plain(output, key), precision)


@gate
def residual_decoder(
    latents: Count,
    shape: Count | Sequence[Count],
    *,
    width: Count | None = None,
    depth: Count = 3,
    activation: Activation = "gelu",
    bias: bool = True,
    precision: Positive = 1.0,
    parameterization: Parameterization | None = None,
    key: PRNGKeyArray,
    output: Energy | None = None,
) -> Network:
    """A generative network with identity skips from hidden layer to hidden layer.

    Entries, arguments and errors as for `decoder`; with `parameterization=fx.MuPC()` it trains at
    any depth.

    ```python
    network = fx.models.residual_decoder(
        32, 784, width=128, depth=64, parameterization=fx.MuPC(), key=jax.random.key(0)
    )
    ```

    Source: as for `decoder`; the skips are those of Innocenti et al. (2025), arXiv 2505.13124.
    """
    make = _maker(latents, shape, width, depth, activation, bias, parameterization)
    return _network(latents, make.residual(output, key), precision)


@gate
def with_encoder(
    network: Network,
    *,
    width: Count | None = None,
    depth: Count = 3,
    activation: Activation = "gelu",
    parameterization: Parameterization | None = None,
    key: PRNGKeyArray,
) -> Network:
    """A decoder with an encoder, from which inference starts: hybrid predictive coding.

    The encoder, an `fx.Amortized` named `encoder`, predicts the first root from the output. It
    learns what inference finds, and adds nothing to the energy: the decoder is what it was, and its
    inference needs fewer steps.

    **Arguments**

    * `network`: such as `fx.models.decoder` returns.
    * `width`, `depth`, `activation`, `parameterization`, `key`: of the encoder, as for `decoder`;
      of images it is convolutional, and its depth is 3.

    Raises `ValueError` for a first root that is no vector, and for outputs that are neither vectors
    nor images.

    ```python
    key, other = jax.random.split(jax.random.key(0))
    network = fx.models.with_encoder(fx.models.decoder(32, 784, key=key), key=other)
    ```

    Source: Tscshantz et al. (2023), doi 10.1371/journal.pcbi.1011280.
    """
    root, output = network.roots[0], network.output.name
    shape = network.output_shape
    image = is_image("the shape of the output", shape)
    if len(root.shape) != 1:
        raise ValueError(
            f"an encoder predicts a vector, but {root.name!r} has the shape {root.shape}; give "
            "fx.Amortized a function of your own."
        )
    latents = root.shape[0]
    width = _WIDTHS[image] if width is None else width
    if image:
        choices = (activation, True, parameterization)
        entries = ImageMaker(latents, shape, width, 3, *choices).down(None, key)
    else:
        widths = [width] * max(1, depth - 1)
        make = Maker((shape[0], latents), widths, None, activation, True, parameterization)
        entries = make.plain(None, key)
    functions = Chain(tuple(entry.learned_function() for entry in entries))
    return network.with_feedbacks([Amortized("encoder", root.name, functions, output)])


def _network(latents: int, entries: list[Entry], precision: float) -> Network:
    """The root and what it predicts; all but the output with a precision."""
    inner = [entry.with_energy(Gaussian(precision)) for entry in entries[:-1]]
    return Network([Root("latent", (latents,)), *inner, entries[-1]])


class _ImageDecoder(ImageMaker):
    """The entries between a latent vector and an image."""

    def plain(self, output: Energy | None, key: PRNGKeyArray) -> list[Entry]:
        return self.up(output, key, residual=False)

    def residual(self, output: Energy | None, key: PRNGKeyArray) -> list[Entry]:
        return self.up(output, key, residual=True)


def _maker(
    latents: int, shape: int | Sequence[int], width: int | None, *choices: Any
) -> Maker | _ImageDecoder:
    sizes = [shape] if isinstance(shape, int) else list(shape)
    image = is_image("shape", sizes)
    width = _WIDTHS[image] if width is None else width
    if image:
        return _ImageDecoder(latents, sizes, width, *choices)
    return Maker((latents, sizes[0]), width, *choices)
