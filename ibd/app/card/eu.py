"""The headings of Regulation (EU) 2024/1689 (AI Act): Annex IV and Article 13(3), and what of a card answers each.

A layout, no legal advice: whether a system is one of high risk, and whether what stands here suffices, is for its
provider to say. Headings are shortened; the Regulation's own words count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ibd.app.card.blocks import Block, ByHand, Links, Section, Words


class Heading(NamedTuple):
    """A point of the Regulation: key of its text, number, what it asks for, and sections of a card that answer."""

    key: str
    point: str
    asks: str
    sections: Sequence[str] = ()


ANNEX_IV: tuple[Heading, ...] = (
    Heading(
        "iv_1a",
        "1(a)",
        "intended purpose, name of the provider, version in relation to previous ones",
        ("use", "details"),
    ),
    Heading(
        "iv_1b",
        "1(b)",
        "interaction with hardware or software, including other AI systems, outside the system",
    ),
    Heading(
        "iv_1c",
        "1(c)",
        "versions of relevant software or firmware, requirements on updates",
        ("versions",),
    ),
    Heading(
        "iv_1d",
        "1(d)",
        "forms in which the system is placed on the market (packages, downloads, APIs)",
    ),
    Heading(
        "iv_1e",
        "1(e)",
        "hardware on which the system is intended to run",
    ),
    Heading(
        "iv_1f",
        "1(f)",
        "if part of a product: external features, marking and internal layout of that product",
    ),
    Heading(
        "iv_1g",
        "1(g)",
        "basic description of the user interface provided to the deployer",
    ),
    Heading(
        "iv_1h",
        "1(h)",
        "instructions for use for the deployer",
    ),
    Heading(
        "iv_2a",
        "2(a)",
        "methods and steps of the development, use of pre-trained systems or tools of third parties",
        ("architecture", "training"),
    ),
    Heading(
        "iv_2b",
        "2(b)",
        "design specifications: general logic, key design choices with their rationale, what is optimized"
        " for, expected output and its quality, trade-offs",
        ("architecture", "metrics", "accuracy"),
    ),
    Heading(
        "iv_2c",
        "2(c)",
        "system architecture; computational resources to develop, train, test and validate",
        ("architecture", "training"),
    ),
    Heading(
        "iv_2d",
        "2(d)",
        "data: training methods and data sets, provenance, scope, characteristics, selection, labelling, cleaning",
        ("data", "preprocessing"),
    ),
    Heading(
        "iv_2e",
        "2(e)",
        "human oversight measures (Article 14), technical measures to interpret outputs",
        ("account", "failing", "interventions", "teaching", "concepts"),
    ),
    Heading(
        "iv_2f",
        "2(f)",
        "pre-determined changes to the system and its performance",
    ),
    Heading(
        "iv_2g",
        "2(g)",
        "validation and testing: data, metrics of accuracy and robustness, potentially discriminatory "
        "impacts, test logs and reports dated and signed",
        ("evaluation", "metrics", "accuracy", "classes", "groups", "intersections"),
    ),
    Heading(
        "iv_2h",
        "2(h)",
        "cybersecurity measures",
    ),
    Heading(
        "iv_3",
        "3",
        "monitoring, functioning and control: capabilities and limitations, accuracy for specific groups "
        "of persons, foreseeable unintended outcomes and risks, human oversight, specifications of input "
        "data",
        ("accuracy", "classes", "groups", "intersections", "calibration", "caveats", "interventions", "preprocessing"),
    ),
    Heading(
        "iv_4",
        "4",
        "appropriateness of the performance metrics for the system",
        ("metrics", "trainings"),
    ),
    Heading(
        "iv_5",
        "5",
        "risk management system (Article 9)",
    ),
    Heading(
        "iv_6",
        "6",
        "relevant changes made through the lifecycle",
    ),
    Heading(
        "iv_7",
        "7",
        "harmonized standards applied, or solutions adopted in their place",
    ),
    Heading(
        "iv_8",
        "8",
        "copy of the EU declaration of conformity (Article 47)",
    ),
    Heading(
        "iv_9",
        "9",
        "evaluation of performance after placing on the market (Article 72), with the monitoring plan",
    ),
)

ARTICLE_13: tuple[Heading, ...] = (
    Heading(
        "a13_a",
        "(a)",
        "identity and contact details of the provider and any authorized representative",
        ("details",),
    ),
    Heading(
        "a13_b1",
        "(b)(i)",
        "intended purpose",
        ("use",),
    ),
    Heading(
        "a13_b2",
        "(b)(ii)",
        "level of accuracy with its metrics, robustness and cybersecurity that were tested and can be "
        "expected, and what may have an impact on them",
        ("accuracy", "classes", "metrics", "trainings", "calibration", "caveats"),
    ),
    Heading(
        "a13_b3",
        "(b)(iii)",
        "circumstances of use or foreseeable misuse that may lead to risks to health, safety or fundamental rights",
        ("ethics", "caveats"),
    ),
    Heading(
        "a13_b4",
        "(b)(iv)",
        "technical capabilities to provide information that is relevant to explain the output",
        ("account", "failing", "honesty", "bypass"),
    ),
    Heading(
        "a13_b5",
        "(b)(v)",
        "performance on specific persons or groups of persons",
        ("groups", "intersections"),
    ),
    Heading(
        "a13_b6",
        "(b)(vi)",
        "specifications of input data; training, validation and testing data sets",
        ("preprocessing", "data", "evaluation"),
    ),
    Heading(
        "a13_b7",
        "(b)(vii)",
        "information to interpret the output and to use it appropriately",
        ("concepts", "calibration", "thresholds", "account"),
    ),
    Heading(
        "a13_c",
        "(c)",
        "changes that were pre-determined at the initial conformity assessment",
    ),
    Heading(
        "a13_d",
        "(d)",
        "human oversight measures, and technical measures to interpret outputs",
        ("interventions", "teaching", "account"),
    ),
    Heading(
        "a13_e",
        "(e)",
        "computational and hardware resources, expected lifetime, maintenance and updates",
        ("training",),
    ),
    Heading(
        "a13_f",
        "(f)",
        "mechanisms to collect, store and interpret logs (Article 12)",
    ),
)

PROMPTS = {
    heading.key: f"{place}{heading.point}: {heading.asks}"
    for place, headings in (("Annex IV ", ANNEX_IV), ("Article 13(3)", ARTICLE_13))
    for heading in headings
}
"""Key of a text -> what is to be written."""

_SAID = (
    "Laid out by headings of Regulation (EU) 2024/1689, shortened; its own words count. This is no legal advice: "
    "whether the system is of high risk, and whether what stands here suffices, is for its provider to say."
)


def eu_sections(texts: Mapping[str, str], titles: Mapping[str, str]) -> list[Section]:
    """Return the sections of the Regulation: under each point links to what was measured, and what a person writes.

    Args:
        texts: what a person has written, by key.
        titles: key of a section of the card -> its title.
    """
    parts = (("annex-iv", "Technical documentation (Annex IV)", ANNEX_IV), ("article-13", _ARTICLE, ARTICLE_13))
    return [
        Section(key, title, [Words(_SAID)], [_point(key, heading, texts, titles) for heading in headings])
        for key, title, headings in parts
    ]


_ARTICLE = "Information to deployers (Article 13(3))"


def _point(key: str, heading: Heading, texts: Mapping[str, str], titles: Mapping[str, str]) -> Section:
    blocks: list[Block] = []
    if heading.sections:
        blocks.append(Links([(section, titles[section]) for section in heading.sections]))
    blocks.append(ByHand(heading.key, PROMPTS[heading.key], texts.get(heading.key, "")))
    return Section(f"{key}-{heading.key}", f"{heading.point} {heading.asks}", blocks)
