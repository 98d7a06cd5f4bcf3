"""Birds pasted on places, with labels of either: what explanations should and should not show (`PastedScenes`)."""

from ibd.data.pasted.datamodule import PastedDataset, PastedScenes

__all__ = ["PastedDataset", "PastedScenes"]
