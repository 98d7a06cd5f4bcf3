"""Verbs of the command line that have a file each; ``ibd --help`` lists them in this order."""

from ibd.app.verbs import discover, dream, interpret, invert, tcav, visualize
from ibd.app.verbs.base import Verb

VERBS: tuple[Verb, ...] = (
    tcav.VERB,
    interpret.VERB,
    discover.VERB,
    visualize.VERB,
    dream.VERB,
    invert.VERB,
)
