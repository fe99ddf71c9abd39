"""Names and numbers in an expression."""

from __future__ import annotations

from fractions import Fraction

from .cursor import Cursor
from .tokens import Token, Unreadable
from .trees import APPLIED, MAX_DIGITS, is_word

__all__ = ["Named"]


class Named(Cursor):
    """Reads names with subscripts and primes, functions that are not known, numbers. ``sum`` is of ``reader``."""

    def _number(self, token: Token) -> tuple:
        if len(token.text) > MAX_DIGITS:
            raise Unreadable("a number of too many digits")
        if "." in token.text:
            repeating = self._repeating(token.text)
            if repeating is not None:
                return repeating
        elif self.peek(".") and [t.text for t in self.found[self.at : self.at + 2]] in (
            [".", "overline"],
            [".", "bar"],
            [".", "dot"],
        ):
            self.take()
            return self._repeating(token.text + ".")
        elif self.peek("_"):
            raise Unreadable("a number in another base")
        return "number", Fraction(token.text), "." in token.text

    def _repeating(self, digits: str) -> tuple | None:
        """``0.1\\overline{6}`` is 1/6, exactly."""
        if not self.peek("overline", "bar", "dot"):
            return None
        period = ""
        while self.peek("overline", "bar", "dot"):
            self.take()
            braces = self.peek("{")
            if braces:
                self.take("{")
            token = self.take()
            if token.kind != "number" or "." in token.text:
                raise Unreadable("cannot be read as mathematics")
            period += token.text
            if braces:
                self.take("}")
        if len(period) > 60:
            raise Unreadable("a number of too many digits")
        before, _, behind = digits.partition(".")
        shift = 10 ** len(behind)
        value = Fraction(int((before or "0") + behind), shift) + Fraction(int(period), shift * (10 ** len(period) - 1))
        return "number", value, False

    def _named(self, token: Token) -> tuple:
        text = token.text
        if (token.kind == "text" and len(text) > 1) or not text.isascii():
            raise Unreadable("words")
        if token.kind == "word":
            if text.isupper():
                return self._decorated(text)  # a segment, an angle: AB is not BA
            if is_word(text):
                raise Unreadable("words")
            self.at -= 1
            self.found = [*self.found[: self.at], *(Token("name", c) for c in text), *self.found[self.at + 1 :]]
            return self._named(self.take())
        return self._decorated(text)

    def _decorated(self, name: str) -> tuple:
        """A name with its subscript and primes, and what it is applied to."""
        for _ in range(4):
            if self.peek("_"):
                self.take()
                name += "_" + self._subscript()
            elif self.peek("'"):
                self.take()
                name += "'"
            elif [t.text for t in self.found[self.at : self.at + 2]] == ["^", "'"]:
                self.at += 2
                name += "'"
            elif [t.text for t in self.found[self.at : self.at + 3]] == ["^", "{", "'"]:
                self.at += 2
                while self.peek("'"):
                    self.take()
                    name += "'"
                self.take("}")
            else:
                break
        inverse = [t.text for t in self.found[self.at : self.at + 5]] == ["^", "{", "-", "1", "}"] and self.peek(
            "(", ahead=5
        )
        if inverse and name[0] in "fghFG":
            self.at += 5
            name += "^-1"
        if self.peek("(") and name not in ("e", "i", "pi"):
            applied = self._applied(name)
            if applied is not None:
                return applied
        return "name", name

    def _applied(self, name: str) -> tuple | None:
        """``f(x)`` and ``u(t)`` are functions, ``n(n+1)`` and ``x(x-1)`` are products."""
        at = self.at
        self.take("(")
        arguments = [self.sum()]
        while self.peek(",", ";"):
            self.take()
            arguments.append(self.sum())
        if not self.peek(")"):
            raise Unreadable("cannot be read as mathematics")
        self.take(")")
        simple = arguments[0][0] in ("name", "number")
        if name[0] in APPLIED or "'" in name or len(arguments) > 1 or (simple and arguments[0] != ("name", name)):
            return "apply", name, tuple(arguments)
        self.at = at
        return None
