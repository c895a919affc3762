"""Learning rules: each turns a batch into a weight update."""

from fathomx.learning.backprop import Backprop as Backprop
from fathomx.learning.base import LearningRule as LearningRule
from fathomx.learning.base import StepReport as StepReport
from fathomx.learning.equilibrium import Equilibrium as Equilibrium
from fathomx.learning.equilibrium import EquilibriumErrors as EquilibriumErrors
from fathomx.learning.equilibrium_propagation import (
    EquilibriumPropagation as EquilibriumPropagation,
)
from fathomx.learning.forward_update import ForwardUpdate as ForwardUpdate
from fathomx.learning.incremental import Incremental as Incremental
from fathomx.learning.learner import Learner as Learner
from fathomx.learning.learner import Pose as Pose
from fathomx.learning.predictive_coding import DEFAULT_STRENGTH as DEFAULT_STRENGTH
from fathomx.learning.predictive_coding import PredictiveCoding as PredictiveCoding
