"""Methods beside one another: each trained with the same seeds, and how sure differences are."""

from fathomx.comparison.compare import Comparison as Comparison
from fathomx.comparison.compare import compare as compare
