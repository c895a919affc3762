"""How several activities become one."""

from __future__ import annotations

from jaxtyping import Array

from fathomx.checks import gate


@gate
def add(*activities: Array) -> Array:
    """The sum of the parents' activities, which must have one shape: nothing is broadcast.

    As the function of a node it joins a skip with the path it bypasses. Raises `ValueError` for
    unlike shapes.

    ```python
    fx.Node("join", fathomx.layers.add, parents=("branch", "skip"))
    ```
    """
    shapes = [activity.shape for activity in activities]
    if len(set(shapes)) != 1:
        raise ValueError(
            f"activities of unlike shapes {', '.join(map(str, shapes))} cannot be added; bring "
            "them to one shape first, as a 1x1 convolution on the skip does."
        )
    return sum(activities[1:], start=activities[0])
