"""The strangest clusters of relevance maps, as the page shows them."""

from __future__ import annotations

from dataclasses import dataclass

from ibd.comparison.report.pictures import Picture, map_picture, small_picture
from ibd.comparison.report.tables import Table
from ibd.comparison.results import Comparison, ShownCluster


@dataclass(frozen=True)
class ClusterRow:
    """A cluster: what is said of it, its mean image with its relevance, and images with their maps."""

    title: str
    strangeness: str
    said: list[str]
    mean: Picture
    examples: list[tuple[Picture, Picture]]


def cluster_rows(comparison: Comparison, table: Table) -> list[ClusterRow]:
    """Return the strangest clusters of a family's first model that has any."""
    models = [model.name for model in table.models if model.name in comparison.clusters]
    return [_row(cluster) for cluster in comparison.clusters[models[0]]] if models else []


def _row(cluster: ShownCluster) -> ClusterRow:
    kinds = f"one of {cluster.kinds} kinds" if cluster.kinds > 1 else "the only kind"
    said = [
        f"{cluster.images} of {cluster.of} images, {kinds} (gap {cluster.gap:.2f}, by chance {cluster.chance:.2f})",
        f"half of its relevance on {cluster.half:.1%} of the image",
    ]
    pairs = zip(cluster.examples, cluster.maps, strict=True)
    return ClusterRow(
        cluster.class_name,
        f"{cluster.strangeness:.2f}",
        [*said, cluster.lies_on] if cluster.lies_on else said,
        small_picture(map_picture(cluster.mean, cluster.relevance), "the mean relevance on the mean image"),
        [
            (small_picture(image, "a typical image"), small_picture(map_picture(image, heat), "its relevance map"))
            for image, heat in pairs
        ],
    )
