"""What a person may write of concepts, against values counted by hand: soft, uncertain, several, words, numbers."""

import math

import pytest
import torch

from ibd.data.concept_sources import choose_exclusive, quantities_of, read_concepts
from ibd.data.folder import ConceptFolder
from ibd.errors import ConfigError, DataError
from ibd.types import groups_of
from tests.data_makers import make_concept_folder, write_rows

NAN = math.nan
CLASSES = ["cat", "dog"]
IMAGES = ["a.png", "b.png", "c.png"]


def source(tmp_path, *files, kinds=None):
    """Read files given as lists of lines."""
    paths = [tmp_path / f"{number}.csv" for number in range(len(files))]
    for path, lines in zip(paths, files, strict=True):
        path.write_text("\n".join(lines))
    return read_concepts(paths, kinds or {}, CLASSES, IMAGES)


def rows(values):
    return [[None if math.isnan(v) else round(v, 6) for v in row] for row in values.tolist()]


def refused(tmp_path, *files, **options):
    with pytest.raises((DataError, ConfigError)) as caught:
        source(tmp_path, *files, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_soft_values_are_kept(tmp_path):
    found = source(tmp_path, ["image,wet,cold", "a.png,0.25,1", "b.png,,0.5", "c.png,1e-1,0.0"])
    assert found.names == ("wet", "cold")
    assert rows(found.images) == [[0.25, 1], [None, 0.5], [0.1, 0]]
    assert str(found) == "2 true or false"


def test_a_certainty_moves_a_value_towards_no_answer(tmp_path):
    """With certainty c, c v + (1 - c) / 2: the words are those of CUB, whose published soft values these are."""
    lines = ["image,wet,wet [certainty]", "a.png,1,probably", "b.png,0,guessing", "c.png,1,not visible"]
    assert rows(source(tmp_path, lines).images) == [[0.75], [0.5], [None]]
    lines = ["image,wet [certainty],wet", "a.png,,1", "b.png,0.2,0", "c.png,1,"]
    assert rows(source(tmp_path, lines).images) == [[1], [0.4], [None]]


def test_words_become_an_exclusive_group(tmp_path):
    found = source(tmp_path, ["class,color,wet", "cat,red,1", "dog, blue ,0"])
    assert found.names == ("color::blue", "color::red", "wet")
    assert rows(found.classes) == [[0, 1, 1], [1, 0, 0]]
    assert found.categories == ("color",)
    assert str(found) == "1 true or false; color (blue, red)"
    assert rows(source(tmp_path, ["class,color", "cat,red", "dog,"]).classes) == [[1], [None]]


def test_the_certainty_of_a_word_is_shared_by_all_words(tmp_path):
    lines = ["image,color,color [certainty]", "a.png,red,0.7", "b.png,blue,1", "c.png,green,not visible"]
    assert rows(source(tmp_path, lines).images) == [[0.1, 0.1, 0.8], [1, 0, 0], [None, None, None]]


def test_numbers_keep_their_unit(tmp_path):
    found = source(tmp_path, ["image,size [mm],eggs []", "a.png,12.5,3", "b.png,-1e2,", "c.png,7,0"])
    assert found.names == ("size", "eggs")
    assert found.numbers == {"size": "mm", "eggs": ""}
    assert rows(found.images) == [[12.5, 3], [-100, None], [7, 0]]
    assert str(found) == "size in mm; eggs, a number"


def test_kinds_say_what_cells_do_not(tmp_path):
    lines = ["class,grade,year,known", "cat,1,2019,yes", "dog,2,2021,no"]
    found = source(tmp_path, lines, kinds={"grade": "category", "year": "number", "known": "category"})
    assert found.names == ("grade::1", "grade::2", "year", "known::no", "known::yes")
    assert rows(found.classes) == [[1, 0, 2019, 0, 1], [0, 1, 2021, 1, 0]]


def test_several_annotators_are_averaged(tmp_path):
    """A truth value is the share of those who say yes, a word the share who chose it, a number the mean."""
    first = ["image,wet,color,size [mm]", "a.png,1,red,10", "b.png,1,red,"]
    second = ["image,color,wet,size [mm]", "a.png,blue,0,14", "b.png,,1,3", "c.png,red,0,"]
    third = ["image,wet,color,size [mm]", "a.png,1,red,"]
    found = source(tmp_path, first, second, third)
    assert found.names == ("wet", "color::blue", "color::red", "size")
    third_share = round(1 / 3, 6)
    assert rows(found.images) == [
        [1 - third_share, third_share, 1 - third_share, 12],
        [1, 0, 1, 3],
        [0, 0, 1, None],
    ]


def test_what_is_known_of_an_image_goes_before_its_class(tmp_path):
    of_classes = ["class,wet,color,cold", "cat,1,red,0", "dog,0,blue,1"]
    of_images = ["image,size [mm],wet,color", "a.png,5,0.5,", "b.png,,,blue"]
    found = source(tmp_path, of_classes, of_images)
    assert found.names == ("wet", "color::blue", "color::red", "cold", "size")
    assert rows(found.of([0, 1, 2], [0, 0, 1])) == [
        [0.5, 0, 1, 0, 5],
        [1, 1, 0, 0, None],
        [0, 1, 0, 1, None],
    ]
    assert rows(source(tmp_path, of_images, of_classes[:2]).classes)[1] == [None] * 5  # one class has no row


def test_a_folder_reads_all_of_them(tmp_path):
    """The statistics of a number are those of the training images alone, here 0 to 4 mm of cats."""
    root = make_concept_folder(tmp_path / "pets", train=5, val=1)
    images = [[f"train/cat/{index:03d}.png", index, "red" if index % 2 else "blue"] for index in range(5)]
    write_rows(root / "images.csv", [["image", "size [mm]", "color"], *images, ["val/cat/000.png", 1000, ""]])
    data = ConceptFolder(str(root), image_size=16, concepts=["concepts.csv", "images.csv"])
    spec, train = data.spec, data.dataset("train")
    assert spec.concept_names[-3:] == ("size", "color::blue", "color::red")
    assert spec.exclusive_groups == ("legs", "color")
    assert list(spec.measured) == [5]
    size = spec.quantities["size"]
    assert (size.unit, size.mean, size.deviation) == ("mm", 2.0, pytest.approx(math.sqrt(2)))
    assert size.shown(2.0) == "2.00 mm"
    assert train.concepts[1, 5:].tolist() == [1, 0, 1]
    assert train.concepts[5:, 5:].isnan().all()
    assert float(data.dataset("val").concepts[0, 5]) == 1000
    with pytest.raises(ConfigError, match=r"exclusive_groups: 'size' is a number, a group of truth values is needed"):
        ConceptFolder(str(root), image_size=16, concepts=["concepts.csv", "images.csv"], exclusive_groups=["size"])
    with pytest.raises(ConfigError, match=r"data.concepts: 'concepts.csv' is given twice"):
        ConceptFolder(str(root), image_size=16, concepts=["concepts.csv", "concepts.csv"])


def test_a_number_that_never_differs_or_is_never_known():
    values = torch.tensor([[3.0, NAN], [3.0, NAN]])
    found = quantities_of({"a": "mm", "b": ""}, ["a", "b"], values)
    assert [(q.mean, q.deviation) for q in found.values()] == [(3.0, 1.0), (0.0, 1.0)]


def test_numbers_that_single_precision_would_blur():
    """Seconds since 1970, which come in steps of 128 there."""
    values = torch.tensor([[1.7e9], [1.7e9 + 1000]])
    with pytest.raises(
        DataError, match=r"concept 't': its numbers are about 1\.7e\+09 and differ by 512: subtract 1\.7e\+09"
    ):
        quantities_of({"t": "s"}, ["t"], values)


def test_a_soft_group_is_exclusive_where_never_two_are_likely():
    names = ["a::x", "a::y", "b::x", "b::y", "c::x", "c::y"]
    values = torch.tensor([[0.6, 0.4, 0.6, 0.7, 0.5, 0.5], [0.25, 1.0, NAN, 0.0, 0.25, 0.5]])
    assert choose_exclusive("auto", groups_of(names), values) == ("a",)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            [["class,wet", "cat,0", "dog,1.5"]],
            "0.csv:3: column 'wet': '1.5' given, a truth value from 0 to 1 or nothing",
        ),
        ([["class,wet", "cat,-0.1"]], "0.csv:2: column 'wet': '-0.1' given, a truth value"),
        ([["class,wet", "cat,0", "dog,nan"]], "0.csv:3: column 'wet': 'nan' given, a truth value"),
        ([["class,wet", "cat,nan", "dog,wet"]], "0.csv:2: column 'wet': 'nan' given, an empty cell stands for unknown"),
        ([["class,wet", "cat,0", "dog,soaked"]], "0.csv:3: column 'wet': 'soaked' given, a truth value"),
        ([["class,wet", "cat,yes", "dog,no"]], "0.csv:2: column 'wet': 'yes' given, a truth value"),
        (
            [["class,size [mm]", "cat,1", "dog,large"]],
            "0.csv:3: column 'size [mm]': 'large' given, a number or nothing",
        ),
        ([["class,size [mm]", "cat,inf"]], "0.csv:2: column 'size [mm]': 'inf' given, a number"),
        ([["class,size [mm]", "cat,1e40"]], "0.csv:2: column 'size [mm]': '1e40' given, a number"),
        ([["class,size [mm]", "cat,1_000"]], "0.csv:2: column 'size [mm]': '1_000' given, a number"),
        (
            [["class,wet,wet [certainty]", "cat,1,sure"]],
            "0.csv:2: column 'wet [certainty]': 'sure' given, a certainty fr",
        ),
        (
            [["class,wet,wet [certainty]", "cat,1,2"]],
            "0.csv:2: column 'wet [certainty]': '2' given, a certainty from 0",
        ),
        (
            [["class,wet,wett [certainty]", "cat,1,1"]],
            "0.csv:1: 'wett [certainty]' is about a column 'wett', and there",
        ),
        ([["class,wet,[mm]", "cat,1,1"]], "0.csv:1: column 3 has no name, only a unit, '[mm]'"),
        ([["class,size [mm],size [cm]", "cat,1,1"]], "0.csv:1: columns 2 and 3 are both named 'size'"),
        (
            [["class,size [mm],size [certainty]", "cat,1,1"]],
            "0.csv:1: column 'size [certainty]': a number has no certain",
        ),
        ([["class,a::size [mm]", "cat,1"]], "0.csv:1: column 'a::size' is a number, a group of its own: leave out"),
        ([["class,size [mm],size::big", "cat,1,1"]], "0.csv:1: column 'size' is a number, and 'size::big' would be in"),
        ([["class,color,color::red", "cat,red,1"]], "0.csv:1: column 'color' is a category, and 'color::red' would"),
        ([["class,color", "cat,red", "dog,Red"]], "0.csv:2: column 'color': 'red' and 'Red' differ in capitals alone"),
        ([["class,color", "cat,a=b"]], "0.csv:2: column 'color': 'a=b' given, a word without '::' and '=' is needed"),
        (
            [["image,wet,cold", "a.png,1,0"], ["image,wet", "a.png,1"]],
            "1.csv:1: there is no column 'cold', and 0.csv has one: annotators answer the same",
        ),
        (
            [["image,size [mm]", "a.png,1"], ["image,size [cm]", "a.png,1"]],
            "1.csv:1: the column is named 'size [cm]', and in 0.csv 'size [mm]'",
        ),
        (
            [["image,wet", "a.png,1"], ["image,wet", "b.png,1", "b.png,1"]],
            "1.csv:3: image 'b.png' has a row already, on",
        ),
        ([["class,wet", "cat,1"], ["class,wet", "cat,0"]], "0.csv: class 'dog' has no row."),
    ],
)
def test_mistakes_name_file_and_line(tmp_path, files, message):
    assert refused(tmp_path, *files).startswith(message)


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"wett": "truth"}, "data.kinds: there is no column 'wett'. Did you mean 'wet'?"),
        ({"wet": "words"}, "data.kinds: 'wet' is 'words', one of truth, category, number is needed"),
        ({"size": "truth"}, "0.csv:1: column 'size [mm]' has a unit, and data.kinds says 'truth'"),
        ({"a::b": "category"}, "0.csv:1: column 'a::b' is a category: its name cannot be a group::value itself"),
    ],
)
def test_wrong_kinds(tmp_path, kinds, message):
    assert refused(tmp_path, ["class,wet,size [mm],a::b", "cat,1,2,0"], kinds=kinds) == message


def test_a_remark_is_no_category(tmp_path):
    names = [f"{number}.png" for number in range(101)]
    path = tmp_path / "c.csv"
    write_rows(path, [["image", "note"], *([name, f"seen {name}"] for name in names)])
    with pytest.raises(DataError, match="column 'note' is a category: it holds 101 words, 1 to 100 are needed"):
        read_concepts([path], {}, CLASSES, names)
