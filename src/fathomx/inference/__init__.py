"""Inference algorithms: each turns a `Problem` into a `Relaxation`."""

from fathomx.inference.augmented_lagrangian import AugmentedGaussNewton as AugmentedGaussNewton
from fathomx.inference.augmented_lagrangian import AugmentedLagrangian as AugmentedLagrangian
from fathomx.inference.base import Solver as Solver
from fathomx.inference.base import SolverState as SolverState
from fathomx.inference.base import average as average
from fathomx.inference.base import beginning as beginning
from fathomx.inference.base import infer as infer
from fathomx.inference.base import trace as trace
from fathomx.inference.descent import Descent as Descent
from fathomx.inference.error_descent import ErrorDescent as ErrorDescent
from fathomx.inference.exact import Exact as Exact
from fathomx.inference.follow import follow as follow
from fathomx.inference.gauss_newton import GaussNewton as GaussNewton
from fathomx.inference.gradient_flow import GradientFlow as GradientFlow
from fathomx.inference.langevin import Langevin as Langevin
from fathomx.inference.newton import Newton as Newton
from fathomx.inference.predify import Predify as Predify
from fathomx.inference.quasi_newton import QuasiNewton as QuasiNewton
from fathomx.inference.state_descent import StateDescent as StateDescent
