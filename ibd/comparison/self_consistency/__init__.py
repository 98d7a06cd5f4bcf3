"""What a model's own account of itself is worth: what no heatmap shows (locality, leakage, completeness, alignment).

Every measure is a function of a model, a data set and indices. What does not apply raises `UnsupportedError`, and what
is undefined is NaN, never 0. `self_consistency` measures all that applies.
"""

from ibd.comparison.self_consistency.consistency import Consistency, bottleneck_against_pixels
from ibd.comparison.self_consistency.dissection import Dissection, dissect
from ibd.comparison.self_consistency.leakage import Leakage, concept_leakage
from ibd.comparison.self_consistency.locality import Locality, part_locality
from ibd.comparison.self_consistency.measure import self_consistency, shortcut_figures
from ibd.comparison.self_consistency.prototypes import Misalignment, misalignment, prototype_parts
from ibd.comparison.self_consistency.shortcut import Shortcut, input_dependence, tag_effects, tagged
from ibd.comparison.self_consistency.units import UnitAccount, unit_account

__all__ = [
    "Consistency",
    "Dissection",
    "Leakage",
    "Locality",
    "Misalignment",
    "Shortcut",
    "UnitAccount",
    "bottleneck_against_pixels",
    "concept_leakage",
    "dissect",
    "input_dependence",
    "misalignment",
    "part_locality",
    "prototype_parts",
    "self_consistency",
    "shortcut_figures",
    "tag_effects",
    "tagged",
    "unit_account",
]
