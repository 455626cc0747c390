"""Bound what a regular expression of a tokenizer may cost.

Tokenizers match with Oniguruma, which backtracks. A pattern passes if a match attempt at one position takes time in
proportion to the text: then no ordinary text takes long. The patterns of published tokenizers do, with room.

The *ways* of a pattern are how many combinations of optional parts and alternatives may be tried, its *steps* what that
takes beside the unlimited repetitions; its *runs* are those that have to be shortened, character by character, where
something behind them fails. One run is linear, two are quadratic; a repetition of what has several ways is exponential.
Its *retries* are the steps for each character of a run. An attempt at each position of a text may read all of its rest,
so they are few. Those of all patterns of a tokenizer count together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_MAX_CHARACTERS = 20_000
# With as many, 20,000 characters take six seconds at 60 ns for each step.
_MAX_STEPS = 5_000
# 2,000 characters take five seconds. What the patterns of GPT-4 and the like need is below 25.
_MAX_RETRIES = 40
_MAX_RUNS = 1
_MAX_DEPTH = 50
# A bounded repetition up to here counts by its ways, a longer one as unlimited.
_MAX_COUNTED = 32
_BOUNDS = re.compile(r"\{(\d*)(,?)(\d*)\}")
# Groups that match no text of their own, name one, or only set options; "x" would change how the rest is read.
_GROUP = re.compile(r"\(\?(?:[:=!>|]|<[=!]|<\w+>|'\w+'|[imsaudn-]*[:)])")
_COMMENT = re.compile(r"\(\?#[^)]*\)")
# Escapes that refer to a group.
_REFERENCE = re.compile(r"\\(?:[1-9]|[kg][<'])")
_ESCAPE = re.compile(r"\\(?:[pP]\{[^}]*\}|x\{[^}]*\}|x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|.)", re.DOTALL)


class CostlyPatternError(ValueError):
    """A pattern may take long, or is of a kind whose cost is not known."""


@dataclass
class _Cost:
    """Of a part: its ways, the runs that something behind them may shorten, and whether it may match nothing."""

    ways: int = 1
    runs: int = 0
    optional: bool = False
    steps: int = 1
    retries: int = 0

    @property
    def is_plain(self) -> bool:
        return self.ways == 1 and self.runs == 0


class PatternBudget:
    """What the patterns of one tokenizer may cost together."""

    def __init__(self) -> None:
        self._steps = self._retries = 0

    def spend(self, pattern: str) -> None:
        """Raise ``CostlyPatternError`` unless a match attempt takes time in proportion to the text, and not much."""
        if len(pattern) > _MAX_CHARACTERS:
            raise CostlyPatternError(f"it has {len(pattern):,} characters")
        reader = _Reader(pattern)
        cost = reader.read_alternatives()
        if reader.place < len(pattern):
            raise CostlyPatternError("a parenthesis is closed that was not opened")
        self._steps += cost.steps
        self._retries += cost.retries
        _check_steps(self._steps)
        if self._retries > _MAX_RETRIES:
            raise CostlyPatternError("it has too many ways to shorten an unlimited repetition")


def _check_steps(steps: int) -> None:
    if steps > _MAX_STEPS:
        raise CostlyPatternError(f"it has more than {_MAX_STEPS:,} ways to match")


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.place = 0
        self._depth = 0

    def read_alternatives(self) -> _Cost:
        """Read up to the end of a group, or of the pattern."""
        alternatives = [self._read_sequence()]
        while self._next() == "|":
            self.place += 1
            alternatives.append(self._read_sequence())
        total = _Cost(
            ways=sum(cost.ways for cost in alternatives),
            runs=max(cost.runs for cost in alternatives),
            optional=any(cost.optional for cost in alternatives),
            steps=sum(cost.steps for cost in alternatives),
            retries=sum(cost.retries for cost in alternatives),
        )
        _check_steps(total.steps)
        return total

    def _read_sequence(self) -> _Cost:
        total = _Cost(optional=True, steps=0)
        # Runs at the end: nothing behind them fails, so they are not shortened.
        trailing = 0
        # The steps of all but the optional parts at the end.
        failing_steps = 0
        while (character := self._next()) and character not in "|)":
            cost = self._read_repeated()
            if cost is None:
                continue
            if not cost.optional or cost.runs:
                total.runs += trailing
                trailing = 0
            trailing += cost.runs
            total.steps += total.ways * cost.steps
            total.retries += total.ways * cost.retries
            total.ways *= cost.ways
            total.optional = total.optional and cost.optional
            if not cost.optional or cost.runs:
                failing_steps = total.steps
            _check_steps(total.steps)
            if total.runs > _MAX_RUNS:
                raise CostlyPatternError("it has several unlimited repetitions in a row before something else")
        if total.runs:
            total.retries += failing_steps
        total.runs += trailing
        return total

    def _read_repeated(self) -> _Cost | None:
        """Read a character, class or group with its repetition; None for options and comments."""
        cost = self._read_atom()
        repetition = self._read_repetition()
        if cost is None or repetition is None:
            return cost
        minimum, maximum, possessive = repetition
        if self._read_repetition() is not None:
            raise CostlyPatternError("it repeats a repetition")
        if maximum == 1:
            return replace(cost, ways=cost.ways + (minimum == 0), optional=cost.optional or minimum == 0)
        if not cost.is_plain:
            raise CostlyPatternError("it repeats a group that can match in several ways")
        optional = cost.optional or minimum == 0
        if maximum is not None and (possessive or maximum == minimum):
            return replace(cost, optional=optional, steps=maximum * cost.steps)
        if possessive:
            # It reads to its end at once, and is not shortened.
            return replace(cost, optional=optional, retries=cost.retries + 1)
        if maximum is not None and maximum <= _MAX_COUNTED:
            return replace(cost, ways=maximum - minimum + 1, optional=optional, steps=maximum * cost.steps)
        return replace(cost, runs=1, optional=optional)

    def _read_repetition(self) -> tuple[int, int | None, bool] | None:
        character = self._next()
        if character and character in "*+?":
            self.place += 1
            suffix = self._next()
            self.place += suffix in ("?", "+")
            return int(character == "+"), 1 if character == "?" else None, suffix == "+"
        bounds = _BOUNDS.match(self._pattern, self.place) if character == "{" else None
        if bounds is None or not (bounds[1] or bounds[3]):
            return None
        self.place = bounds.end()
        self.place += self._next() == "?"
        minimum = int(bounds[1] or 0)
        if not bounds[2]:
            return minimum, minimum, False
        return minimum, int(bounds[3]) if bounds[3] else None, False

    def _read_atom(self) -> _Cost | None:
        pattern = self._pattern
        character = self._next()
        if character == "(":
            return self._read_group()
        if character == "[":
            self._skip_class()
            return _Cost()
        if character == "\\":
            if _REFERENCE.match(pattern, self.place):
                raise CostlyPatternError("it refers to a group")
            escape = _ESCAPE.match(pattern, self.place)
            if escape is None:
                raise CostlyPatternError("it ends in a backslash")
            self.place = escape.end()
            # A line break, or a character of several code points.
            return _Cost(ways=2) if escape[0] in ("\\R", "\\X") else _Cost()
        self.place += 1
        return _Cost(optional=character in "^$")

    def _read_group(self) -> _Cost | None:
        pattern = self._pattern
        if comment := _COMMENT.match(pattern, self.place):
            self.place = comment.end()
            return None
        opening = _GROUP.match(pattern, self.place)
        if opening is None and pattern.startswith(("(?", "(*"), self.place):
            raise CostlyPatternError(f"it has the group {pattern[self.place : self.place + 4]!r}")
        self.place = self.place + 1 if opening is None else opening.end()
        if opening is not None and opening[0].endswith(")"):
            return None
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise CostlyPatternError("its groups are nested too deeply")
        cost = self.read_alternatives()
        if opening is not None and opening[0].endswith(("=", "!")):
            # What follows starts where this did, so that every run of it is repeated there.
            cost = replace(cost, retries=cost.retries + cost.runs)
        self._depth -= 1
        if self._next() != ")":
            raise CostlyPatternError("a parenthesis is not closed")
        self.place += 1
        return cost

    def _skip_class(self) -> None:
        """Skip a class of characters, in which others may be nested."""
        pattern, depth, start = self._pattern, 0, True
        while self.place < len(pattern):
            character = pattern[self.place]
            self.place += 1
            if character == "\\":
                self.place += 1
            elif character == "[":
                depth += 1
                start = True
                self.place += self._next() == "^"
                continue
            elif character == "]" and not start:
                depth -= 1
                if not depth:
                    return
            start = False
        raise CostlyPatternError("a class is not closed")

    def _next(self) -> str:
        return self._pattern[self.place : self.place + 1]
