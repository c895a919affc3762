"""Reports on finished runs: figures, a page per run, and a page comparing runs.

Everything here is read from the JSON files of a run folder; nothing is computed anew. Figures
need matplotlib, the optional extra `figures`.
"""

from fathomx.report.figures import MissingMatplotlibError as MissingMatplotlibError
from fathomx.report.figures import alignment_per_node as alignment_per_node
from fathomx.report.figures import energy_per_node as energy_per_node
from fathomx.report.figures import learning_curves as learning_curves
from fathomx.report.figures import strength_and_settledness as strength_and_settledness
from fathomx.report.page import verdict as verdict
from fathomx.report.page import write_comparison as write_comparison
from fathomx.report.page import write_page as write_page
from fathomx.report.run_files import RunFiles as RunFiles
