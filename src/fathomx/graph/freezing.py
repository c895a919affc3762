"""Parts of a network that do not learn."""

from __future__ import annotations

from collections.abc import Sequence

from fathomx.checks import gate
from fathomx.checks.names import unknown
from fathomx.graph.network import Network


@gate
def freeze(network: Network, names: Sequence[str] | str | None = None) -> Network:
    """The network with some entries and feedbacks that do not learn, all unless named.

    Their arrays are no weights (`fx.weights`, `fx.split`): gradients, optimizers and updates leave
    them out, and running statistics of batch normalization stay as they are. Nothing else changes:
    they predict, and activities relax through them, as before.

    Raises `ValueError` for names that the network does not have.

    ```python
    network = fx.freeze(network, ["encoder", "encoder2"])
    ```
    """
    parts = {part.name: part for part in network.predictors()}
    chosen = [names] if isinstance(names, str) else parts if names is None else names
    for name in chosen:
        if name not in parts:
            raise ValueError(unknown("entry", name, parts))
        owner = dict(network.share).get(name)
        if owner is not None and owner not in chosen:
            raise ValueError(
                f"{name!r} shares the weights of {owner!r}; freeze {owner!r}, which owns them."
            )
    return network.with_predictors({name: parts[name].freeze() for name in chosen})
