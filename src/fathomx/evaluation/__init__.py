"""Trained networks judged on data: metrics with intervals, classes, calibration, worst examples."""

from fathomx.evaluation.calibration import Calibration as Calibration
from fathomx.evaluation.evaluate import Evaluation as Evaluation
from fathomx.evaluation.evaluate import evaluate as evaluate
from fathomx.evaluation.intervals import Estimate as Estimate
