"""The networks that are compared, each with the name of the data it learns."""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

from jaxtyping import PRNGKeyArray

from fathomx.experiments.strength.examples import dataset
from fathomx.graph.energy import Categorical
from fathomx.graph.network import Network
from fathomx.layers.parameterization import MuPC, Standard
from fathomx.models import mlp, residual_cnn, residual_mlp, transformer


@runtime_checkable
class Model(Protocol):
    """A network to be built from a key, and the name of the data it learns."""

    @property
    def data(self) -> str: ...

    def network(self, key: PRNGKeyArray) -> Network: ...


@dataclasses.dataclass(frozen=True)
class Residual:
    """A residual GELU perceptron under muPC."""

    depth: int
    width: int
    categorical: bool = False
    data: str = "mnist"

    def network(self, key: PRNGKeyArray) -> Network:
        """With weights drawn from the key."""
        return residual_mlp(
            784,
            10,
            width=self.width,
            depth=self.depth,
            parameterization=MuPC(),
            key=key,
            output=Categorical() if self.categorical else None,
        )


@dataclasses.dataclass(frozen=True)
class Chain:
    """A plain perceptron whose weights have the standard deviation `gain / sqrt(fan_in)`."""

    depth: int
    width: int
    activation: str
    gain: float
    data: str = "mnist"

    def network(self, key: PRNGKeyArray) -> Network:
        """With weights drawn from the key."""
        return mlp(
            784,
            10,
            width=self.width,
            depth=self.depth,
            activation=self.activation,
            parameterization=Standard(self.gain),
            key=key,
        )


@dataclasses.dataclass(frozen=True)
class Convolutional:
    """A residual convolutional GELU network under muPC, of three stages."""

    blocks: int
    width: int
    data: str = "cifar10"

    def network(self, key: PRNGKeyArray) -> Network:
        """With weights drawn from the key."""
        return residual_cnn(self.blocks, width=self.width, parameterization=MuPC(), key=key)


@dataclasses.dataclass(frozen=True)
class Transformer:
    """A transformer under muPC; two heads."""

    depth: int
    width: int
    normalization: str | None
    data: str = "tiny-shakespeare"

    def network(self, key: PRNGKeyArray) -> Network:
        """With weights drawn from the key."""
        text = dataset(self.data)
        return transformer(
            text.classes,
            text.input_shape[0],
            width=self.width,
            depth=self.depth,
            heads=2,
            normalization=self.normalization,
            parameterization=MuPC(),
            key=key,
        )
