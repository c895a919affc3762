"""When does predictive coding become backprop: wide networks, and settled inference?

Innocenti, Achour and Bogacz (2026), arXiv 2602.07697: under parameterizations that are stable in
width N and depth L the rescaling matrix tends to the identity, `S - I = O(L / N)`. In networks much
wider than deep the equilibrated energy is then the loss and predictive coding's weight gradient is
backprop's; nonlinear perceptrons, convolutional networks and transformers are said to follow,
provided that inference reaches an equilibrium. Here `F* / loss` and `S - I` are computed in closed
form for linear residual networks, and the cosine between the two gradients is measured on three
nonlinear families: at an equilibrium with a certificate, and beside it after 100 steps of state
descent. All at initialization, with output precision 1.
"""

from fathomx.experiments.frame import Experiment
from fathomx.experiments.limits.comparison import (
    COLUMNS,
    FIGURES,
    METHODS,
    TABLES,
    applies,
    networks,
    outcome,
    run,
)
from fathomx.experiments.limits.relaxation import RATE, TOLERANCE
from fathomx.experiments.limits.scales import SCALES

EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=networks,
    methods=METHODS,
    applies=applies,
    run=run,
    outcome=outcome,
    columns=COLUMNS,
    tables=TABLES,
    figures=FIGURES,
    # Which networks have other embeddings changes no row that there is: folders of version 0.1
    # go on.
    extent=("embedding_widths", "embeddings"),
    besides=lambda scale: {"tolerance": TOLERANCE, "rate": RATE},
)

reproduce = EXPERIMENT.reproduce
