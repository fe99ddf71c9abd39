"""An expression, read from tokens by recursive descent. See ``trees`` for what comes out."""

from __future__ import annotations

from fractions import Fraction

from .functions import Functions
from .tokens import FUNCTIONS, OPENING, Token, Unreadable
from .trees import ACCENTS, BIG, GREEK, MAX_DEPTH, MINUS, PREFIXES, number

__all__ = ["expression"]


def expression(found: list[Token]) -> tuple:
    """The tree of one expression. ``Unreadable`` if it is none."""
    return _Reader(found).whole()


class _Reader(Functions):
    def whole(self) -> tuple:
        """All of the tokens."""
        tree = self.sum()
        if self.next is not None:
            raise Unreadable("cannot be read as mathematics")
        return tree

    def sum(self) -> tuple:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deeply")
        terms, sign = [], "+"
        if self.peek("+", "-"):
            sign = self.take().text
        while True:
            if terms and self.peek("-"):  # 1 + -2
                self.take()
                sign = "+" if sign == "-" else "-"
            term = self.product()
            terms.append(("*", (MINUS, term)) if sign == "-" else term)
            if not self.peek("+", "-"):
                break
            sign = self.take().text
        self.depth -= 1
        return terms[0] if len(terms) == 1 else ("+", tuple(terms))

    def product(self) -> tuple:
        value = self.power()
        while self.next is not None:
            if self.peek("*", "bullet"):
                self.take()
                value = ("*", (value, self.signed()))
            elif self.peek("/"):
                self.take()
                value = ("/", value, self.signed())
            elif self._begins_factor():
                before, after = self.found[self.at - 1], self.next
                power = (
                    self.at + 1 < len(self.found) and self.found[self.at + 1].text == "^" and before.kind != "number"
                )  # x 3^2
                if after.kind == "number" and before.text not in (")", "}", "]", "|") and not power:
                    raise Unreadable("a number behind a factor")  # 3 4 and x4
                mixed = self._mixed(before)
                value = mixed if mixed is not None else ("*", (value, self.power()))
            else:
                break
        return value

    def signed(self) -> tuple:
        """A factor that may have a sign of its own: 2*-3."""
        if self.peek("-", "+"):
            sign = self.take().text
            return ("*", (MINUS, self.power())) if sign == "-" else self.power()
        return self.power()

    def _mixed(self, before: Token) -> tuple | None:
        """``2\\frac{1}{2}`` is 2 + 1/2."""
        if before.kind != "number" or not self.peek("frac"):
            return None
        at, alone = (self.at, self.at < 2 or self.found[self.at - 2].text in ("(", "{", "+", "-", "|", "[", "="))
        fraction = self.power()
        digits = fraction[0] == "/" and all(part[0] == "number" and part[1].denominator == 1 for part in fraction[1:])
        if not digits or "." in before.text:
            self.at = at
            return None
        if not alone or not fraction[1][1] < fraction[2][1] or self._begins_factor():
            raise Unreadable("a number before a fraction")  # 3\cdot 2\frac12, 2\frac32
        return "number", Fraction(before.text) + fraction[1][1] / fraction[2][1], False

    def _begins_factor(self) -> bool:
        token = self.next
        if token is None:
            return False
        if token.kind == "command":
            return (
                token.text in FUNCTIONS
                or token.text in GREEK
                or token.text in ACCENTS
                or token.text in BIG
                or token.text in PREFIXES
                or token.text
                in (
                    "frac",
                    "binom",
                    "pi",
                    "infty",
                    "langle",
                    "lfloor",
                    "lceil",
                    "log",
                    "C",
                    "P",
                    "partial",
                    "nabla",
                    "circ",
                )
            )
        if token.text == "|":
            return not self.bars
        return token.kind in ("number", "name", "word", "text") or token.text in ("(", "{", "[")

    def power(self) -> tuple:
        base = self.factor()
        while self.peek("!"):
            self.take()
            if self.peek("!"):
                raise Unreadable("a double factorial")
            base = ("call", "factorial", (base,))
        if not self.peek("^"):
            return base
        if self._degree():
            return ("*", (base, ("/", ("name", "pi"), number(180)))) if self.angle else ("*", (base, ("name", "°")))
        self.take()
        result = ("^", base, self.exponent())
        if self.peek("^"):
            raise Unreadable("a power of a power")
        while self.peek("!"):
            raise Unreadable("a factorial of a power")
        return result

    def exponent(self) -> tuple:
        if self.peek("{"):
            return self.group()
        if self.peek("-", "+"):
            sign = self.take().text
            value = self.factor()
            return ("*", (MINUS, value)) if sign == "-" else value
        if self.next is not None and self.next.kind == "word":
            raise Unreadable("a power of letters")
        return self.factor()

    def group(self) -> tuple:
        """What is in braces."""
        angle, bars, self.bars = self.angle, self.bars, 0
        self.take("{")
        value = self.sum()
        self.take("}")
        self.angle, self.bars = angle, bars
        return value

    def argument(self) -> tuple:
        """Of \\frac and \\sqrt: a group, or one sign."""
        if self.peek("{"):
            return self.group()
        token = self.next
        if token is not None and token.kind == "number" and len(token.text) > 1:
            raise Unreadable("\\frac or \\sqrt before several digits")
        return self.factor()

    def factor(self) -> tuple:
        token = self.take()
        if token.kind == "number":
            return self._number(token)
        if token.kind in ("name", "word", "text"):
            return self._named(token)
        if token.text in ("(", "["):
            bars, self.bars = self.bars, 0
            value = self.sum()
            self.take(OPENING[token.text])
            self.bars = bars
            return value
        if token.text == "{":
            self.at -= 1
            return self.group()
        if token.text == "|":
            self.bars += 1
            value = self.sum()
            self.take("|")
            self.bars -= 1
            return "call", "abs", (value,)
        if token.kind != "command":
            raise Unreadable("cannot be read as mathematics")
        return self._command(token)
