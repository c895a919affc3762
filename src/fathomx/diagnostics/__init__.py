"""Diagnostics: where the energy sits, and what a learning rule's update is really doing."""

from fathomx.diagnostics.alignment import Alignment as Alignment
from fathomx.diagnostics.alignment import alignment as alignment
from fathomx.diagnostics.alignment import compare_to_backprop as compare_to_backprop
from fathomx.diagnostics.alignment import node_dot as node_dot
from fathomx.diagnostics.alignment import weight_change as weight_change
from fathomx.diagnostics.beside_backprop import BesideBackprop as BesideBackprop
from fathomx.diagnostics.beside_backprop import beside_backprop as beside_backprop
from fathomx.diagnostics.diagnosis import Diagnosis as Diagnosis
from fathomx.diagnostics.diagnosis import diagnose as diagnose
from fathomx.diagnostics.energy_balance import EnergyBalance as EnergyBalance
from fathomx.diagnostics.energy_balance import energy_balance as energy_balance
from fathomx.diagnostics.target_alignment import TargetAlignment as TargetAlignment
from fathomx.diagnostics.target_alignment import target_alignment as target_alignment
