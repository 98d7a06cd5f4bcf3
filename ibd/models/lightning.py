"""What the training of every model shares: steps, metrics, optimizer, prediction."""

from __future__ import annotations

import abc
import math
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from ibd import registry
from ibd.backbones import fade_during, faded, freezing_of, prefers_channels_last
from ibd.data.base import ImageDataModule
from ibd.distributed import world_size
from ibd.errors import CheckpointError, ConfigError, DataError, UnsupportedError
from ibd.io import MODEL_KEY, rebuild
from ibd.metrics.classes import BalancedAccuracy
from ibd.models.base import InterpretableNetwork
from ibd.models.inputs import checked
from ibd.models.optimizer import OptimizerSettings, build_optimizer, build_schedule
from ibd.models.prediction import Prediction
from ibd.models.trained import TrainedModel
from ibd.types import Batch, DataSpec, Output

UNFINISHED_KEY = "ibd_unfinished"
"""The checkpoint entry with what `InterpretableModule.finish` replaced, for a training that is continued."""


class InterpretableModule(TrainedModel, pl.LightningModule, abc.ABC):
    """A network with its losses, metrics and optimizer.

    A subclass builds `network` and `metrics`, and says in `losses` what is minimized.

    Attributes:
        network: the pure network.
        spec: description of its data.
        metrics: torchmetrics collections by ``{split}_{kind}``.
        epochs: length of the training where the model says so, by its phases; None leaves it to the trainer.
        monitor: name and direction ("min" or "max") of the validation metric that picks the best checkpoint.
        monitor_advice: advice for when that metric is never a number.
        nan_advice: advice for when the loss is no number.
    """

    config_excludes = ("spec", "optimizer")
    needs_images: str | None = "its network makes units of images"
    """Why a training reads images, be the backbone frozen; None where features are enough."""
    network: InterpretableNetwork
    epochs: int | None = None
    monitor: tuple[str, str] = ("val/accuracy", "max")
    monitor_advice: str = ""
    nan_advice: str = "Try a lower optimizer.lr or trainer.gradient_clip_val=1"

    def __init__(self, spec: DataSpec, network: InterpretableNetwork, optimizer: dict[str, Any] | None) -> None:
        super().__init__(spec, network)
        self.optimizer_settings = OptimizerSettings(**(optimizer or {}))
        kinds = self.build_metrics()
        self.metrics = nn.ModuleDict(  # the underscores keep clear of nn.Module's own `train`
            {f"{split}_{kind}": m.clone(f"{split}/") for split in ("train", "val", "test") for kind, m in kinds.items()}
        )

    def save_plain(self, backbone: dict[str, Any], **hyper_parameters: Any) -> None:
        """Save what rebuilds this module, as plain values.

        Initial weights are left out, and where features are kept: a checkpoint holds the weights, and must load where
        those files are not.
        """
        architecture = {key: value for key, value in backbone.items() if key not in ("weights", "init_from", "cache")}
        self.hparams.clear()  # a subclass's arguments take the place of its parent's
        self.save_hyperparameters({"spec": self.spec.to_dict(), "backbone": architecture, **hyper_parameters})

    def build_metrics(self) -> dict[str, MetricCollection]:
        """Return the metrics of one split, by kind; `metric_inputs` says what each kind is updated with."""
        classes = len(self.spec.class_names)
        accuracy = MulticlassAccuracy(classes, average="micro")
        return {"class": MetricCollection({"accuracy": accuracy, "balanced_accuracy": BalancedAccuracy(classes)})}

    def metric_inputs(self, output: Output, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the (predictions, targets) of each kind of metric."""
        return {"class": (output.logits, batch.label)}

    @abc.abstractmethod
    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms to log, among them "loss", which is minimized."""

    def has_learned(self, epoch: int) -> bool:
        """Return whether the model of an epoch, counted from 0, has learned from labels to tell the classes.

        Only such an epoch may be the best one, or count for the patience of early stopping.
        """
        return True

    def left_out(self, epochs: int) -> list[str]:
        """Return what a training of so many epochs leaves out of the phases of the model, which have more."""
        return []

    def finish(self, data: ImageDataModule) -> dict[str, float]:
        """Complete a trained model before it is saved for good; runs in one process, without a trainer.

        Returns:
            Figures to log.
        """
        return {}

    def check_data(self, data: ImageDataModule) -> None:
        """Look at what the training will need, before anything is written; runs in the first process alone.

        Raises:
            DataError: something is missing or damaged.
        """

    def sidecar(self) -> dict[str, str]:
        """Return what a finished checkpoint gets beside it, for readers without this package: ending -> text.

        ``{"prototypes.json": ...}`` becomes ``best.prototypes.json`` beside ``best.ckpt``.
        """
        return {}

    def answer(self, batch: Batch) -> Output:
        """Return logits and units of a batch of images, or of what a frozen backbone makes of them."""
        return self(batch.image) if batch.features is None else self.from_features(batch.features)

    def from_features(self, features: Tensor) -> Output:
        """Return logits and units of the (B, D, h, w) features of a frozen backbone.

        Raises:
            UnsupportedError: the network needs images.
        """
        units = self.network.encode_features(features.to(next(self.network.parameters()).dtype))
        return Output(self.network.decode(units), units)

    @property
    def frozen(self) -> bool:
        """Whether the backbone stays as it is."""
        return freezing_of(self.network.backbone).frozen

    def train(self, mode: bool = True) -> Self:
        """Go to training or evaluation mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.network.backbone.eval()
        return self

    def use_fast_layout(self, device: torch.device | None = None) -> None:
        """Lay the backbone's weights out as is fastest on a device, by default the current one."""
        self.channels_last = prefers_channels_last(self.network.backbone, device or self.device)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        self.network.backbone.to(memory_format=layout)

    def configure_model(self) -> None:
        """Choose the memory layout, before DDP wraps the model: what it sums up later has the layout of now."""
        if self._trainer is not None and self.trainer.training:
            self.calibration = self.thresholds = None  # which are of the weights as they were
            self.use_fast_layout(self.trainer.strategy.root_device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, logging its terms."""
        output = self.answer(batch)
        terms = self.losses(output, batch)
        self._update_metrics(output, batch, "train")
        logged = {f"train/{name}": value.detach() for name, value in terms.items()}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=self._weight(batch), sync_dist=True)
        self.log("loss", terms["loss"].detach(), prog_bar=True, logger=False)
        return terms["loss"]

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Go on converting the backbone, if it is one that `bcosify` made, by the share of the training that is done.

        Raises:
            ConfigError: that is not known, as the training has no end.
        """
        backbone = self.network.backbone
        if faded(backbone) == 1:
            return
        steps = self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise ConfigError(
                "model.backbone.fade: a conversion needs to know how long the training is: set trainer.max_epochs or "
                "trainer.max_steps"
            )
        fade_during(backbone, (self.trainer.global_step + 1) / steps)

    def on_train_epoch_end(self) -> None:
        """Log the training metrics of the epoch, and the learning rate it ended with."""
        self._log_metrics("train")
        self.log_rates()

    def log_rates(self) -> None:
        """Log the learning rate."""
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])

    def _weight(self, batch: Batch) -> int:
        """Return what Lightning is to weigh a batch's mean with.

        It averages these integers over the processes, and rounds down (65 images would be 64): hence a multiple.
        """
        return len(batch) * world_size()

    def _evaluate(self, batch: Batch, split: str) -> Output | None:
        batch = batch.select(batch.index >= 0)  # padding that evens out the processes' shares is not counted
        if not len(batch):
            return None
        output = self.answer(batch)
        self._update_metrics(output, batch, split)
        terms = {f"{split}/{name}": value for name, value in self.losses(output, batch).items()}
        self.log_dict(terms, on_step=False, on_epoch=True, batch_size=self._weight(batch), sync_dist=True)
        return output

    def _update_metrics(self, output: Output, batch: Batch, split: str) -> None:
        detached = Output(output.logits.detach(), output.units.detach())
        for kind, inputs in self.metric_inputs(detached, batch).items():
            self.metrics[f"{split}_{kind}"].update(*inputs)  # type: ignore[operator]

    def _log_metrics(self, split: str) -> None:
        for name, metrics in self.metrics.items():
            if name.startswith(f"{split}_"):
                self.log_dict(metrics.compute(), prog_bar=split != "train")  # type: ignore[operator]
                metrics.reset()  # type: ignore[operator]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score a batch of the validation split."""
        self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        """Score a batch of the test split; return its `Output`, for callbacks."""
        return self._evaluate(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log_metrics("test")

    def configure_optimizers(self) -> Any:
        """Build the optimizer and its schedule from the settings.

        Raises:
            ConfigError: the schedule needs the length of the training, which has no end.
        """
        settings, trainer = self.optimizer_settings, self.trainer
        optimizer = build_optimizer(self.network, settings)
        steps = trainer.estimated_stepping_batches
        if math.isinf(steps) and settings.schedule in ("cosine", "onecycle"):
            raise ConfigError(
                f"optimizer.schedule: '{settings.schedule}' needs to know how long the training is: set "
                "trainer.max_epochs or trainer.max_steps, or take 'constant' or 'step'"
            )
        per_epoch = 0
        if settings.schedule == "step":
            trainer.fit_loop.setup_data()  # the estimate above does without, where the training has no end
            per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        schedule = build_schedule(optimizer, settings, steps, per_epoch)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def save(self, path: str | Path) -> None:
        """Write the model, with whatever was edited in it, as a checkpoint that `ibd.load_model` reads.

        Raises:
            CheckpointError: it cannot be written.
        """
        weights = {name: value.cpu() for name, value in self.state_dict().items()}
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            torch.save({**self._described(), "state_dict": weights}, path)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"cannot write '{path}': {error}") from error

    def _described(self) -> dict[str, Any]:
        """Return what a file must say of the model beside its weights, as plain values."""
        return {
            MODEL_KEY: registry.name_of("models", type(self)),
            "hyper_parameters": dict(self.hparams),
            "pytorch-lightning_version": pl.__version__,  # type: ignore[attr-defined]
            **self.calibration_entry(),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down which class can read this checkpoint."""
        checkpoint[MODEL_KEY] = registry.name_of("models", type(self))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue a training from where it was before it was finished; everything else reads the finished model.

        Raises:
            CheckpointError: it is that of another model.
        """
        mine, found = registry.name_of("models", type(self)), checkpoint.get(MODEL_KEY)
        if found is not None and found != mine:
            raise CheckpointError(f"the checkpoint holds a '{found}', not a '{mine}': ibd.load_model reads any")
        training = self._trainer is not None and self.trainer.state.fn == "fit"
        if training:
            checkpoint["state_dict"] |= checkpoint.get(UNFINISHED_KEY, {})
        self.take_calibration({} if training else checkpoint, loaded=False)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, trust: bool = False, **kwargs: Any) -> Self:
        """Return the module of a checkpoint in training mode, by Lightning; `ibd.load_model` finds more mistakes.

        Args:
            checkpoint_path: checkpoint.
            args: further arguments of Lightning.
            trust: whether classes that are none of ours may be named in it, as of `ibd.load_model`.
            kwargs: further arguments of Lightning, and options of the model in the place of those in the checkpoint.

        Raises:
            UntrustedError: it names a class that is none of ours.
            CheckpointError: it is that of another model.
        """
        with registry.trusting(trust), registry.loading():
            return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Write the model into a folder as the Hugging Face Hub has it: config.json, model.safetensors, a model card.

        Args:
            folder: folder, which is made.
            options: further options of ``huggingface_hub.ModelHubMixin.save_pretrained``.

        Raises:
            UnsupportedError: huggingface_hub or safetensors is not installed.
        """
        _hub().HubModel(self._described(), self.state_dict()).save_pretrained(folder, **options)

    def push_to_hub(self, name: str, **options: Any) -> str:
        """Write the model into a repository of the Hugging Face Hub, ``owner/name``; return the address of the commit.

        Args:
            name: name of the repository, which is made.
            options: further options of ``huggingface_hub.ModelHubMixin.push_to_hub``: ``private``, ``token``, ...

        Raises:
            UnsupportedError: huggingface_hub or safetensors is not installed.
        """
        return str(_hub().HubModel(self._described(), self.state_dict()).push_to_hub(name, **options))

    @classmethod
    def from_pretrained(cls, name: str | Path, trust: bool = False, **options: Any) -> Self:
        """Return the model of a folder by `save_pretrained`, or of a repository; in evaluation mode, on the CPU.

        Args:
            name: a folder, or ``owner/name`` on the Hub.
            trust: whether classes that are none of ours may be named in it, as of `ibd.load_model`.
            options: further options of the mixin: ``revision``, ``token``, ``cache_dir``, ``local_files_only``, ...

        Raises:
            CheckpointError: there is no such model, or it is damaged, of another class, or not to be trusted.
            UnsupportedError: huggingface_hub or safetensors is not installed.
        """
        path, content = _hub().read(name, **options)
        module = rebuild(path, content, trust)
        if not isinstance(module, cls):
            raise CheckpointError(f"'{name}' holds a {type(module).__name__}, not a {cls.__name__}")
        return module

    def predict_step(self, batch: Any, batch_idx: int = 0, dataloader_idx: int = 0) -> Prediction:
        """Return the `Prediction` of a batch, for ``Trainer.predict``; `Prediction.join` puts several together.

        Args:
            batch: batch of our data, without the padding of several processes; or images (B, 3, H, W) in [0, 1], alone
                or as the first of a tuple or list.
            batch_idx: not looked at.
            dataloader_idx: not looked at.

        Raises:
            DataError: images of another shape, type or range.
        """
        names: list[str] = []
        image = batch[0] if isinstance(batch, list | tuple) and batch else batch
        if isinstance(batch, Batch):
            batch = batch.select(batch.index >= 0)
            image, names = batch.image, [f"image {index}" for index in batch.index.tolist()]
        if not isinstance(image, Tensor):
            raise DataError(f"a batch to predict is images, or begins with them, and no {type(image).__name__}")
        with torch.inference_mode(False), torch.no_grad():  # what is predicted can be edited later
            logits, units = self(checked(image, self.spec.image_size))
        return self.prediction(logits, units, names)


def _hub() -> ModuleType:
    """Return the module that reads and writes what the Hugging Face Hub has.

    Raises:
        UnsupportedError: what it needs is not installed.
    """
    try:
        from ibd.models import hub
    except ImportError as error:
        raise UnsupportedError(f"the Hugging Face Hub needs {error.name}: pip install 'ibd[hub]'") from error
    return hub
