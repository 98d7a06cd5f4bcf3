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
    Technique(
        "hidden units as targets",
        "ibd.explain.targets:Target",
        "ibd explain RUN IMAGE target=neuron:LAYER:NUMBER",
        "explainers.md",
        "what a channel, or a neuron, of any layer rests on, by any explainer (Zeiler and Fergus 2014)",
    ),
    Technique(
        "map of codes",
        "ibd.explain.code_map:lay_out",
        "ibd map RUN",
        "looking_inside.md",
        "images in two dimensions by what a layer makes of them: t-SNE, PCA, UMAP (van der Maaten 2008)",
    ),
    Technique(
        "activation atlas",
        "ibd.explain.atlas:activation_atlas",
        "ibd atlas RUN",
        "looking_inside.md",
        "what a layer holds at many places of many images, laid out, averaged and drawn (Carter 2019)",
    ),
    Technique(
        "channel maps",
        "ibd.explain.channels:channel_maps",
        "ibd inside RUN IMAGE layer=NAME",
        "looking_inside.md",
        "what each channel of a layer puts out for an image, the strongest first (Yosinski 2015)",
    ),
    Technique(
        "blank channels by depth",
        "ibd.explain.channels:blank_by_depth",
        "ibd inside RUN IMAGE",
        "looking_inside.md",
        "how many channels of each layer answer nothing for an image, beside the share of zeros (Chollet 2017)",
    ),
    Technique(
        "weights of any layer",
        "ibd.explain.channels:layer_weights",
        "ibd inside RUN IMAGE layer=NAME",
        "looking_inside.md",
        "the longest filters of a layer by their largest inputs (Voss 2021)",
    ),
    Technique(
        "network dissection",
        "ibd.explain.dissection.dissect:dissect",
        "ibd dissect RUN",
        "dissection.md",
        "which annotated parts and concepts every channel of layers detects, by IoU over a data set (Bau 2017)",
    ),
    Technique(
        "compositional explanations",
        "ibd.metrics.functional.forms:nearest_form",
        "ibd dissect RUN length=3",
        "dissection.md",
        "logical forms of concepts for channels that no single one describes (Mu & Andreas 2020)",
    ),
    Technique(
        "Net2Vec",
        "ibd.explain.dissection.net2vec:net2vec",
        "ibd dissect RUN net2vec=all",
        "dissection.md",
        "weights over the filters of a layer that segment a concept, with few and with all (Fong & Vedaldi 2018)",
    ),
    Technique(
        "regularizers side by side",
        "ibd.explain.feature_visualization.recipes:make_by_recipes",
        "ibd visualize RUN recipes=all",
        "feature_visualization.md",
        "unregularized, frequencies penalized, robust to movements, a learned prior, images as they are (Olah 2017)",
    ),
    Technique(
        "gradient blurring",
        "ibd.explain.feature_visualization.softening:softening",
        "ibd visualize RUN recipes=gradient_blur",
        "feature_visualization.md",
        "the gradient out of focus, less and less, so that large shapes come before fine ones (Oygard 2015)",
    ),
    Technique(
        "MACO",
        "ibd.explain.feature_visualization.spectrum:FixedSpectrum",
        "ibd visualize RUN recipes=maco",
        "feature_visualization.md",
        "images with the magnitude spectrum of natural ones, whose phases alone are optimized (Fel 2023)",
    ),
    Technique(
        "experts learned on data",
        "ibd.explain.feature_visualization.experts:MixtureExpert",
        "ibd visualize RUN recipes=gaussian,mixture,denoiser",
        "feature_visualization.md",
        "a Gaussian, a mixture of Gaussians of each class, or a denoiser keeps images probable (Montavon 2018)",
    ),
    Technique(
        "activation maximisation in code space",
        "ibd.explain.feature_visualization.decoder:train_decoder",
        "ibd visualize RUN recipes=decoder",
        "feature_visualization.md",
        "a decoder learned from a folder makes the images, and its codes are optimized (Nguyen 2016)",
    ),
    Technique(
        "DeepDream",
        "ibd.explain.feature_visualization.dream:deep_dream",
        "ibd dream RUN IMAGE",
        "feature_visualization.md",
        "what a layer sees in an image, made stronger over several octaves (Mordvintsev 2015)",
    ),
    Technique(
        "feature inversion",
        "ibd.explain.feature_visualization.invert:invert_features",
        "ibd invert RUN IMAGE",
        "feature_visualization.md",
        "an image of which a layer says the same as of another one (Mahendran & Vedaldi 2015)",
    ),
    Technique(
        "counterfactuals in units",
        "ibd.models.counterfactual:why",
        "ibd why RUN IMAGE",
        "counterfactuals.md",
        "the smallest change of concepts, prototypes, axes or channels that makes the class another (Wachter 2017)",
    ),
    Technique(
        "pertinent negatives",
        "ibd.explain.pertinent:pertinent_negative",
        "ibd why RUN IMAGE pixels=true",
        "counterfactuals.md",
        "the smallest change of the pixels that makes the class another (Dhurandhar 2018)",
    ),
    Technique(
        "pertinent positives",
        "ibd.explain.pertinent:pertinent_positive",
        "ibd why RUN IMAGE pixels=true",
        "counterfactuals.md",
        "as little of an image, or of its units, as is enough for its class (Dhurandhar 2018)",
    ),
    Technique(
        "counterfactual images",
        "ibd.app.redrawn:redraw_answer",
        "ibd why RUN test:17",
        "counterfactuals.md",
        "a toy bird drawn with the concepts of a counterfactual, and what the model says of it",
    ),
    Technique(
        "SpRAy",
        "ibd.explain.strategies:spray",
        "ibd spray RUN",
        "testing_models.md",
        "relevance maps of a class clustered spectrally: which strategies a model has, and which are strange "
        "(Lapuschkin 2019)",
    ),
    Technique(
        "projected gradient descent",
        "ibd.explain.fooling.attacks:pgd",
        "ibd fool RUN",
        "testing_models.md",
        "images changed within a budget, in L-infinity or L2, so that a model errs (Madry 2018)",
    ),
    Technique(
        "fast gradient sign method",
        "ibd.explain.fooling.attacks:fgsm",
        "ibd fool RUN",
        "testing_models.md",
        "the same by one step along the gradient (Goodfellow 2015)",
    ),
    Technique(
        "DeepFool",
        "ibd.explain.fooling.minimal:deepfool",
        "ibd fool RUN",
        "testing_models.md",
        "the smallest change of an image that changes its prediction (Moosavi-Dezfooli 2016)",
    ),
    Technique(
        "universal perturbation",
        "ibd.explain.fooling.universal:universal_perturbation",
        "ibd fool RUN RUN",
        "testing_models.md",
        "one change that fools a model on most images, and how often it fools other models (Moosavi-Dezfooli 2017)",
    ),
    Technique(
        "explanations of fooled images",
        "ibd.explain.fooling.effect:explanations_fooled",
        "ibd fool RUN",
        "testing_models.md",
        "each explainer on the clean and the fooled image, with rank correlations and what noise as large does",
    ),
    Technique(
        "where a classifier is wrong",
        "ibd.metrics.functional.where_wrong:where_wrong",
        "ibd test RUN",
        "evaluation.md",
        "confusions, worst classes, concepts and images, calibration by bins, with intervals, as tables and pictures",
    ),
    Technique(
        "accuracy and calibration by group",
        "ibd.metrics.functional.by_group:by_group",
        "ibd test RUN by=COLUMN",
        "evaluation.md",
        "whom a classifier fails: accuracy and confidence for each group of images (Buolamwini and Gebru 2018)",
    ),
    Technique(
        "objects pasted on scenes",
        "ibd.data.pasted.datamodule:PastedScenes",
        "ibd compare OBJECTS metrics=bim contrast=SCENES",
        "evaluation.md",
        "model contrast, input dependence and input independence on pictures made for it (Yang and Kim 2019)",
    ),
    Technique(
        "unit ablation",
        "ibd.explain.layer_ablation:unit_ablation",
        "ibd ablate RUN",
        "evaluation.md",
        "accuracy without the most and the least relevant channels of any layer, and what these cover (Oramas 2019)",
    ),
    Technique(
        "explanation continuity",
        "ibd.explain.continuity:continuity_example",
        "ibd continuity RUN IMAGE",
        "evaluation.md",
        "whether maps go along with an image that moves, and their largest L1 change (Montavon 2018)",
    ),
    Technique(
        "coherency of metrics",
        "ibd.metrics.functional.coherency:image_coherency",
        "ibd compare RUN",
        "evaluation.md",
        "whether metrics agree on single images, and put noise last and truth first (Vandersmissen and Oramas 2023)",
    ),
    Technique(
        "imperceptible cues left out",
        "ibd.explain.perception:sight_of",
        "ibd explain RUN IMAGE degrees=10",
        "evaluation.md",
        "no map where nobody sees a detail, and the score without what nobody sees (Wang 2021)",
    ),
    Technique(
        "edited prototypes",
        "ibd.models.protopnet.editing:edit_prototypes",
        "ibd serve RUN",
        "page.md",
        "prototypes that a person forgets, keeps or replaces, and the last layer solved again",
    ),
    Technique(
        "teaching",
        "ibd.app.teaching.session:TeachingSession",
        "ibd serve RUN",
        "page.md",
        "the intervention curve of a real person, who corrects image after image",
    ),
)
