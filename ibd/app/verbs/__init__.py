"""Verbs of the command line that have a file each; ``ibd --help`` lists them in this order."""

from ibd.app.verbs import ablate, continuity, discover, interpret, tcav
from ibd.app.verbs.base import Verb

VERBS: tuple[Verb, ...] = (
    tcav.VERB,
    interpret.VERB,
    ablate.VERB,
    continuity.VERB,
    discover.VERB,
)
