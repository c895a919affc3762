"""Networks ready to train."""

from fathomx.models.mlp import mlp as mlp
from fathomx.models.mlp import residual_mlp as residual_mlp
