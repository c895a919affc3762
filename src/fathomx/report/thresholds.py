"""From where on a number is given a name, the same in verdicts and in diagnoses."""

# A cosine to backprop's update above which a run is backprop in disguise.
DISGUISE = 0.99
# What inference leaves of the energy gradient: above, far from equilibrium; up to, at equilibrium.
FAR = 0.5
SETTLED = 1e-3
