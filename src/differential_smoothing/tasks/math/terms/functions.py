"""Commands in an expression: fractions, roots, functions, sums, integrals."""

from __future__ import annotations

import re
from fractions import Fraction

from .named import Named
from .tokens import FUNCTIONS, OPENING, Token, Unreadable
from .trees import ACCENTS, BIG, GREEK, MINUS, ONE, PREFIXES, number

__all__ = ["Functions"]


class Functions(Named):
    """Reads what begins with a command. ``sum``, ``product``, ``power``, ``factor``, ``group``, ``argument`` are of ``reader``."""

    def _command(self, token: Token) -> tuple:
        text = token.text
        if text == "frac":
            if (
                self.next is not None and self.next.kind == "number" and re.fullmatch(r"\d\d", self.next.text)
            ):  # \frac12
                above, below = self.take().text
                return "/", number(int(above)), number(int(below))
            return "/", self.argument(), self.argument()
        if text == "binom":
            return "call", "binom", (self.argument(), self.argument())
        if text == "sqrt":
            return self._root()
        if text in ("lfloor", "lceil"):
            value = self.sum()
            self.take(OPENING[text])
            return "call", text[1:], (value,)
        if text in ("pi", "infty"):
            return "name", text
        if text == "Delta" and self.next is not None and self.next.kind == "name":
            return self._decorated("Delta " + self.take().text)
        if text in GREEK:
            return self._decorated(text)
        if text in PREFIXES:
            return "name", text + " " + (self._subscript() if self.peek("{") else self.take().text)
        if text in ACCENTS:
            inside = self._subscript() if self.peek("{") else self.take().text
            return self._decorated(f"{text} {inside}")
        if text in ("C", "P"):
            return self._decorated(text)
        if text in BIG:
            return self._big(text)
        if text in FUNCTIONS:
            return self._call(text)
        raise Unreadable("cannot be read as mathematics")

    def _root(self) -> tuple:
        degree = None
        if self.peek("["):
            self.take()
            degree = self.sum()
            self.take("]")
        value = self.argument() if not self.peek("(") else self.factor()
        return ("call", "sqrt", (value,)) if degree is None else ("call", "root", (value, degree))

    def _call(self, name: str) -> tuple:
        """``\\sin^2 x``, ``\\log_2 8``: a function and the product behind it, or what is in brackets."""
        base = exponent = None
        for _ in range(2):
            if self.peek("_"):
                self.take()
                base = self.argument() if self.peek("{") else self.factor()
            elif self.peek("^"):
                self.take()
                exponent = self.group() if self.peek("{") else self.factor()
        angle, self.angle = self.angle, True
        if self.peek("(", "{"):
            opened = self.take().text
            bars, self.bars = self.bars, 0
            arguments = [self.sum()]
            while self.peek(","):
                self.take()
                arguments.append(self.sum())
            self.take(OPENING[opened])
            self.bars = bars
        else:
            arguments = [self._open_argument()]
        self.angle = angle
        if name == "log" and base is not None:
            value = ("/", ("call", "ln", tuple(arguments)), ("call", "ln", (base,)))
        elif base is not None:
            raise Unreadable("cannot be read as mathematics")
        else:
            value = (
                ("call", "ln" if name == "log" else name, tuple(arguments))
                if name != "lg"
                else ("/", ("call", "ln", tuple(arguments)), ("call", "ln", (number(10),)))
            )
        if exponent is None:
            return value
        if exponent in (("number", Fraction(-1), False), ("*", (MINUS, ONE))) and name in (
            "sin",
            "cos",
            "tan",
            "cot",
            "sec",
            "csc",
        ):
            return "call", "arc" + name, tuple(arguments)
        return "^", value, exponent

    def _open_argument(self) -> tuple:
        """``\\sin 2x \\cos y``: the product up to the next function, sum or bracket that is closed."""
        if self.peek("-"):
            self.take()
            return "*", (MINUS, self._open_argument())
        value = self.power()
        while self.next is not None:
            if self.peek("/"):
                self.take()
                value = ("/", value, self.power())
            elif (
                self._begins_factor()
                and not (self.next.kind == "command" and self.next.text in FUNCTIONS - {"sqrt"})
                and self.next.text not in ("(", "[", "|")
            ):
                if self.next.kind == "number":
                    raise Unreadable("a number behind a factor")
                value = ("*", (value, self.power()))
            else:
                return value
        return value

    def _big(self, sign: str) -> tuple:
        low = high = None
        variable = ""
        if sign == "lim":
            self.take("_")
            inside = type(self)(self._braced())
            variable = inside.factor()
            inside.take("rightarrow")
            limit = inside.sum()
            if variable[0] != "name" or inside.next is not None:
                raise Unreadable("cannot be read as mathematics")
            return "over", "lim", variable[1], limit, None, self.product()
        for _ in range(2):
            if self.peek("_"):
                self.take()
                inside = type(self)(self._braced() if self.peek("{") else [self.take()])
                low = inside.sum()
                if inside.peek("="):
                    inside.take()
                    variable, low = low[1] if low[0] == "name" else "", inside.sum()
                if inside.next is not None:
                    raise Unreadable("cannot be read as mathematics")
            elif self.peek("^"):
                self.take()
                high = self.group() if self.peek("{") else self.factor()
        if sign in ("int", "oint"):
            return self._integral(low, high)
        if not variable or low is None or high is None:
            raise Unreadable("cannot be read as mathematics")
        return "over", sign, variable, low, high, self.product()

    def _integral(self, low: tuple | None, high: tuple | None) -> tuple:
        for end in range(self.at, len(self.found)):
            token = self.found[end]
            word = token.kind == "word" and len(token.text) == 2 and token.text[0] == "d"
            letter = token.text == "d" and end + 1 < len(self.found) and self.found[end + 1].kind == "name"
            if word or letter:
                inside = self.found[self.at : end]
                self.at = end + (1 if word else 2)
                variable = token.text[1] if word else self.found[end + 1].text
                return "over", "int", variable, low, high, type(self)(inside).whole() if inside else ONE
        raise Unreadable("cannot be read as mathematics")
