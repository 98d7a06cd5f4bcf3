"""Local explanations add up, say where and from where, and draw boxes from the image's own map."""

import csv
import itertools

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.boxes import as_box, percentile_boxes, relative_boxes
from ibd.explain.figures import GREEN, ORANGE
from ibd.models.protopnet.explanations import (
    NearestPatch,
    find_places,
    local_explanation,
    local_explanations,
    patch_center,
    patch_field,
    sources_of,
    to_csv,
)
from ibd.models.protopnet.figures import field_note, global_figure, local_figure
from tests.model_makers import LARGE, TensorData, make_module, make_prototypes

IMAGES = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(9))


@pytest.fixture(scope="module")
def data():
    return TensorData(spec=LARGE)


@pytest.fixture(scope="module")
def model(data):
    return make_prototypes(data)


def of_image(rows, name):
    return [row for row in rows if row.image == name]


def test_contributions_add_up_to_the_logit(model):
    prediction = model.predict(IMAGES)
    rows = local_explanation(model, IMAGES)
    assert len(rows) == 5 * 6
    for i, best in enumerate(prediction.labels.tolist()):
        part = of_image(rows, f"image {i}")
        assert {row.class_name for row in part} == {prediction.classes[i]}
        assert sum(row.contribution for row in part) == pytest.approx(float(prediction.logits[i, best]), abs=1e-5)
        sizes = [abs(row.contribution) for row in part]
        assert sizes == sorted(sizes, reverse=True)
        for row in part:
            assert row.similarity * row.weight == pytest.approx(row.contribution, rel=1e-5)


def test_after_an_intervention_they_add_up_to_the_new_logit_of_any_class(model):
    changed = model.predict(IMAGES).intervene({"prototype 1": 0, 4: 2.5})
    rows = local_explanation(model, changed, classes=["cow"] * 5)
    for i in range(5):
        part = of_image(rows, f"image {i}")
        assert sum(row.contribution for row in part) == pytest.approx(float(changed.logits[i, 2]), abs=1e-5)
        assert next(row for row in part if row.prototype == 1).contribution == 0


