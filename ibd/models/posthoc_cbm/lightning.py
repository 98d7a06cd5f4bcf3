"""Making a post-hoc bottleneck: no gradient reaches the frozen network, and every part is fitted to its end at once."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection

from ibd.backbones import build_backbone
from ibd.config import Block
from ibd.data.base import ImageDataModule
from ibd.distributed import world_size
from ibd.errors import ConfigError, DataError, check_range
from ibd.explain.cav import Classifier, Fit
from ibd.explain.discovery.scorers import find_scorer, read_texts
from ibd.metrics.classes import AccuracyByHead
from ibd.metrics.concepts import ConceptAccuracy, ConceptAUROC
from ibd.models.base import evaluating
from ibd.models.lightning import InterpretableModule
from ibd.models.posthoc_cbm import label_free
from ibd.models.posthoc_cbm.concepts import Concepts, from_labels, load, standardized, without_constants
from ibd.models.posthoc_cbm.heads import fit_rest, spread
from ibd.models.posthoc_cbm.network import PosthocNetwork
from ibd.models.posthoc_cbm.reading import Seen, read
from ibd.models.sparse_heads import Heads, fit_heads, possible_budgets
from ibd.types import Batch, DataSpec, Output

LABELS = "labels"


class PosthocBottleneck(InterpretableModule):
    """A concept bottleneck on a network that is trained already, made in seconds (Yuksekgonul et al. 2023).

    Args:
        spec: concepts, classes and image size of the data, as a `DataSpec` or its plain values.
        backbone: the network that stays as it is: its name, its weights or init_from, and its own options.
        concepts: "labels" for the concepts of the data; or the file of directions that ``ibd discover`` wrote; or, with
            a scorer, a file with a text in each line.
        scorer: package.module:function of images (B, 3, H, W) in [0, 1] and K texts, which returns (B, K) how well they
            go together, such as a text-image model of yours; null without texts.
        classifier: what finds the plane of a labelled concept: "svm", "ridge" or "logistic".
        examples: images with a labelled concept, and as many without, that its plane is fitted on.
        share: share of the absolute values in the penalty of the head, above 0 to 1.
        effective_concepts: concepts a class that the head uses on average; null leaves it to the validation images.
        rest: whether to add what the features say for each class beyond the concepts, as units without a name.
        cutoff: least mean of the five highest scores of a text; null takes any (0.25 was published for CLIP ViT-B/16).
        similarity: least similarity of what is learned of a text to its scores, on validation images.
        units: what the concepts have become, written by a training; null in a configuration.
        optimizer: not used: every problem here is solved to its end.
    """

    network: PosthocNetwork
    needs_images = None
    epochs = 1
    automatic_optimization = False

    def __init__(
        self,
        spec: DataSpec | dict[str, Any],
        backbone: Annotated[dict[str, Any], Block("backbones")],
        concepts: str = LABELS,
        scorer: str | None = None,
        classifier: Classifier = "svm",
        examples: int = 100,
        share: float = 0.99,
        effective_concepts: float | None = None,
        rest: bool = False,
        cutoff: float | None = None,
        similarity: float = 0.45,
        units: dict[str, Any] | None = None,
        optimizer: dict[str, Any] | None = None,
    ) -> None:
        spec = DataSpec.from_dict(spec) if isinstance(spec, dict) else spec
        self.concept_fit = Fit(classifier, examples)
        check_range("model.share", share, above=0)
        if share > 1:
            raise ConfigError(f"model.share: {share} given, at most 1 is needed")
        if effective_concepts is not None:
            check_range("model.effective_concepts", effective_concepts, above=0)
        frozen = build_backbone({**backbone, "frozen": True})
        self.fitted = units is not None
        given = None if self.fitted else _given(concepts, scorer, spec, frozen.out_channels)
        if units is None:
            assert given is not None
            units = {"names": given.names, **given.units}
        super().__init__(spec, PosthocNetwork(frozen, spec, units, rest), optimizer)
        if given is not None and given.vectors.numel():
            self.network.set_directions(given.vectors, given.offsets)
        if effective_concepts is not None and effective_concepts > self.network.concept_count:
            raise ConfigError(
                f"model.effective_concepts: {effective_concepts} given, there are {self.network.concept_count} concepts"
            )
        self.given, self.scorer = given, scorer
        self.share, self.effective_concepts = share, effective_concepts
        self.filters = label_free.Filters(cutoff, similarity)
        self.save_plain(
            backbone={**backbone, "frozen": True},
            concepts=concepts,
            scorer=scorer,
            classifier=classifier,
            examples=examples,
            share=share,
            effective_concepts=effective_concepts,
            rest=rest,
            cutoff=cutoff,
            similarity=similarity,
            units=units,
            optimizer=optimizer,
        )

    def build_metrics(self) -> dict[str, MetricCollection]:
        """Return the class metrics, also with few effective concepts, and those of labelled concepts."""
        kinds = super().build_metrics()
        if self.network.budgets:
            kinds["few"] = MetricCollection({"few": AccuracyByHead([f"nec{n}" for n in self.network.budgets], "anec")})
        if self.network.truth_values:
            kinds["concept"] = MetricCollection({"concept_accuracy": ConceptAccuracy()})
            kinds["ranking"] = MetricCollection({"concept_auroc": ConceptAUROC()})
        return kinds

    def metric_inputs(self, output: Output, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Return (predictions, targets) of each kind."""
        network, inputs = self.network, super().metric_inputs(output, batch)
        if network.budgets:
            inputs["few"] = network.few_logits(output.units), batch.label
        if network.truth_values:
            scores = output.units.scores[:, : network.concept_count]
            truth = network.labelled(batch.concepts)
            inputs |= {"concept": (scores.sigmoid(), truth), "ranking": (scores, truth)}
        return inputs

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        return {"loss": F.cross_entropy(output.logits, batch.label)}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Score a batch of the training images; nothing learns."""
        with torch.no_grad():
            loss = super().training_step(batch, batch_idx)
        self.optimizers().step()  # type: ignore[union-attr]  # at a rate of 0: Lightning counts it
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return an optimizer that changes nothing."""
        return torch.optim.SGD(self.network.head.parameters(), lr=0.0)

    def log_rates(self) -> None:
        """Log nothing: there is no rate."""

    def check_data(self, data: ImageDataModule) -> None:
        """Look whether there are enough images.

        Raises:
            DataError: there are fewer training images than concepts.
        """
        images, count = len(data.dataset("train")), self.network.concept_count
        if images < count:
            raise DataError(f"there are {images} training images for {count} concepts: at least as many are needed")

    def setup(self, stage: str) -> None:
        """Refuse what would be done in each of several processes.

        Raises:
            ConfigError: there are several.
        """
        if stage == "fit" and world_size() > 1:
            raise ConfigError("trainer.devices: a post-hoc bottleneck is made in seconds, in one process: 1 is needed")

    def on_fit_start(self) -> None:
        """Make the bottleneck, unless it is that of a run that goes on."""
        if not self.fitted:
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            if data is None:
                raise ConfigError("a post-hoc bottleneck needs trainer.fit(model, datamodule=...)")
            self.make(data)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over what the concepts of a checkpoint are, before its weights."""
        super().on_load_checkpoint(checkpoint)
        self._adopt(checkpoint["hyper_parameters"]["units"])
        self.fitted = True

    @torch.no_grad()
    def make(self, data: ImageDataModule) -> None:
        """Find the concepts, and fit the heads.

        Args:
            data: the images; validation images choose the penalty.

        Raises:
            DataError: no concept can be found.
        """
        self.use_fast_layout()
        with evaluating(self), torch.random.fork_rng(devices=[]):
            train, val = read(self.network, data, "train"), read(self.network, data, "val")
            found = self._find(data, train, val)
            found, keep = without_constants(found, self._scores(found, train))
            found = standardized(found, self._scores(found, train, keep))
            scores = [self._scores(found, seen, keep) for seen in (train, val)]
            heads = self._sparse_heads(train, val, *scores)
            self._adopt({"names": found.names, **found.units, "budgets": list(heads.few)})
            self.network.set_directions(found.vectors, found.offsets)
            self._set_heads(heads, train, val, *scores)
        self.fitted = True

    def _find(self, data: ImageDataModule, train: Seen, val: Seen) -> Concepts:
        """Return the concepts, of which some may be constant."""
        if self.given is not None and self.given.vectors.numel():
            return self.given
        if self.scorer is None:
            return from_labels(train, val, [self.spec.concept_names[k] for k in self.spec.truths], self.concept_fit)
        texts, scorer = self.network.unit_names[: self.network.concept_count], find_scorer(self.scorer)
        scores, val_scores = (label_free.scores_of(scorer, texts, data, split) for split in ("train", "val"))
        return label_free.from_scores(train, val, scores, val_scores, texts, self.filters)

    def _scores(self, found: Concepts, seen: Seen, keep: Tensor | None = None) -> Tensor:
        """Return the (N, K) activations of concepts, float64; of what is not linear, those that the network had.

        Args:
            found: concepts.
            seen: images.
            keep: which of the network's concepts they are; None is all.
        """
        if found.units.get("reading", "linear") != "linear":
            return seen.scores.double() if keep is None else seen.scores[:, keep].double()
        return seen.features.double() @ found.vectors.double().t() + found.offsets.double()

    def _sparse_heads(self, train: Seen, val: Seen, scores: Tensor, val_scores: Tensor) -> Heads:
        """Fit the sparse heads on (N, K) scores."""
        sizes = len(self.spec.class_names), possible_budgets(scores.shape[1])
        learned, judged = (scores, train.labels), (val_scores, val.labels)
        return fit_heads(learned, judged, *sizes, self.effective_concepts, self.share)

    def _set_heads(self, heads: Heads, train: Seen, val: Seen, scores: Tensor, val_scores: Tensor) -> None:
        """Let the network have the heads, and fit the rest where there is one."""
        network = self.network
        network.set_head(heads.head, heads.few.values())
        if len(network.unit_names) > network.concept_count:
            logits = [heads.head.logits(part) for part in (scores, val_scores)]
            rest = fit_rest((train.features, train.labels), (val.features, val.labels), *logits)
            network.set_rest(*rest)
            scores = torch.cat([scores, train.features.double() @ rest[0].t() + rest[1]], 1)
        for buffer, values in zip((network.deviation, network.low, network.high), spread(scores), strict=True):
            buffer.copy_(values)

    def _adopt(self, units: dict[str, Any]) -> None:
        """Let the network have these concepts, which may be fewer than those it was made with."""
        before = self.network
        rest = len(before.unit_names) > before.concept_count
        self.network = PosthocNetwork(before.backbone, self.spec, units, rest).to(before.head.weight.device)
        self.hparams["units"] = units
        kinds = self.build_metrics()
        for name in list(self.metrics):
            split, _, kind = name.partition("_")
            if kind in kinds:
                self.metrics[name] = kinds[kind].clone(f"{split}/")
            else:
                del self.metrics[name]


def _given(concepts: str, scorer: str | None, spec: DataSpec, channels: int) -> Concepts:
    """Return the concepts that a configuration asks for, without vectors where these are still to be found.

    Raises:
        ConfigError: there are none, or directions that do not fit, or texts without a scorer.
        DataError: a file that cannot be read.
    """
    nothing = torch.zeros(0, channels), torch.zeros(0)
    if scorer is not None:
        if concepts == LABELS:
            raise ConfigError("model.scorer: it goes with model.concepts=FILE, of a text in each line")
        return Concepts(read_texts(concepts, "model.concepts"), *nothing, {"reading": "linear"})
    if concepts != LABELS:
        if not concepts.endswith(".npz"):
            raise ConfigError(
                f"model.concepts: '{concepts}' given: 'labels', a file of directions (.npz), or with model.scorer a "
                "file of texts is needed"
            )
        return load(concepts, channels)
    if not spec.truths:
        none = "has quantities alone, which have no examples" if spec.concept_names else "has none"
        raise ConfigError(f"model.concepts: 'labels' given, and this data {none}: find some with `ibd discover`")
    return Concepts([spec.concept_names[k] for k in spec.truths], *nothing, {"truth": True})
