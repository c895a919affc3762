"""Fathomx: deep predictive coding networks, relaxed to equilibrium, in JAX."""

import importlib as _importlib
import sys as _sys
import warnings as _warnings
from importlib.metadata import version as _version
from typing import TYPE_CHECKING as _TYPE_CHECKING

from fathomx import data as data
from fathomx import former as _former
from fathomx import metrics as metrics
from fathomx import models as models
from fathomx.diagnostics.alignment import Alignment as Alignment
from fathomx.diagnostics.alignment import alignment as alignment
from fathomx.diagnostics.alignment import weight_change as weight_change
from fathomx.diagnostics.diagnosis import Diagnosis as Diagnosis
from fathomx.diagnostics.diagnosis import diagnose as diagnose
from fathomx.diagnostics.energy_balance import EnergyBalance as EnergyBalance
from fathomx.diagnostics.energy_balance import energy_balance as energy_balance
from fathomx.diagnostics.target_alignment import TargetAlignment as TargetAlignment
from fathomx.diagnostics.target_alignment import target_alignment as target_alignment
from fathomx.graph.arrival import arrivals as arrivals
from fathomx.graph.clamp import Clamp as Clamp
from fathomx.graph.energy import Bernoulli as Bernoulli
from fathomx.graph.energy import Categorical as Categorical
from fathomx.graph.energy import Energy as Energy
from fathomx.graph.energy import Gaussian as Gaussian
from fathomx.graph.energy import Laplace as Laplace
from fathomx.graph.energy import Poisson as Poisson
from fathomx.graph.entries import Node as Node
from fathomx.graph.entries import Root as Root
from fathomx.graph.entries import Stack as Stack
from fathomx.graph.feedback import Amortized as Amortized
from fathomx.graph.feedback import Feedback as Feedback
from fathomx.graph.freezing import freeze as freeze
from fathomx.graph.mesh import Mesh as Mesh
from fathomx.graph.network import Network as Network
from fathomx.graph.noise import Noise as Noise
from fathomx.graph.numbers import mixed_precision as mixed_precision
from fathomx.graph.numbers import rematerialized as rematerialized
from fathomx.graph.statistics import Statistics as Statistics
from fathomx.graph.statistics import split as split
from fathomx.graph.statistics import weights as weights
from fathomx.inference import AugmentedGaussNewton as AugmentedGaussNewton
from fathomx.inference import AugmentedLagrangian as AugmentedLagrangian
from fathomx.inference import ErrorDescent as ErrorDescent
from fathomx.inference import Exact as Exact
from fathomx.inference import GaussNewton as GaussNewton
from fathomx.inference import GradientFlow as GradientFlow
from fathomx.inference import Langevin as Langevin
from fathomx.inference import Newton as Newton
from fathomx.inference import Predify as Predify
from fathomx.inference import QuasiNewton as QuasiNewton
from fathomx.inference import Solver as Solver
from fathomx.inference import SolverState as SolverState
from fathomx.inference import StateDescent as StateDescent
from fathomx.inference import average as average
from fathomx.inference import follow as follow
from fathomx.inference import infer as infer
from fathomx.inference import trace as trace
from fathomx.inference.relaxation import Relaxation as Relaxation
from fathomx.inference.schedule import Decaying as Decaying
from fathomx.inference.schedule import Schedule as Schedule
from fathomx.inference.schedule import Spiking as Spiking
from fathomx.inference.schedule import Uniform as Uniform
from fathomx.layers.parameterization import ABC as ABC
from fathomx.layers.parameterization import NTK as NTK
from fathomx.layers.parameterization import MuPC as MuPC
from fathomx.layers.parameterization import Parameterization as Parameterization
from fathomx.layers.parameterization import Power as Power
from fathomx.layers.parameterization import Role as Role
from fathomx.layers.parameterization import Scaling as Scaling
from fathomx.layers.parameterization import Standard as Standard
from fathomx.layers.parameterization import scale_learning_rates as scale_learning_rates
from fathomx.learning import Backprop as Backprop
from fathomx.learning import Equilibrium as Equilibrium
from fathomx.learning import EquilibriumErrors as EquilibriumErrors
from fathomx.learning import EquilibriumPropagation as EquilibriumPropagation
from fathomx.learning import ForwardUpdate as ForwardUpdate
from fathomx.learning import Incremental as Incremental
from fathomx.learning import Learner as Learner
from fathomx.learning import LearningRule as LearningRule
from fathomx.learning import PredictiveCoding as PredictiveCoding
from fathomx.learning import StepReport as StepReport
from fathomx.learning.optimizer_choice import matrix_axes as matrix_axes
from fathomx.metrics import Metric as Metric
from fathomx.metrics.paired import Paired as Paired
from fathomx.metrics.paired import paired as paired
from fathomx.models import wrap as wrap
from fathomx.problem.energies import energy as energy
from fathomx.problem.energies import predict as predict
from fathomx.problem.energies import weight_gradient as weight_gradient
from fathomx.problem.problem import Problem as Problem
from fathomx.problem.starts import top_down as top_down
from fathomx.problem.strength import HoldStrength as HoldStrength
from fathomx.problem.strength import strength as strength
from fathomx.sampling.ancestral import sample as sample
from fathomx.sampling.tokens import generate as generate
from fathomx.training import DivergenceError as DivergenceError
from fathomx.training import FitResult as FitResult
from fathomx.training import fit as fit
from fathomx.training import fit_together as fit_together
from fathomx.training.choosing import EarlyStopping as EarlyStopping
from fathomx.training.devices import Division as Division
from fathomx.training.saved import save as save

if _TYPE_CHECKING:
    from fathomx import theory as theory
    from fathomx.command_line.loaded import load as load
    from fathomx.comparison import Comparison as Comparison
    from fathomx.comparison import compare as compare
    from fathomx.evaluation import Evaluation as Evaluation
    from fathomx.evaluation import evaluate as evaluate

# What is imported when it is first used, and from where: together a fifth of all modules.
_LATER = {
    "Comparison": "comparison",
    "Evaluation": "evaluation",
    "compare": "comparison",
    "evaluate": "evaluation",
    "load": "command_line.loaded",
    "theory": None,
}

if not any(isinstance(finder, _former.FormerModules) for finder in _sys.meta_path):
    _sys.meta_path.append(_former.FormerModules())


def __getattr__(name: str) -> object:
    """What is imported late; names of version 0.1 that have changed, for one version."""
    if name in _LATER:
        place = _LATER[name]
        if place is None:
            return _importlib.import_module(f"fathomx.{name}")
        found: object = getattr(_importlib.import_module(f"fathomx.{place}"), name)
        return found
    if name in _former.MODULES:
        return _importlib.import_module(f"fathomx.{name}")
    if name == "Precision":
        _warnings.warn("fx.Precision is now fx.Schedule.", DeprecationWarning, stacklevel=2)
        return Schedule
    raise AttributeError(f"module 'fathomx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


__version__ = _version("fathomx")
