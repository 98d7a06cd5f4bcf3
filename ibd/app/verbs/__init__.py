"""Verbs of the command line that have a file each; ``ibd --help`` lists them in this order."""

from ibd.app.verbs import discover, interpret, tcav
from ibd.app.verbs.base import Verb

VERBS: tuple[Verb, ...] = (
    tcav.VERB,
    interpret.VERB,
    discover.VERB,
)
