"""Metrics: what the predictions of a trained network are judged by.

`names` lists those there are, `named` gives one by its name; a `Metric` of your own is a subclass.

```python
result = fx.fit(network, data, metrics=["rmse", "r2"])
fx.metrics.named("r2").better      # 'higher'
```
"""

from fathomx.metrics.base import Metric as Metric
from fathomx.metrics.choice import chosen as chosen
from fathomx.metrics.choice import named as named
from fathomx.metrics.choice import names as names
from fathomx.metrics.classes import Accuracy as Accuracy
from fathomx.metrics.classes import BalancedAccuracy as BalancedAccuracy
from fathomx.metrics.classes import LogLoss as LogLoss
from fathomx.metrics.classes import MacroF1 as MacroF1
from fathomx.metrics.classes import TopAccuracy as TopAccuracy
from fathomx.metrics.labels import F1 as F1
from fathomx.metrics.labels import ExactMatch as ExactMatch
from fathomx.metrics.labels import LabelAccuracy as LabelAccuracy
from fathomx.metrics.numbers import R2 as R2
from fathomx.metrics.numbers import Deviance as Deviance
from fathomx.metrics.numbers import MeanAbsoluteError as MeanAbsoluteError
from fathomx.metrics.numbers import MeanSquaredError as MeanSquaredError
from fathomx.metrics.numbers import RootMeanSquaredError as RootMeanSquaredError
