"""Theory of the energy landscape, to be run on real networks."""

from fathomx.theory.equilibrated_energy import Equilibrated as Equilibrated
from fathomx.theory.equilibrated_energy import equilibrated_energy as equilibrated_energy
from fathomx.theory.equilibrated_energy import relaxing_solver as relaxing_solver
from fathomx.theory.equilibrated_energy import rescaling as rescaling
from fathomx.theory.landscape import TOLERANCE as TOLERANCE
from fathomx.theory.landscape import EquilibratedEnergy as EquilibratedEnergy
from fathomx.theory.landscape import Loss as Loss
from fathomx.theory.landscape import Objective as Objective
from fathomx.theory.landscape import Plane as Plane
from fathomx.theory.landscape import Spectrum as Spectrum
from fathomx.theory.landscape import gradient as gradient
from fathomx.theory.landscape import hessian as hessian
from fathomx.theory.landscape import hessian_product as hessian_product
from fathomx.theory.landscape import lanczos as lanczos
from fathomx.theory.landscape import plane as plane
from fathomx.theory.landscape import spectrum as spectrum
from fathomx.theory.saddles import nearby as nearby
from fathomx.theory.saddles import origin as origin
from fathomx.theory.saddles import rank_r as rank_r
from fathomx.theory.saddles import rank_zero as rank_zero
from fathomx.theory.trust_region import Displacement as Displacement
from fathomx.theory.trust_region import TrustRegion as TrustRegion
from fathomx.theory.trust_region import trust_region as trust_region
from fathomx.theory.trust_region import with_hidden_precision as with_hidden_precision
