"""Toy birds as a person would bring them: images in folders, and what three people say of them who err."""

from pathlib import Path

import numpy as np
from PIL import Image

from ibd.data.base import SPLITS
from ibd.data.toybirds import PARTS, ToyBirds
from tests.data_makers import write_rows


def write_soft_birds(root, annotators=3, wrong=0.1, seed=0, **options):
    """Write toy birds and a concept file for each annotator, and return the files' names and the true sizes.

    Each says which variant of beak, eye and foot a bird has, a word; whether its tail and its wing are round, yes or
    no; and how large the bird is, in pixels, which the scene knows exactly and they measure to a tenth. With the
    probability `wrong` an answer is another one.

    Args:
        root: folder to write to.
        annotators: number of files.
        wrong: probability of a wrong answer of words, and yes or no.
        seed: seed of the wrong answers.
        options: options of `ToyBirds`.
    """
    root, rng = Path(root), np.random.default_rng(seed)
    data = ToyBirds("tiny", **options)
    variants = {
        part: sorted({n.split("::")[1] for n in data.spec.concept_names if n.startswith(f"{part}::")}) for part in PARTS
    }
    rows, sizes = [[] for _ in range(annotators)], {}
    for split in SPLITS:
        dataset = data.dataset(split)
        for index in range(len(dataset)):
            scene, path = (
                dataset.scene(index),
                f"{split}/{data.spec.class_names[int(dataset.labels[index])]}/{index:04d}.png",
            )
            pixels = (dataset[index].image.permute(1, 2, 0) * 255).round().byte().numpy()
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / path)
            sizes[path] = scene.pose.scale * pixels.shape[0]
            for said in rows:
                words = [_said(scene.parts[part], variants[part], wrong, rng) for part in ("beak", "eye", "foot")]
                yes = [
                    float((scene.parts[part] in variants[part][:2]) != (rng.random() < wrong))
                    for part in ("tail", "wing")
                ]
                said.append([path, *words, *yes, f"{sizes[path] + rng.normal(0, 0.1):.2f}"])
    names = [f"annotator_{number}.csv" for number in range(annotators)]
    for name, said in zip(names, rows, strict=True):
        write_rows(root / name, [["image", "beak", "eye", "foot", "plain_tail", "plain_wing", "size [px]"], *said])
    return names, sizes


def _said(truth, words, wrong, rng):
    """Return the truth, or another word."""
    return truth if rng.random() >= wrong else str(rng.choice([word for word in words if word != truth]))
