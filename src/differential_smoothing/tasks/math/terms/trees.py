"""An expression as a tree, read from tokens by recursive descent.

A tree is a tuple that begins with its kind: ``("number", value, is_decimal)``, ``("name", text)``, ``("+", trees)``, ``("*", trees)``, ``("/", one, other)``,
``("^", base, exponent)``, ``("call", function, trees)`` with a function that is known, ``("apply", name, trees)`` with one that is not, and
``("over", sign, variable, from, to, body)`` for sums, products, integrals and limits. Letters in different cases are different names, a prime is part of a
name, e is Euler's number, products are read from left to right (1/2x is x/2) and what can be read in two ways otherwise is refused.
"""

from __future__ import annotations

import re
from fractions import Fraction

from .tokens import FUNCTIONS, OPENING, Token, Unreadable

__all__ = ["expression", "is_word", "names", "number", "rename", "top_level"]

MAX_DEPTH, MAX_DIGITS = 40, 400
CONSTANTS = frozenset(["pi", "e", "infty"])
_GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi "
    "Omega ell hbar aleph mho wp".split()
)
_ACCENTS = frozenset("vec hat bar tilde dot ddot overline check mathbb widebar".split())
_PREFIXES = frozenset("angle triangle".split())
_BIG = frozenset("sum prod int lim oint".split())
_APPLIED = frozenset("fgFG")  # letters that are functions wherever a bracket follows
ZERO, ONE = ("number", Fraction(0), False), ("number", Fraction(1), False)
MINUS = ("number", Fraction(-1), False)


_SHORT = frozenset("yes no odd even true false none am pm both neither the and or not an at is it in if of on to so we by be he as up us me my do go".split())


def is_word(letters: str) -> bool:
    """Whether letters in a row are a word and no product."""
    return len(letters) > 3 or letters.lower() in _SHORT or (len(letters) == 3 and letters[0].isupper() and letters[1:].islower())


def number(value: int | Fraction) -> tuple:
    return "number", Fraction(value), False


def expression(found: list[Token]) -> tuple:
    """The tree of one expression. ValueError if it is none."""
    reader = _Reader(found)
    tree = reader.sum()
    if reader.next is not None:
        raise Unreadable("cannot be read as mathematics")
    return tree


def names(tree: tuple) -> frozenset[str]:
    """The free names in a tree."""
    kind = tree[0]
    if kind == "name":
        return frozenset() if tree[1] in CONSTANTS else frozenset([tree[1]])
    if kind == "number":
        return frozenset()
    if kind == "over":
        inside = names(tree[5]) - {tree[2]}
        return inside.union(*(names(t) for t in tree[3:5] if t is not None))
    if kind in ("call", "apply", "+", "*"):
        found = frozenset().union(*map(names, tree[-1]))
        return found | {tree[1] + "()"} if kind == "apply" else found
    return names(tree[1]) | names(tree[2])


def rename(tree: tuple, old: str, new: str) -> tuple:
    """The tree with one name instead of another."""
    kind = tree[0]
    if kind == "name":
        return ("name", new) if tree[1] == old else tree
    if kind == "number":
        return tree
    if kind == "over":
        return (*tree[:3], *(t and rename(t, old, new) for t in tree[3:]))
    if kind in ("call", "apply", "+", "*"):
        return (*tree[:-1], tuple(rename(t, old, new) for t in tree[-1]))
    return kind, rename(tree[1], old, new), rename(tree[2], old, new)


