import pytest
from config_stand_ins import ConceptBottleneck, Folder, Many, ResNet, SmallCNN, write

from ibd import registry


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch, tmp_path):
    """Registries of stand-ins, and a folder with configurations to work in."""

    def here(**classes):
        return {name: f"config_stand_ins:{cls.__name__}" for name, cls in classes.items()}

    monkeypatch.setitem(registry.REGISTRY, "models", here(cbm=ConceptBottleneck, many=Many))
    monkeypatch.setitem(registry.REGISTRY, "datasets", here(folder=Folder))
    monkeypatch.setitem(registry.REGISTRY, "backbones", here(small_cnn=SmallCNN, resnet18=ResNet, resnet34=ResNet))
    monkeypatch.delitem(registry.COMMON, "backbones")
    for block in registry.SETTINGS:
        monkeypatch.setitem(registry.SETTINGS, block, "config_stand_ins:Settings")
    monkeypatch.chdir(tmp_path)
    write("configs/base.yaml", "seed: 3\ndata: {name: folder, root: pictures, seed: '${seed}'}\n")
    write("configs/cbm.yaml", "base: base.yaml\nmodel:\n  name: cbm\n  backbone: resnet18\n")
    write("configs/many.yaml", "base: base.yaml\nmodel: many\n")
