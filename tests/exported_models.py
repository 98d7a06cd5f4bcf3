"""Tiny models of every family, by what they are, for what is exported of them, and exported parts in use."""

import json

import numpy as np

import ibd as package
from ibd.models.baseline.lightning import Baseline
from ibd.models.cbm.lightning import ConceptBottleneck
from tests.model_makers import (
    SMALL,
    SPEC,
    TensorData,
    make_embedding,
    make_filters,
    make_module,
    make_pipnet,
    make_posthoc,
    make_prototypes,
    make_stochastic_module,
    make_whitening,
)

MAKERS = {
    "baseline": lambda: Baseline(SPEC, SMALL).eval(),
    "cbm": make_module,
    "cem": make_embedding,
    "posthoc_cbm": make_posthoc,
    "scbm": lambda: make_stochastic_module(covariance="amortized"),
    "protopnet": lambda: make_prototypes(distance="l2", extent=2, top_k=3),
    "pipnet": lambda: make_pipnet().eval(),
    "concept_whitening": make_whitening,
    "interpretable_cnn": make_filters,
}


def calibrated(module):
    """Return a model with a calibration of all that there is."""
    package.calibrate(module, data=TensorData(), method="vector", coverage=0.8)
    return module


MORE = {
    "calibrated": lambda: calibrated(make_module(softmax_groups=["wing"])),
    "calibrated, with a rule of its own": lambda: calibrated(make_pipnet().eval()),
    "cbm with a softmax": lambda: make_module(bottleneck="hard", softmax_groups=["wing"], head="mlp"),
    "cbm with a residual": lambda: make_module(residual=2),
    "posthoc_cbm with a rest": lambda: make_posthoc(truth=False, reading="relu", rest=True),
    "protopnet by cosine": make_prototypes,
    "cbm on a B-cos backbone": lambda: ConceptBottleneck(SPEC, {**SMALL, "name": "bcos_small_cnn"}).eval(),
    "whitened several times": lambda: make_whitening(layers=["stage2.norm", "stage3.norm"], activation="positive_mean"),
}


class Deployed:
    """Exported parts in the hands of somebody without this package."""

    def __init__(self, files):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.folder = next(iter(files.values())).parent
        self.sessions = {name: onnxruntime.InferenceSession(file, options) for name, file in files.items()}
        for session in self.sessions.values():
            self.names = json.loads(session.get_modelmeta().custom_metadata_map["ibd.json"])

    def run(self, part, given):
        session = self.sessions[part]
        made = session.run(None, {each.name: given[each.name] for each in session.get_inputs()})
        return dict(zip([each.name for each in session.get_outputs()], made, strict=True))

    def intervene(self, units, edits):
        """Return units with some set, of name -> value."""
        shape = len(units["scores"]), len(self.names["unit_names"])
        values, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
        for name, value in edits.items():
            column = self.names["unit_names"].index(name)
            values[:, column], mask[:, column] = value, True
        made = self.run("edit", {**units, "values": values, "mask": mask})
        return units | {name.removeprefix("new_"): value for name, value in made.items()}
