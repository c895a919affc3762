"""What does the strength of predictive coding cost, and where does it pay?

`strength = lambda tr(J J^T) / d_y` says how far predictive coding goes beyond backprop: near 0 it
is backprop, large, the hidden layers absorb the output error before it teaches the last ones. Two
parts. The map: residual perceptrons over depth, width and strength, then categorical outputs, a
convolutional network and a transformer, with the same updates for all; how accurate they become,
how settled inference is, how much stiffer the network grows and how far the update is from
backprop's. The search: settings in which theory or earlier work would have predictive coding ahead
(single examples, few updates, near saddles), the learning rate chosen for every method on
validation data from a grid of the same size.

The strength and holding it are ours. That the equilibrated energy leaves saddles sooner: Innocenti
et al. (2024), arXiv 2408.11979; that relaxed activities help online: Song et al. (2024), "Inferring
neural activity before plasticity".
"""

from fathomx.experiments.frame import Experiment, said
from fathomx.experiments.strength.comparison import (
    COLUMNS,
    compared,
    draw_mapped,
    draw_others,
    draw_searched,
    row,
    seeds_by_network,
    settings,
)
from fathomx.experiments.strength.methods import METHODS
from fathomx.experiments.strength.scales import SCALES

EXPERIMENT = Experiment(
    question=__doc__,
    scales=SCALES,
    networks=seeds_by_network,
    methods=METHODS,
    run=row,
    outcome=said(
        "test accuracy {test_accuracy:.1%} at learning rate {rate:g}",
        test_accuracy="diverged at every learning rate",
    ),
    columns=COLUMNS,
    tables={"differences.md": compared},
    figures={"map.png": draw_mapped, "other.png": draw_others, "search.png": draw_searched},
    descriptions=lambda scale: {
        "settings": {name: repr(setting) for name, setting in settings(scale).items()}
    },
)

reproduce = EXPERIMENT.reproduce
