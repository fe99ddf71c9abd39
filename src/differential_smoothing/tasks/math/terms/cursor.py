"""A place in a list of tokens."""

from __future__ import annotations

from .tokens import Token, Unreadable

__all__ = ["Cursor"]


class Cursor:
    """What is next, and what is taken. ``bars``: how many | are open; ``angle``: inside a function, where degrees are angles."""

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

    def _degree(self) -> bool:
        for length, texts in ((2, ["^", "circ"]), (4, ["^", "{", "circ", "}"])):
            if [t.text for t in self.found[self.at : self.at + length]] == texts:
                self.at += length
                return True
        return False

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

    def _braced(self) -> list[Token]:
        self.take("{")
        start, depth = self.at, 1
        while depth:
            token = self.take()
            depth += (token.text == "{") - (token.text == "}")
        return self.found[start : self.at - 1]
