"""Text to tokens: LaTeX, Unicode and plain typing in one spelling. Time linear in the text."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = [
    "FUNCTIONS",
    "GAP",
    "MAX_ANSWER",
    "OPENING",
    "Token",
    "Unreadable",
    "closing_brace",
    "flat",
    "spelled",
    "tokens",
    "words",
]

GAP = "\x05"  # white space that may keep two answers apart
MAX_ANSWER = 1_000  # characters of an answer; longer ones are refused


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


class Unreadable(ValueError):
    """The text is not mathematics that this reader knows."""


class Token(NamedTuple):
    """``kind``: number, name (one letter), word (letters in a row), text (in ``\\text{}``), command (without its backslash), sign."""

    kind: str
    text: str
    space: bool = False  # white space stands before it


def closing_brace(text: str, start: int) -> int | None:
    """The position of the brace that closes the one at ``start``, or None."""
    depth = 0
    for i in range(start, min(len(text), start + 2 * MAX_ANSWER)):
        if text[i] in "{}" and text[i - 1] != "\\":
            depth += 1 if text[i] == "{" else -1
            if not depth:
                return i
    return None


_SIGNS = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "—": "-",
        "‐": "-",
        "‑": "-",
        "×": "\\times ",
        "·": "\\cdot ",
        "⋅": "\\cdot ",
        "∗": "*",
        "÷": "/",
        "π": "\\pi ",
        "∞": "\\infty ",
        "≤": "\\le ",
        "≥": "\\ge ",
        "⩽": "\\le ",
        "⩾": "\\ge ",
        "≠": "\\ne ",
        "≈": "\\approx ",
        "±": "\\pm ",
        "∓": "\\mp ",
        "∪": "\\cup ",
        "∩": "\\cap ",
        "∅": "\\emptyset ",
        "∈": "\\in ",
        "°": "^\\circ ",
        "θ": "\\theta ",
        "α": "\\alpha ",
        "β": "\\beta ",
        "γ": "\\gamma ",
        "λ": "\\lambda ",
        "μ": "\\mu ",
        "σ": "\\sigma ",
        "φ": "\\phi ",
        "ω": "\\omega ",
        "δ": "\\delta ",
        "ε": "\\epsilon ",
        "ℝ": "\\mathbb{R}",
        "ℤ": "\\mathbb{Z}",
        "½": "\\frac{1}{2}",
        "⅓": "\\frac{1}{3}",
        "⅔": "\\frac{2}{3}",
        "¼": "\\frac{1}{4}",
        "¾": "\\frac{3}{4}",
        "⁄": "/",
        "’": "'",
        "′": "'",
        "″": "''",
        "⟨": "\\langle ",
        "⟩": "\\rangle ",
        "…": "\\ldots ",
        "€": "\\euro ",
        "£": "\\sterling ",
        "¥": "\\yen ",
        "₹": "\\rupee ",
        "¢": "\\cent ",
        "‰": "\\permille ",
        "∠": "\\angle ",
        "△": "\\triangle ",
        "\u2009": " ",
        "\u202f": " ",
        "\xa0": " ",
        "\u200b": None,
        "\ufeff": None,
        "\u2061": None,
        "，": ",",
        "．": ".",
        "；": ";",
        "：": ":",
        "（": "(",
        "）": ")",
        "％": "%",
        "＝": "=",
        "＋": "+",
        "－": "-",
    }
    | {0xFF10 + i: str(i) for i in range(10)}
)
_RAISED, _LOWERED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ", "0123456789-n"), str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUPERSCRIPT, _SUBSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ]{1,20}"), re.compile("[₀₁₂₃₄₅₆₇₈₉]{1,20}")
_ROOT = re.compile(r"√\s?(?:\(([^()]{1,100})\)|([0-9]{1,20}|[a-z]))")
_EMPHASIS = re.compile(r"(?<![\\*])\*\*(?!\*)|(?<![\w*])__(?=\w)|(?<=\w)__(?![\w{])|`")
_STARS = re.compile(r"(?<=[\w)}])\*\*(?=[\w({\\-])")
_AMOUNT = re.compile(r"\$(?=\s?-?[\d.])")
_THOUSANDS = re.compile(
    r"(?:[(\[]|\\\{|\{)\s?\d{1,3}(?:,\d{3})+\s?(?:\\right\s?)?(?:[)\]]|\\\}|\})"  # alone in brackets: (10,100) is a pair
    r"|(?<![\d.,\\])(?<!\d )[1-9]\d{0,2}(?:(?:\{,\}\s?|,\s?\\[!,]\s?|,|\\,\s?|\\;\s?|\\!\s?|\\ | )\d{3})+(?![\d])(?!,\d)(?!\.\d*[,.]\d)"
)
_BRACED_AMOUNT = re.compile(r"\{(\d{1,3}(?:,\d{3})+)\}")
_SPACES = re.compile(r"\\[,;: >]|\\q?quad(?![A-Za-z])|~|\\(?:hspace|vspace|hskip)\*?\{[^{}]{0,20}\}|\\(?=\s)|\s+")
_GONE = re.compile(
    r"\\(?:left|right|[bB]igg?[lrm]?|middle|displaystyle|textstyle|scriptstyle|bf|rm|it|limits|nolimits|mleft|mright|mathstrut)(?![A-Za-z])\.?"
    r"|\\!|\\phantom\{[^{}]{0,20}\}|\\(?:math|text)?(?:strut|hfill)(?![A-Za-z])"
)
_TEXT = re.compile(
    r"\\(?:text(?:bf|it|rm|normal|sf|tt|up)?|math(?:rm|sf|normal|up|tt)|mbox|hbox|operatorname\*?|emph|textcolor\{[a-z]{1,10}\})\s*\{([^{}]{0,300})\}"
)
_STYLE = re.compile(
    r"\\(?:math(?:bf|it|cal|scr|frak)|boldsymbol|bm|underline|boxed|fbox|color\{[a-z]{1,10}\})\s*(?=\{)"
)
_COMMANDS = {
    "leq": "le",
    "geq": "ge",
    "neq": "ne",
    "leqslant": "le",
    "geqslant": "ge",
    "lbrace": "{",
    "rbrace": "}",
    "varnothing": "emptyset",
    "degree": "circ",
    "iff": ",",
    "Leftrightarrow": ",",
    "mid": "|",
    "vert": "|",
    "lvert": "|",
    "rvert": "|",
    "ast": "*",
    "div": "/",
    "times": "*",
    "cdot": "*",
    "dfrac": "frac",
    "tfrac": "frac",
    "cfrac": "frac",
    "dots": "ldots",
    "cdots": "ldots",
    "lt": "<",
    "gt": ">",
    "colon": ":",
    "lbrack": "[",
    "rbrack": "]",
    "lparen": "(",
    "rparen": ")",
    "simeq": "approx",
    "doteq": "approx",
    "cong": "approx",
    "lor": "or",
    "vee": "or",
    "land": "and",
    "wedge": "and",
    "dbinom": "binom",
    "tbinom": "binom",
    "tg": "tan",
    "ctg": "cot",
    "arctg": "arctan",
    "arcctg": "arccot",
    "lg": "lg",
    "to": "rightarrow",
    "varphi": "phi",
    "varepsilon": "epsilon",
    "vartheta": "theta",
    "backslash": "setminus",
    "smallsetminus": "setminus",
    "overrightarrow": "vec",
    "widehat": "hat",
    "widetilde": "tilde",
    "infin": "infty",
    "prime": "'",
    "textdollar": "$",
    "pounds": "sterling",
    "owns": "ni",
    "coloneqq": "=",
    "triangleq": "=",
    "equiv": "equiv",
    "lfloor": "lfloor",
    "textdegree": "circ",
    "implies": ",",
    "Rightarrow": ",",
    "dotsc": "ldots",
    "dotsb": "ldots",
}
FUNCTIONS = words(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth sech csch arcsinh arccosh arctanh log ln lg exp max min gcd lcm sqrt "
    "sgn det arg Re Im lim sup inf"
)
OPENING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}", "langle": "rangle", "lfloor": "rfloor", "lceil": "rceil"}
_TOKEN = re.compile(
    r"(\s+)|(\d+(?:\.\d+)?|\.\d+)|\x02([^\x02\x03]*)\x03|\\([A-Za-z]+)|([A-Za-z]+)|(\\[{}|%$#&\\])|(:=|==|<=|>=|!=|[-+*/^_(){}\[\]|,;:=<>!'%&$.?\"@#~`\x05])"
)
_TYPED = {":=": "=", "==": "=", "<=": "le", ">=": "ge", "!=": "ne", "\\|": "|", "\\%": "%", "\\&": "&"}
_PLAIN_NAMES = {
    "pi": "pi",
    "infinity": "infty",
    "inf": "infty",
    "oo": "infty",
    "theta": "theta",
    "alpha": "alpha",
    "beta": "beta",
    "gamma": "gamma",
    "lambda": "lambda",
    "omega": "omega",
    "sigma": "sigma",
    "phi": "phi",
    "mu": "mu",
    "cup": "cup",
    "union": "cup",
    "mod": "mod",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
}


def _number(match: re.Match) -> str:
    found = match.group()
    return re.sub(r"\D", "", found) if found[0].isdigit() else found


def spelled(text: str, *, thousands: bool = True) -> str:
    """``text`` in one spelling for ``tokens``; what stood in ``\\text{}`` is between two marks. ValueError if it is empty or too long.

    ``thousands``: 10,100 is one number and not two.
    """
    if len(text) > MAX_ANSWER:
        raise Unreadable(f"too long: an answer of {len(text)} characters, at most {MAX_ANSWER} are read")
    text = "".join(c for c in text.translate(_SIGNS) if c >= " " or c in "\n\t")
    text = _SUBSCRIPT.sub(lambda m: f"_{{{m.group().translate(_LOWERED)}}}", text)
    text = _SUPERSCRIPT.sub(lambda m: f"^{{{m.group().translate(_RAISED)}}}", text)
    text = _ROOT.sub(lambda m: rf"\sqrt{{{m[1] or m[2]}}}", text)
    text = (
        _EMPHASIS.sub(" ", _STARS.sub("^", text))
        .replace("\\\\%", "\\%")
        .replace("\\(", " ")
        .replace("\\)", " ")
        .replace("{.}", ".")
    )
    if not re.search("matrix|array|cases|aligned", text):
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text).replace("\\[", " ").replace("\\]", " ")
    text = text.replace("\\$", "\\dollar ")
    if text.count("$") % 2:  # one that ends no formula is an amount's
        text = _AMOUNT.sub(r"\\dollar ", text, count=1)
    text = re.sub(
        r"(?<=[\w)}\]])\$\s+\$(?=[\w\\(])|(?<=[\w)}\]])\s*\\q?quad(?![A-Za-z])\s*(?=[\w\\(])", GAP, text
    ).replace("$", " ")
    text = _BRACED_AMOUNT.sub(r"\1", text) if thousands else text
    text = _THOUSANDS.sub(_number, text) if thousands else text.replace("{,}", ",")
    text = text.replace("{,}", ",")
    text = text.replace("\\\\", "\x04")  # the end of a row is no escaped blank
    text = _SPACES.sub(" ", _GONE.sub("", text))
    for _ in range(3):  # a text command in a text command
        text, found = _TEXT.subn(lambda m: "\x02" + m[1].replace("\x02", "").replace("\x03", "") + "\x03", text)
        if not found:
            break
    text = _STYLE.sub("", text).strip().strip("*_").strip()
    text = re.sub(r"(?:\s*[.,;:]|\s*\x04)+$", "", text.strip()).strip()  # not "!": 5! is 120
    if text.endswith("}") and text.startswith("{") and closing_brace(text, 0) == len(text) - 1:
        text = text[1:-1].strip()  # {5} is 5; \{5\} is a set
    if not text:
        raise Unreadable("no answer found")
    return text


_COMMAND = re.compile(r"\\([A-Za-z]+)")
_MARKS = {2: " ", 3: " ", 4: " \\\\ ", 5: " "}


def flat(text: str) -> str:
    """``spelled`` text as it reads, without marks, and its commands in one spelling."""
    text = _COMMAND.sub(
        lambda m: "\\" + known if len(known := _COMMANDS.get(m[1], m[1])) > 1 else f" {known} ", text.translate(_MARKS)
    )
    return re.sub(r"\s+", " ", text).strip()


def tokens(text: str) -> list[Token]:
    """The tokens of ``spelled`` text. ValueError where a character begins none."""
    found: list[Token] = []
    at, space = 0, False
    text = text.replace("\x04", "\\\\")
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable("cannot be read as mathematics")
        at = match.end()
        blank, number, inside, command, letters, escaped, sign = match.groups()
        if blank is not None:
            space = True
            continue
        if number is not None:
            token = Token("number", number, space)
        elif inside is not None:
            token = _text(inside, space)
        elif command is not None:
            known = _COMMANDS.get(command, command)
            token = (
                Token("sign", "\\" + known, space)
                if known in "{}"
                else Token("sign" if len(known) == 1 else "command", known, space)
            )
        elif letters is not None:
            token = _letters(letters, space)
        else:
            token = _sign(_TYPED.get(escaped or sign, escaped or sign), space)
        space = False
        if token is not None:
            found.append(token)
        else:
            space = True
    return [_timed(found, i) for i in range(len(found))]


def _timed(found: list[Token], at: int) -> Token:
    """``sec`` and ``min`` behind a number, with nothing behind them that they could be functions of, are times."""
    token = found[at]
    if token.text not in ("sec", "min") or token.kind != "command" or not at:
        return token
    after = found[at + 1] if at + 1 < len(found) else None
    function = after is not None and (
        after.kind in ("name", "number")
        or (after.kind == "command" and after.text not in ("or", "and", "circ"))
        or after.text in ("(", "{", "^")
    )
    return token if function or found[at - 1].text in ("+", "-", "*", "=") else token._replace(kind="text")


def _sign(sign: str, space: bool) -> Token:
    return Token("command" if sign in ("le", "ge", "ne") else "sign", sign, space)


def _text(inside: str, space: bool) -> Token | None:
    bare = inside.strip()
    if not bare:
        return None
    if bare in FUNCTIONS:
        return Token("command", bare, space)
    if re.fullmatch(r"[\d.]{0,30}\d", bare) and bare.count(".") < 2:
        return Token("number", bare, space)
    if len(bare) == 1 and not bare.isalpha():
        return Token("sign", bare, space)
    return Token("text", bare, space or inside[0] == " ")


def _letters(letters: str, space: bool) -> Token:
    if letters in FUNCTIONS:
        return Token("command", letters, space)
    if letters in _PLAIN_NAMES:
        return Token("command", _PLAIN_NAMES[letters], space)
    return Token("name" if len(letters) == 1 else "word", letters, space)
