"""What can be done here that is no model, data set, explainer or metric by name: ``ibd list techniques``."""

from __future__ import annotations

from typing import NamedTuple


class Technique(NamedTuple):
    """A technique.

    Attributes:
        name: its name in the literature.
        place: "module:function" or "module:Class" that does it in Python.
        command: a command that shows it; empty where there is none but Python.
        page: the page of ``docs/`` that tells of it.
        says: what it does, in a sentence, with the source.
    """

    name: str
    place: str
    command: str
    page: str
    says: str


TECHNIQUES: tuple[Technique, ...] = (
    Technique(
        "concept activation vectors",
        "ibd.explain.cav:concept_vectors",
        "ibd tcav RUN",
        "concept_vectors.md",
        "which classes rest on which labelled concepts, tested against random directions (Kim 2018)",
    ),
    Technique(
        "relevant features",
        "ibd.explain.feature_selection:relevant_features",
        "ibd interpret RUN",
        "concept_vectors.md",
        "channels of all layers that tell the classes, under a budget per class (Oramas 2019)",
    ),
    Technique(
        "discovered concepts",
        "ibd.app.discovery.discover:discover",
        "ibd discover RUN",
        "discovery.md",
        "directions of a layer's features found by NMF, a sparse autoencoder, PCA or k-means (Fel 2023)",
    ),
    Technique(
        "activation maximisation",
        "ibd.explain.feature_visualization.maximize:maximize_activation",
        "",
        "explainers.md",
        "an image that a class or a unit responds to, with what keeps it natural (Olah 2017)",
    ),
    Technique(
        "maximally activating patches",
        "ibd.explain.patches:maximally_activating_patches",
        "",
        "explainers.md",
        "the patches of a data set that a channel responds to most (Girshick 2014)",
    ),
    Technique(
        "first-layer filters",
        "ibd.explain.inside:first_layer_filters",
        "",
        "explainers.md",
        "the weights of the first convolution as pictures (Krizhevsky 2012)",
    ),
    Technique(
        "activation grid",
        "ibd.explain.inside:activation_grid",
        "",
        "explainers.md",
        "what each place of a layer holds, by its magnitude (Olah 2018)",
    ),
    Technique(
        "semantic dictionary",
        "ibd.explain.inside:semantic_dictionary",
        "",
        "explainers.md",
        "the strongest channels of a place, each with what it looks for (Olah 2018)",
    ),
    Technique(
        "neuron groups",
        "ibd.explain.factorization:neuron_groups",
        "",
        "explainers.md",
        "channels of a layer that act together, by non-negative factors (Olah 2018)",
    ),
)
