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

from fathomx.experiments.limits.comparison import reproduce as reproduce
