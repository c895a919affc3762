"""Problems: what is clamped, the energy that follows, and its derivatives."""

from fathomx.problem.checks import check_input as check_input
from fathomx.problem.checks import check_tokens as check_tokens
from fathomx.problem.energies import energy as energy
from fathomx.problem.energies import evaluated_energies as evaluated_energies
from fathomx.problem.energies import node_energies as node_energies
from fathomx.problem.energies import predict as predict
from fathomx.problem.energies import weight_gradient as weight_gradient
from fathomx.problem.evaluation import Evaluation as Evaluation
from fathomx.problem.evaluation import Linearization as Linearization
from fathomx.problem.evaluation import evaluate as evaluate
from fathomx.problem.evaluation import evaluate_at as evaluate_at
from fathomx.problem.evaluation import select as select
from fathomx.problem.problem import Problem as Problem
from fathomx.problem.strength import HoldStrength as HoldStrength
from fathomx.problem.strength import strength as strength
