"""Verbs of the command line that have a file each; ``ibd --help`` lists them in this order."""

from ibd.app.verbs import (
    ablate,
    atlas,
    code_map,
    continuity,
    discover,
    dissect,
    dream,
    export,
    filters,
    fool,
    inside,
    interpret,
    invert,
    predict,
    spray,
    tcav,
    visualize,
    why,
)
from ibd.app.verbs.base import Verb

VERBS: tuple[Verb, ...] = (
    predict.VERB,
    tcav.VERB,
    interpret.VERB,
    ablate.VERB,
    continuity.VERB,
    discover.VERB,
    code_map.VERB,
    atlas.VERB,
    inside.VERB,
    why.VERB,
    filters.VERB,
    dissect.VERB,
    spray.VERB,
    fool.VERB,
    visualize.VERB,
    dream.VERB,
    invert.VERB,
    export.VERB,
)
