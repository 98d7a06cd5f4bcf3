"""What a model's own account of itself is worth: what no heatmap shows (locality, leakage, completeness, alignment).

Every measure is a function of a model, a data set and indices. What does not apply raises `UnsupportedError`, and what
is undefined is NaN, never 0. `honesty` measures all that applies.
"""

from ibd.comparison.honesty.consistency import Consistency, bottleneck_against_pixels
from ibd.comparison.honesty.dissection import Dissection, dissect
from ibd.comparison.honesty.leakage import Leakage, concept_leakage
from ibd.comparison.honesty.locality import Locality, part_locality
from ibd.comparison.honesty.measure import honesty, shortcut_figures
from ibd.comparison.honesty.prototypes import Misalignment, misalignment, prototype_parts
from ibd.comparison.honesty.sentences import READING, how_to_read
from ibd.comparison.honesty.shortcut import Shortcut, input_dependence, tag_effects, tagged
from ibd.comparison.honesty.units import UnitAccount, unit_account

__all__ = [
    "READING",
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
    "honesty",
    "how_to_read",
    "input_dependence",
    "misalignment",
    "part_locality",
    "prototype_parts",
    "shortcut_figures",
    "tag_effects",
    "tagged",
    "unit_account",
]
