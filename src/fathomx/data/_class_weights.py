"""How much each example counts, so that every class counts alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathomx.checks import gate
from fathomx.data import _forms as forms


@gate
def class_weights(labels: Any) -> NDArray[np.float32]:
    """Weights by which every class that occurs counts alike, however many examples it has.

        w_i = n / (k n_c),    c the class of example i

    with `n` examples, `k` classes that occur and `n_c` examples of class `c`: their mean is 1.

    **Arguments**: `labels`, class numbers, `(n,)`.

    Raises `TypeError` for labels that are not integers, and `ValueError` for another shape.

    ```python
    x, y = data.train
    balanced = fx.data.Dataset("balanced", (x, y, fx.data.class_weights(y)), classes=10)
    ```

    Source: King and Zeng (2001), doi 10.1093/oxfordjournals.pan.a004868, weights by the frequency
    of classes; in this form scikit-learn's `balanced`.
    """
    found = forms.values("labels", labels)
    if found.ndim != 1 or not found.size:
        raise ValueError(
            f"labels have the shape {found.shape}, but must be (n,); give class numbers."
        )
    if found.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, not {found.dtype}; give labels.astype(int).")
    classes, which, counts = np.unique(found, return_inverse=True, return_counts=True)
    return (len(found) / (len(classes) * counts))[which].astype(np.float32)
