"""Do precision schedules and forward updates make deep convolutional PCNs trainable?

Qi et al. (2025), arXiv 2506.23800: beyond five to seven layers the energy sits orders of magnitude
higher near the output than near the input, and plain predictive coding stops learning. Spiking or
decaying precision, auxiliary neurons on skip paths, forward updates and frozen batch normalization
bring VGG-10 and ResNet-18 close to backprop. Here the same networks are trained by the plain and
the cured algorithms, by solvers that do not have the disease, and by backprop, with the same
budget of epochs; and the networks of their code, with their rates, beside them.
"""

from fathomx.experiments.deeper_pcns.comparison import (
    COLUMNS,
    Resumable,
    applies,
    courses,
    draw_courses,
    draw_energy,
    draw_test_accuracies,
    run,
)
from fathomx.experiments.deeper_pcns.methods import ALL_METHODS
from fathomx.experiments.deeper_pcns.networks import NETWORKS
from fathomx.experiments.deeper_pcns.scales import SCALES
from fathomx.experiments.frame import said

EXPERIMENT = Resumable(
    question=__doc__,
    scales=SCALES,
    networks=lambda scale: {name: scale.seeds_of(name) for name in NETWORKS},
    methods=ALL_METHODS,
    applies=applies,
    run=run,
    outcome=said("test accuracy {test_accuracy:.1%}", test_accuracy="diverged"),
    columns=COLUMNS,
    figures={
        "energy.png": draw_energy,
        "accuracy.png": draw_test_accuracies,
        "curves.png": draw_courses,
    },
    tables={"curves.csv": courses},
    descriptions=lambda scale: {
        "rules": {name: repr(method.rule(0)) for name, method in ALL_METHODS.items()}
    },
)

reproduce = EXPERIMENT.reproduce
