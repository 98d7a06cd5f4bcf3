"""The smallest change of units whose effects on the classes add up, as a linear program with some whole numbers.

Solved by HiGHS (`scipy.optimize.milp`), to the optimum. Shapes: S switches, D dials, V = S + 3 D variables, R rows of
the goal, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ibd.models.counterfactual.options import Dial, Floats, Options, Settings

Smallest = Literal["count", "amount"]
_SECONDS = 20.0
"""Most that one program may take; what was found until then is said to be that."""
_MOVED = 1e-5
"""Share of a dial's range below which it stands where it was: tolerance of the solver."""


@dataclass(frozen=True)
class Change:
    """Units to set.

    Attributes:
        settings: unit -> what `intervene` is given for it.
        size: how many units, or how far they move in all, as asked.
        exact: whether no smaller one does.
    """

    settings: Settings
    size: float
    exact: bool


class Program:
    """All changes that `Options` allow.

    A variable is a switch turned (0 or 1); how far a dial goes up, and down; and whether a dial is touched (count), or
    nothing.

    Args:
        options: what may be set.
        smallest: what is to be small: the "count" of units that are set, or the "amount" by which they move in all,
            in what a unit's changes are measured in.
    """

    def __init__(self, options: Options, smallest: Smallest) -> None:
        self.options, self.smallest = options, smallest
        switches, dials = len(options.switches), len(options.dials)
        self.width = switches + 3 * dials
        self._up = slice(switches, switches + dials)
        self._down = slice(switches + dials, switches + 2 * dials)
        self._touched = slice(switches + 2 * dials, self.width)
        self.counts, self.amounts = np.zeros(self.width), np.zeros(self.width)
        self.counts[:switches], self.counts[self._touched] = 1.0, 1.0
        self.amounts[:switches] = [switch.amount for switch in options.switches]
        self.amounts[self._up] = self.amounts[self._down] = [1 / dial.scale for dial in options.dials]

    def solve(self, goals: Sequence[tuple[Floats, Floats]]) -> Change | None:
        """Return the smallest change that reaches one of several goals; None where none is reached.

        Args:
            goals: a (R, C) matrix and (R,) numbers each: the matrix times what a change adds to the classes must be at
                least these.
        """
        if not self.width:
            return None
        cost = self.counts if self.smallest == "count" else self.amounts
        solved = [(goal, self._least(cost, goal, None)) for goal in goals]
        reached = [(goal, *answer) for goal, answer in solved if answer is not None]
        if not reached:
            return None
        proven = all(each[3] for each in reached)
        size = min(each[1] for each in reached)
        if self.smallest == "count":  # among those of as many units, the one that moves least
            close = [goal for goal, count, _, _ in reached if count < size + 0.5]
            moved = [self._least(self.amounts, goal, round(size)) for goal in close]
            _, values, _ = min((each for each in moved if each is not None), key=lambda each: each[0])
        else:
            values = next(values for _, amount, values, _ in reached if amount == size)
        return Change(self._settings(values), size, proven)

    def _least(self, cost: Floats, goal: tuple[Floats, Floats], most: int | None) -> tuple[float, Floats, bool] | None:
        """Return the least cost of a change that reaches a goal, the variables, and whether it is proven.

        Args:
            cost: (V,).
            goal: matrix and least numbers.
            most: units that may be set; None for any number.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        matrix, least = goal
        constraints = [LinearConstraint(matrix @ self._effects(), least, np.inf), *self._rules()]
        if most is not None:
            constraints.append(LinearConstraint(self.counts[None], -np.inf, most))
        whole = np.zeros(self.width)
        whole[: len(self.options.switches)] = whole[self._touched] = 1
        answer = milp(
            cost,
            integrality=whole,
            bounds=Bounds(np.zeros(self.width), self._highest()),
            constraints=constraints,
            options={"time_limit": _SECONDS, "mip_rel_gap": 0.0},
        )
        return None if answer.x is None else (float(answer.fun), answer.x, answer.status == 0)

    def _effects(self) -> Floats:
        """Return what each variable adds to each class, (C, V)."""
        slopes = [dial.slope for dial in self.options.dials]
        columns = [switch.effect for switch in self.options.switches] + slopes + [-slope for slope in slopes]
        columns += [np.zeros_like(slope) for slope in slopes]
        return np.stack(columns, 1) if columns else np.zeros((1, 0))

    def _highest(self) -> Floats:
        """Return the highest value of each variable, (V,)."""
        dials = self.options.dials
        up, down = [dial.high - dial.now for dial in dials], [dial.now - dial.low for dial in dials]
        return np.array([1.0] * len(self.options.switches) + up + down + [1.0] * len(dials))

    def _rules(self) -> list[Any]:
        """Return the constraints: one unit of an exclusive group at most is on, and dials that move are touched."""
        from scipy.optimize import LinearConstraint
        from scipy.sparse import coo_array, hstack

        dials, rules = self.options.dials, []
        if dials:
            reach = np.array([max(dial.high - dial.now, dial.now - dial.low) for dial in dials])
            same, none = _diagonal(np.ones(len(dials))), coo_array((len(dials), len(self.options.switches)))
            rules.append(LinearConstraint(hstack([none, same, same, _diagonal(-reach)]).tocsr(), -np.inf, 0.0))
        for group in self.options.groups:
            rules += [LinearConstraint(row[None], -np.inf, most) for row, most in self._exclusive(group)]
        return rules

    def _exclusive(self, group: Sequence[int]) -> list[tuple[Floats, float]]:
        """Return rows (V,) of which each may add up to a number at most.

        Probabilities of a group that is touched add up to 1 at most, also where those predicted add up to more.
        """
        ons, offs, rows = np.zeros(self.width), [], []
        for place, switch in enumerate(self.options.switches):
            if switch.unit in group:
                ons[place] = switch.value
                offs += [] if switch.value == 1 else [place]
        for off in offs:
            row = ons.copy()
            row[off] = 1.0
            rows.append((row, 1.0))
        rows += [(ons, 1.0)] if ons.any() and not offs else []
        members = [place for place, dial in enumerate(self.options.dials) if dial.unit in group]
        if members:
            row, over = np.zeros(self.width), sum(self.options.dials[place].now for place in members) - 1.0
            row[self._up][members], row[self._down][members] = 1.0, -1.0
            rows += [(row, -over)] if over <= 0 else [(self._if_touched(row, place, over), 0.0) for place in members]
        return rows

    def _if_touched(self, row: Floats, place: int, amount: float) -> Floats:
        """Return a row with a number added where a dial is touched."""
        row = row.copy()
        row[self._touched.start + place] = amount
        return row

    def _settings(self, values: Floats) -> Settings:
        """Return unit -> number of the variables of a change."""
        turned = {
            switch.unit: switch.value for switch, on in zip(self.options.switches, values, strict=False) if on > 0.5
        }
        moves = zip(self.options.dials, values[self._up], values[self._down], strict=True)
        return turned | {dial.unit: _stand(dial, up - down) for dial, up, down in moves if _far(dial, up - down)}


def _diagonal(values: Floats) -> Any:
    """Return a sparse (D, D) matrix with (D,) values on its diagonal."""
    from scipy.sparse import dia_array

    return dia_array((values[None], [0]), shape=(len(values), len(values)))


def _far(dial: Dial, moved: float) -> bool:
    return abs(moved) > _MOVED * (dial.high - dial.low)


def _stand(dial: Dial, moved: float) -> float:
    return min(max(dial.now + moved, dial.low), dial.high)
