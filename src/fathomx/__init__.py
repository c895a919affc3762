"""Fathomx: deep predictive coding networks, relaxed to equilibrium, in JAX."""

from importlib.metadata import version as _version

from fathomx import data as data
from fathomx import models as models
from fathomx.arrival import arrivals as arrivals
from fathomx.diagnostics import Alignment as Alignment
from fathomx.diagnostics import Diagnosis as Diagnosis
from fathomx.diagnostics import EnergyBalance as EnergyBalance
from fathomx.diagnostics import alignment as alignment
from fathomx.diagnostics import diagnose as diagnose
from fathomx.diagnostics import energy_balance as energy_balance
from fathomx.energy import Categorical as Categorical
from fathomx.energy import Energy as Energy
from fathomx.energy import Gaussian as Gaussian
from fathomx.inference import ErrorDescent as ErrorDescent
from fathomx.inference import Exact as Exact
from fathomx.inference import GaussNewton as GaussNewton
from fathomx.inference import GradientFlow as GradientFlow
from fathomx.inference import Newton as Newton
from fathomx.inference import Solver as Solver
from fathomx.inference import SolverState as SolverState
from fathomx.inference import StateDescent as StateDescent
from fathomx.inference import infer as infer
from fathomx.inference import trace as trace
from fathomx.learning import Backprop as Backprop
from fathomx.learning import Equilibrium as Equilibrium
from fathomx.learning import EquilibriumPropagation as EquilibriumPropagation
from fathomx.learning import ForwardUpdate as ForwardUpdate
from fathomx.learning import Incremental as Incremental
from fathomx.learning import LearningRule as LearningRule
from fathomx.learning import PredictiveCoding as PredictiveCoding
from fathomx.learning import StepReport as StepReport
from fathomx.network import Network as Network
from fathomx.network import Node as Node
from fathomx.network import Stack as Stack
from fathomx.parameterization import NTK as NTK
from fathomx.parameterization import MuPC as MuPC
from fathomx.parameterization import Parameterization as Parameterization
from fathomx.parameterization import Standard as Standard
from fathomx.parameterization import scale_learning_rates as scale_learning_rates
from fathomx.precision import Decaying as Decaying
from fathomx.precision import Precision as Precision
from fathomx.precision import Spiking as Spiking
from fathomx.precision import Uniform as Uniform
from fathomx.problem import Problem as Problem
from fathomx.problem import Relaxation as Relaxation
from fathomx.problem import energy as energy
from fathomx.problem import predict as predict
from fathomx.problem import weight_gradient as weight_gradient
from fathomx.strength import HoldStrength as HoldStrength
from fathomx.strength import strength as strength
from fathomx.training import DivergenceError as DivergenceError
from fathomx.training import FitResult as FitResult
from fathomx.training import fit as fit

__version__ = _version("fathomx")
