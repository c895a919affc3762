"""Reports: figures and pages of finished runs, and what a diagnosis found.

Everything here is read from the JSON files of a run folder, or from `diagnosis.json`; nothing is
computed anew. Figures need matplotlib, the optional extra `figures`.
"""

from fathomx.drawing.style import MissingMatplotlibError as MissingMatplotlibError
from fathomx.records.run_files import RunFiles as RunFiles
from fathomx.report.comparison import write_comparison as write_comparison
from fathomx.report.diagnosis import energy_beside_equilibrium as energy_beside_equilibrium
from fathomx.report.diagnosis import energy_over_inference as energy_over_inference
from fathomx.report.diagnosis import findings as findings
from fathomx.report.diagnosis import read_diagnosis as read_diagnosis
from fathomx.report.evaluation import confusion_matrix as confusion_matrix
from fathomx.report.evaluation import read_evaluation as read_evaluation
from fathomx.report.evaluation import reliability as reliability
from fathomx.report.evaluation import write_evaluation as write_evaluation
from fathomx.report.figures import alignment_per_node as alignment_per_node
from fathomx.report.figures import energy_over_training as energy_over_training
from fathomx.report.figures import energy_per_node as energy_per_node
from fathomx.report.figures import learning_curves as learning_curves
from fathomx.report.figures import predictions as predictions
from fathomx.report.figures import strength_and_settledness as strength_and_settledness
from fathomx.report.overview import write_overview as write_overview
from fathomx.report.page import wanted_figures as wanted_figures
from fathomx.report.page import write_page as write_page
from fathomx.report.verdict import verdict as verdict