def top_level(found: list[Token], *separators: str) -> list[list[Token]]:
    """The tokens cut at the separators outside all brackets. Half-open intervals count as closed. ValueError if brackets do not match."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in found:
        if token.kind in ("sign", "command"):
            depth += (token.text in OPENING) - (token.text in _CLOSING)
            if depth < 0:
                raise Unreadable("brackets that do not match")
            if not depth and token.text in separators:
                parts.append([])
                continue
        parts[-1].append(token)
    if depth:
        raise Unreadable("brackets that do not match")
    return parts


_CLOSING = frozenset(OPENING.values())


class _Reader:
    def __init__(self, found: list[Token]) -> None:
        self.found, self.at, self.depth, self.bars, self.angle = found, 0, 0, 0, False

    @property
    def next(self) -> Token | None:
        return self.found[self.at] if self.at < len(self.found) else None

    def peek(self, *texts: str, ahead: int = 0) -> bool:
        at = self.at + ahead
        return at < len(self.found) and self.found[at].kind in ("sign", "command") and self.found[at].text in texts

    def take(self, *texts: str) -> Token:
        if self.next is None or (texts and not self.peek(*texts)):
            raise Unreadable("cannot be read as mathematics")
        self.at += 1
        return self.found[self.at - 1]

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
                power = self.at + 1 < len(self.found) and self.found[self.at + 1].text == "^" and before.kind != "number"  # x 3^2
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
        at, alone = self.at, self.at < 2 or self.found[self.at - 2].text in ("(", "{", "+", "-", "|", "[", "=")
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
            return token.text in FUNCTIONS or token.text in _GREEK or token.text in _ACCENTS or token.text in _BIG or token.text in _PREFIXES or token.text in (
                "frac", "binom", "pi", "infty", "langle", "lfloor", "lceil", "log", "C", "P", "partial", "nabla", "circ",
            )  # fmt: skip
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

    def _degree(self) -> bool:
        for length, texts in ((2, ["^", "circ"]), (4, ["^", "{", "circ", "}"])):
            if [t.text for t in self.found[self.at : self.at + length]] == texts:
                self.at += length
                return True
        return False

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

    def _number(self, token: Token) -> tuple:
        if len(token.text) > MAX_DIGITS:
            raise Unreadable("a number of too many digits")
        if "." in token.text:
            repeating = self._repeating(token.text)
            if repeating is not None:
                return repeating
        elif self.peek(".") and [t.text for t in self.found[self.at : self.at + 2]] in (["." , "overline"], [".", "bar"], [".", "dot"]):
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
        if token.kind == "text" and len(text) > 1 or not text.isascii():
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
        inverse = [t.text for t in self.found[self.at : self.at + 5]] == ["^", "{", "-", "1", "}"] and self.peek("(", ahead=5)
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
        if name[0] in _APPLIED or "'" in name or len(arguments) > 1 or (simple and arguments[0] != ("name", name)):
            return "apply", name, tuple(arguments)
        self.at = at
        return None

    def _subscript(self) -> str:
        if not self.peek("{"):
            return self.take().text
        depth, text = 0, ""
        while True:
            token = self.take()
            depth += (token.text == "{") - (token.text == "}")
            if not depth:
                return text[1:]
            text += token.text
            if len(text) > 60:
                raise Unreadable("cannot be read as mathematics")

    def _command(self, token: Token) -> tuple:
        text = token.text
        if text == "frac":
            if self.next is not None and self.next.kind == "number" and re.fullmatch(r"\d\d", self.next.text):  # \frac12
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
        if text in _GREEK:
            return self._decorated(text)
        if text in _PREFIXES:
            return "name", text + " " + (self._subscript() if self.peek("{") else self.take().text)
        if text in _ACCENTS:
            inside = self._subscript() if self.peek("{") else self.take().text
            return self._decorated(f"{text} {inside}")
        if text in ("C", "P"):
            return self._decorated(text)
        if text in _BIG:
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
            value = ("call", "ln" if name == "log" else name, tuple(arguments)) if name != "lg" else ("/", ("call", "ln", tuple(arguments)), ("call", "ln", (number(10),)))
        if exponent is None:
            return value
        if exponent in (("number", Fraction(-1), False), ("*", (MINUS, ONE))) and name in ("sin", "cos", "tan", "cot", "sec", "csc"):
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
            elif self._begins_factor() and not (self.next.kind == "command" and self.next.text in FUNCTIONS - {"sqrt"}) and self.next.text not in ("(", "[", "|"):
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
            inside = _Reader(self._braced())
            variable = inside.factor()
            inside.take("rightarrow")
            limit = inside.sum()
            if variable[0] != "name" or inside.next is not None:
                raise Unreadable("cannot be read as mathematics")
            return "over", "lim", variable[1], limit, None, self.product()
        for _ in range(2):
            if self.peek("_"):
                self.take()
                inside = _Reader(self._braced() if self.peek("{") else [self.take()])
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

    def _braced(self) -> list[Token]:
        self.take("{")
        start, depth = self.at, 1
        while depth:
            token = self.take()
            depth += (token.text == "{") - (token.text == "}")
        return self.found[start : self.at - 1]

    def _integral(self, low: tuple | None, high: tuple | None) -> tuple:
        for end in range(self.at, len(self.found)):
            token = self.found[end]
            word = token.kind == "word" and len(token.text) == 2 and token.text[0] == "d"
            letter = token.text == "d" and end + 1 < len(self.found) and self.found[end + 1].kind == "name"
            if word or letter:
                inside = self.found[self.at : end]
                self.at = end + (1 if word else 2)
                variable = token.text[1] if word else self.found[end + 1].text
                return "over", "int", variable, low, high, expression(inside) if inside else ONE
        raise Unreadable("cannot be read as mathematics")
