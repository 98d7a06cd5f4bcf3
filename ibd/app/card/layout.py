"""The headings of a card: those of Mitchell et al. (2019), Model cards for model reporting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ibd.app.card import caveats, explained, measured, pieces
from ibd.app.card.blocks import Block, ByHand, Section, Words
from ibd.app.card.reading import CardRun
from ibd.app.card.thresholds import thresholds

PROMPTS: dict[str, str] = {
    "developers": "the person or organization that developed the model, and how to reach them",
    "version": "the version of the model, and how it differs from earlier ones",
    "license": "the license of the model, and how to cite it",
    "primary_uses": "what the model is intended for",
    "primary_users": "who is intended to use it",
    "out_of_scope": "uses that it is not intended for",
    "relevant_factors": "groups, instruments and environments that performance may depend on",
    "evaluation_factors": "which of these were evaluated, and why these",
    "why_these_metrics": "why these metrics are the right ones for the intended use",
    "evaluation_motivation": "why it was evaluated on this data, and how that differs from data of the intended use",
    "data_provenance": "where the images come from, how they were chosen, who labelled them and how",
    "sensitive_data": "whether the data holds sensitive information, such as of persons or protected classes",
    "human_life": "whether the model informs decisions on matters central to human life, such as health or safety",
    "mitigations": "what was done in development against risks",
    "risks_and_harms": "risks and harms of using the model: to whom, how likely, how large; what is not known of them",
    "problematic_uses": "uses that are known to be problematic",
    "caveats": "what the figures do not show, and further tests that are advisable",
    "recommendations": "advice for those who use the model",
}
"""Key of a text -> what is to be written, in the order of the card."""

_METRICS = (
    "Accuracy is the share of images whose class is predicted rightly; recall and precision are those of one class. "
    "Intervals of such shares are Wilson's score intervals of 95 % over images, and say nothing of other trainings. "
    "The calibration error is the mean gap between stated probability and share that came true, in bins. AUROC is the "
    "chance that an image with a concept (or of a class) is scored above one without."
)


def mitchell(run: CardRun, texts: Mapping[str, str]) -> list[Section]:
    """Return the sections of a card by the headings of Mitchell et al. 2019.

    Args:
        run: the run.
        texts: what a person has written, by key.
    """

    def hand(*keys: str) -> list[Block]:
        return [ByHand(key, PROMPTS[key], texts.get(key, "")) for key in keys]

    details = [*pieces.identity(run), *hand("developers", "version", "license")]
    more = (
        Section("architecture", "Architecture and training algorithm", pieces.architecture(run)),
        Section("training", "Training", pieces.training(run)),
        Section("versions", "Versions of software", pieces.versions(run)),
    )
    data = [*pieces.evaluation_data(run), *hand("evaluation_motivation")]
    preprocessing = Section("preprocessing", "Preprocessing", pieces.preprocessing(run))
    return [
        Section("details", "Model Details", details, more),
        Section("use", "Intended Use", hand("primary_uses", "primary_users", "out_of_scope")),
        Section("factors", "Factors", [*hand("relevant_factors", "evaluation_factors"), *_columns(run)]),
        Section("metrics", "Metrics", [Words(_METRICS), *hand("why_these_metrics")], _of_metrics(run)),
        Section("evaluation", "Evaluation Data", data, (preprocessing,)),
        Section("data", "Training Data", [*pieces.training_data(run), *hand("data_provenance")]),
        Section("analyses", "Quantitative Analyses", (), _analyses(run)),
        Section("ethics", "Ethical Considerations", hand(*_ETHICS)),
        Section(
            "caveats",
            "Caveats and Recommendations",
            [*caveats.caveats(run), *hand("caveats", "recommendations")],
        ),
    ]


_ETHICS = ("sensitive_data", "human_life", "mitigations", "risks_and_harms", "problematic_uses")


def _columns(run: CardRun) -> list[Block]:
    """Return by which columns accuracy was measured."""
    blocks: list[Block] = []
    for split, kept in run.tested.items():
        if not kept.stale and (columns := list(kept.plain.get("groups") or {})):
            text = f"Accuracy of {split} images was measured by: {', '.join(columns)}."
            blocks.append(Words(text, f"{kept.source}/summary.json"))
    return blocks or [Words("Accuracy was measured by no group of images; see the results below.")]


def _of_metrics(run: CardRun) -> tuple[Section, ...]:
    return (
        Section("thresholds", "Decision thresholds", thresholds(run)),
        Section("trainings", "Variation over trainings", measured.repeated(run)),
    )


_ANALYSES: Sequence[tuple[str, str, Callable[[CardRun], list[Block]]]] = (
    ("accuracy", "All images", measured.accuracy),
    ("classes", "Unitary results: by class", measured.classes),
    ("groups", "Unitary results: by group", lambda run: measured.groups(run, crossed=False)),
    ("intersections", "Intersectional results", lambda run: measured.groups(run, crossed=True)),
    ("calibration", "Calibration", measured.calibration),
    ("concepts", "Concepts: how well each is predicted", measured.concepts),
    ("bypass", "What by-passes the concepts", measured.bypass),
    ("honesty", "Whether its units mean what they say", explained.honesty),
    ("interventions", "Interventions tried", measured.interventions),
    ("teaching", "Corrections by a person", measured.teaching),
    ("account", "What its own account is worth", explained.account),
    ("failing", "Where explanations fail", explained.failing),
)


def _analyses(run: CardRun) -> list[Section]:
    return [Section(key, title, say(run)) for key, title, say in _ANALYSES]
