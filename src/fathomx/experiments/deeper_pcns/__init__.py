"""Do precision schedules and forward updates make deep convolutional PCNs trainable?

Qi et al. (2025), arXiv 2506.23800: beyond five to seven layers the energy sits orders of magnitude
higher near the output than near the input, and plain predictive coding stops learning. Spiking or
decaying precision, auxiliary neurons on skip paths, forward updates and frozen batch normalization
bring VGG-10 and ResNet-18 close to backprop. Here the same networks are trained by the plain and
the cured algorithms, by solvers that do not have the disease, and by backprop, with the same
budget of epochs; and the networks of their code, with their rates, beside them.
"""

from fathomx.experiments.deeper_pcns.comparison import reproduce as reproduce
