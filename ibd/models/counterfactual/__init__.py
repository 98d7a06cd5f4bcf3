"""Which units would have to be otherwise for another class to be predicted, and which are enough for this one."""

from ibd.models.counterfactual.answer import Why
from ibd.models.counterfactual.asking import why

__all__ = ["Why", "why"]
