"""Birds that are drawn again so that concepts hold."""

import pytest

from ibd.data.toybirds.redrawing import changed_parts, redraw
from ibd.data.toybirds.scene import Scene
from ibd.errors import ConfigError, UnsupportedError

BIRD = Scene(
    cls=0,
    label=0,
    parts={"beak": "hook", "eye": "dark", "foot": "blue_claw", "tail": "red_fan", "wing": "red_oval"},
)


@pytest.mark.parametrize(
    ("concepts", "changed"),
    [
        ({"wing::blue_oval": True}, ["wing: red_oval -> blue_oval"]),
        ({"wing::blue_oval": True, "wing::red_oval": False}, ["wing: red_oval -> blue_oval"]),
        ({"wing::red_oval": False}, ["wing: red_oval -> none"]),
        ({"wing::blue_oval": False, "wing::red_oval": True}, []),
        ({"wing_color::blue": True}, ["wing: red_oval -> blue_oval"]),
        ({"wing_shape::pointed": True, "tail_color::green": True},
         ["tail: red_fan -> green_fan", "wing: red_oval -> red_pointed"]),
        ({"wing_color::red": False}, ["wing: red_oval -> none"]),
        ({"wing_shape::pointed": True, "wing_color::red": False}, ["wing: red_oval -> yellow_pointed"]),
        ({"beak::hook": False, "eye::ring": True}, ["beak: hook -> none", "eye: dark -> ring"]),
    ],
)  # fmt: skip
def test_parts_follow_the_concepts(concepts, changed):
    after = redraw(BIRD, concepts)
    assert changed_parts(BIRD, after) == changed
    assert after.pose == BIRD.pose


def test_a_part_that_was_not_there_is_drawn():
    assert redraw(BIRD.remove("wing"), {"wing_color::blue": True}).parts["wing"] == "blue_oval"


def test_what_cannot_be_drawn():
    with pytest.raises(UnsupportedError, match="no wing can be drawn of which wing::red_oval and wing::blue_oval hold"):
        redraw(BIRD, {"wing::red_oval": True, "wing::blue_oval": True})
    with pytest.raises(ConfigError, match="is not a concept of a toy bird"):
        redraw(BIRD, {"wing::purple": True})
