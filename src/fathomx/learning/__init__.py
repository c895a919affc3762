"""Learning rules: each turns a batch into a weight update."""

from fathomx.learning.backprop import Backprop as Backprop
from fathomx.learning.base import LearningRule as LearningRule
from fathomx.learning.base import StepReport as StepReport
from fathomx.learning.equilibrium import Equilibrium as Equilibrium