@pytest.mark.parametrize("extent", [1, 2, 3])
def test_rows_say_where_and_from_where(data, extent):
    model = make_prototypes(data, extent=extent)
    prediction = model.predict(IMAGES)
    for row in local_explanation(model, prediction):
        heat = prediction.units.maps[int(row.image.split()[1]), row.prototype]
        assert heat[row.peak] == heat.max()
        y, x = patch_center(model, row.peak, heat.shape)
        around = torch.tensor([[y, x]])
        assert row.box == as_box(relative_boxes(heat[None], (32, 32), 0.5, patch_field(model), around)[0])
        assert row.box[0] <= y <= row.box[2]
        assert row.box[1] <= x <= row.box[3]
        assert row.owner == model.network.class_names[row.prototype // 2]
        assert row.source == model.sources()[row.prototype]


@pytest.mark.parametrize("extent", [1, 2, 3])
def test_a_patch_is_placed_in_the_middle_of_the_pixels_that_change_it(extent):
    model = make_prototypes(extent=extent)
    image = IMAGES[:1].double().requires_grad_()
    network = model.double().network
    grid = 4 - extent + 1
    peak = ((grid - 1) // 2 + (extent == 1),) * 2
    cells = network.features(image)[0, :, peak[0] : peak[0] + extent, peak[1] : peak[1] + extent]
    seen = torch.autograd.grad(cells.sum(), image)[0].abs().sum((0, 1)) > 0
    for axis, middle in enumerate(patch_center(model, peak, (grid, grid))):
        last = int(seen.any(1 - axis).nonzero().max())  # the first one may be cut off by the edge
        assert last + 1 - middle == patch_field(model).size[axis] / 2


def test_without_a_projection_there_is_no_source():
    model = make_prototypes()
    assert {row.source for row in local_explanation(model, IMAGES)} == {None}
    model.network.provenance.ever.fill_(True)  # trained on since
    assert {row.source for row in local_explanation(model, IMAGES)} == {None}


def test_a_loader_gives_what_its_images_give_without_padding(model, data):
    batches = list(data.loader("test"))
    batches[-1].index[-2:] = -1
    parts = list(local_explanations(model, batches, top=3, dataset=data.dataset("test")))
    assert [len(part) for part in parts] == [16 * 3, 12 * 3]
    images = data.splits["test"][0][:28]
    names = [f"tensor {i}" for i in range(28)]
    alone = local_explanation(model, images, top=3, names=names)
    for one, other in zip(itertools.chain.from_iterable(parts), alone, strict=True):
        assert (one.image, one.prototype, one.box, one.peak) == (other.image, other.prototype, other.box, other.peak)
        assert one.contribution == pytest.approx(other.contribution, abs=1e-5)


def test_csv(model, data, tmp_path):
    rows = local_explanation(model, IMAGES, top=2)
    assert to_csv((row for row in rows), tmp_path / "rows.csv") == 10
    with (tmp_path / "rows.csv").open() as file:
        read = list(csv.DictReader(file))
    assert len(read) == 10
    for text, row in zip(read, rows, strict=True):
        assert float(text["contribution"]) == pytest.approx(row.contribution, rel=1e-5)
        assert tuple(int(text[key]) for key in ("top", "left", "bottom", "right")) == row.box
        assert (int(text["row"]), int(text["column"])) == row.peak
        assert text["source"] == row.source.sample


def test_mistakes(model):
    with pytest.raises(UnsupportedError, match="a ConceptBottleneck has no prototypes"):
        local_explanation(make_module(), IMAGES[..., :16, :16])
    with pytest.raises(ConfigError, match=r"unknown class 'cows'\. Did you mean 'cow'"):
        local_explanation(model, IMAGES[:1], classes=["cows"])
    with pytest.raises(ConfigError, match="1 classes given for 5 images"):
        local_explanation(model, IMAGES, classes=["cow"])


def test_each_place_is_of_its_own_image(model):
    """The known error: once a prototype had been drawn, all that followed were drawn at its location."""
    prototypes = [0, 3, 3, 5, 0]
    together = find_places(model, IMAGES, prototypes, batch_size=2)
    for order in ([4, 3, 2, 1, 0], [1, 1, 1, 0, 2]):
        again = find_places(model, IMAGES[order], [prototypes[i] for i in order])
        assert again == [together[i] for i in order]
    maps = model.predict(IMAGES).units.maps
    for image, (unit, place) in enumerate(zip(prototypes, together, strict=True)):
        around = torch.tensor([place.center])
        assert place.box == as_box(
            relative_boxes(maps[image, unit][None], (32, 32), 0.5, patch_field(model), around)[0]
        )
    assert len({place.peak for place in together}) > 1


def test_a_prototype_is_found_at_its_source_after_others_were_drawn(model, data):
    sources = model.sources()
    local_explanation(model, IMAGES)
    find_places(model, IMAGES, [0] * 5)
    images = torch.stack([data.dataset("train")[source.index].image for source in sources])
    places = find_places(model, images, [source.prototype for source in sources])
    assert [place.peak for place in places] == [(source.row, source.column) for source in sources]


# Figures


def boxes_of(axis):
    """Return the boxes that are drawn, as (top, left, bottom, right)."""
    found = []
    for patch in axis.patches:
        if isinstance(patch, Rectangle):
            left, top = (value + 0.5 for value in patch.get_xy())
            found.append((round(top), round(left), round(top + patch.get_height()), round(left + patch.get_width())))
    return found


def nothing_is_cut_off(figure):
    FigureCanvasAgg(figure).draw()
    texts = [t for a in figure.axes for t in (a.title, a.xaxis.label, a.yaxis.label, *a.texts) if t.get_text()]
    for text in (*texts, figure._supxlabel):
        box = text.get_window_extent()
        assert box.x0 >= -1, text
        assert box.x1 <= figure.bbox.width + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= figure.bbox.height + 1, text


def test_local_figure(model, data):
    prediction = model.predict(IMAGES[:2]).intervene({"prototype 2": 3})
    figure = local_figure(model, prediction, IMAGES[:2], data, top=3, label=prediction.labels)
    nothing_is_cut_off(figure)
    rows = local_explanation(model, prediction, top=3)
    axes = list(figure.axes)
    assert len(axes) == 2 * 2 * 4
    assert axes[0].get_title().endswith("(right)")
    for i, row in enumerate(rows):
        image, column = divmod(i, 3)
        above, below = axes[8 * image + 1 + column], axes[8 * image + 5 + column]
        star = "*" if row.prototype == 2 else ""
        assert f"{row.similarity:.2f}{star} x {row.weight:+.2f} = {row.contribution:+.2f}" in above.get_title()
        assert to_hex(above.title.get_color()) == (GREEN if row.contribution >= 0 else ORANGE)
        assert boxes_of(above) == [row.box]
        assert row.source.sample in below.get_title()
        source = data.dataset("train")[row.source.index].image
        assert boxes_of(below) == [find_places(model, source[None], [row.prototype])[0].box]
    panel = axes[4].texts[0].get_text()
    assert f"= logit     {float(prediction.logits[0].max()):+7.2f}" in panel


def test_local_figure_without_the_training_images(model, data):
    """There is no data, or it is other data than the model was trained on."""
    renamed = TensorData(spec=LARGE)
    renamed.dataset = lambda split, augment=False: Renamed(data.dataset(split))
    for found in (None, renamed):
        figure = local_figure(model, model.predict(IMAGES[:1]), IMAGES[:1], found, top=2)
        nothing_is_cut_off(figure)
        assert len(figure.axes) == 3


class Renamed:
    """The images of a data set under other names."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index]

    def sample_id(self, index):
        return f"other {index}"


def patch(unit, split, rank, index, class_name):
    owner = ("ant", "bee", "cow")[unit // 2]
    return NearestPatch(unit, owner, split, rank, 0.1, 0.9, f"tensor {index}", index, 0, 0, class_name)


def test_global_figure(model, data):
    itself = sources_of(model)[3].index
    others = [i for i in range(5) if i != itself]
    nearest = [
        patch(3, "train", 1, others[0], "bee"),
        patch(3, "train", 0, itself, "bee"),
        patch(3, "train", 2, others[1], "cow"),
        patch(3, "train", 3, others[2], "bee"),
        patch(3, "test", 0, 7, "ant"),
        patch(0, "test", 0, 1, "ant"),
    ]
    figure = global_figure(model, data, nearest, [3], columns=2)
    nothing_is_cut_off(figure)
    axes = list(figure.axes)
    assert [axis.get_title() for axis in axes] == ["source", "train 1", "train 2", "test 1", "test 2"]
    assert axes[0].get_xlabel() == f"tensor {itself}"
    assert [axis.get_xlabel() for axis in axes[1:4]] == ["0.90", "0.90  cow", "0.90  ant"]
    assert [to_hex(axis.spines["top"].get_edgecolor()) == ORANGE for axis in axes[:4]] == [False, False, True, True]
    assert not axes[4].images
    pictures = [(data.splits["train"][0], itself), (data.splits["train"][0], others[0]),
                (data.splits["train"][0], others[1]), (data.splits["test"][0], 7)]  # fmt: skip
    for axis, (images, index) in zip(axes, pictures, strict=False):
        assert boxes_of(axis) == [find_places(model, images[index : index + 1], [3])[0].box]
    model.network.mask[3] = False
    assert "(pruned)" in global_figure(model, data, nearest, [3]).axes[0].get_ylabel()
    model.network.mask[3] = True


def test_the_receptive_field_is_told_with_a_warning_where_it_is_the_whole_image():
    small, large = make_prototypes(), make_prototypes(extent=4)
    assert field_note(small).startswith("A patch depends on up to ")
    assert field_note(large).startswith("Warning: a patch depends on ")


def test_the_published_box_is_an_option(model):
    rows = local_explanation(model, IMAGES[:1], top=3, percentile=95)
    maps = model.predict(IMAGES[:1]).units.maps[0]
    index = [int(row.prototype) for row in rows]
    expected = [as_box(box) for box in percentile_boxes(maps[index], (32, 32), 95)]
    assert [row.box for row in rows] == expected
    assert [
        place.box for place in find_places(model, IMAGES[:1].expand(3, -1, -1, -1), index, percentile=95)
    ] == expected
