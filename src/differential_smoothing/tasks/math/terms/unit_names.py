"""The units by their names and symbols: which phrase stands for which unit, and which words are things that are counted."""

from __future__ import annotations

import re

from .tokens import words

__all__ = ["DEGREE", "PERCENT", "SIGNS", "SYMBOLS", "TYPED", "unit_of"]

PERCENT, DEGREE = "%", "°"


def _table(*rows: tuple[str, str]) -> dict[str, str]:
    return {word: unit for words, unit in rows for word in words.split()}


# Alternatives are written a|b: a pound is money or a weight.
_WORDS = _table(
    ("kilometer kilometers kilometre kilometres kms", "km"),
    ("centimeter centimeters centimetre centimetres cms", "cm"),
    ("millimeter millimeters millimetre millimetres", "mm"),
    ("meter meters metre metres", "m"),
    ("inch inches", "in"),
    ("foot feet", "ft"),
    ("yard yards yds", "yd"),
    ("mile miles", "mi"),
    ("kilogram kilograms kgs", "kg"),
    ("gram grams gm gms", "g"),
    ("milligram milligrams", "mg"),
    ("pound pounds", "lb|£"),
    ("lbs", "lb"),
    ("ounce ounces", "oz"),
    ("ton tons tonne tonnes", "t"),
    ("second seconds sec secs", "s"),
    ("minute minutes mins", "min"),
    ("hour hours hr hrs", "h"),
    ("day days", "day"),
    ("week weeks wk wks", "week"),
    ("month months", "month"),
    ("year years yr yrs", "year"),
    ("liter liters litre litres", "L"),
    ("milliliter milliliters millilitre millilitres", "mL"),
    ("gallon gallons gal", "gal"),
    ("radian radians rads", "rad"),
    ("degree degrees", "°|°C|°F"),
    ("celsius", "°C"),
    ("fahrenheit", "°F"),
    ("kelvin kelvins", "K"),
    ("newton newtons", "N"),
    ("joule joules", "J"),
    ("watt watts", "W"),
    ("volt volts", "V"),
    ("ampere amperes amp amps", "A"),
    ("ohm ohms", "Ω"),
    ("hertz", "Hz"),
    ("pascal pascals", "Pa"),
    ("coulomb coulombs", "C"),
    ("tesla teslas", "T"),
    ("mole moles", "mol"),
    ("acre acres", "acre"),
    ("hectare hectares", "ha"),
    ("knot knots", "knot"),
    ("dollar dollars buck bucks usd", "$"),
    ("cent cents", "¢"),
    ("euro euros eur", "€"),
    ("sterling gbp", "£"),
    ("yen jpy", "¥"),
    ("rupee rupees rs inr", "₹"),
    ("yuan rmb cny", "元"),
    ("percent percentage", PERCENT),
    ("permille permil promille", "‰"),
    ("unit units", ""),
    ("point points pt pts", "point"),
    ("person people persons", "person"),
    ("parsec parsecs", "pc"),
    ("angstrom angstroms", "Å"),
    ("calorie calories", "cal"),
    ("erg ergs", "erg"),
    ("dyne dynes", "dyn"),
    ("bit bits", "bit"),
    ("byte bytes", "byte"),
)


SYMBOLS = _table(
    *(
        (s, s)
        for s in [
            "km",
            "cm",
            "mm",
            "m",
            "in",
            "ft",
            "yd",
            "mi",
            "kg",
            "mg",
            "g",
            "lb",
            "oz",
            "s",
            "ms",
            "min",
            "h",
            "day",
            "L",
            "mL",
            "J",
            "kJ",
            "W",
            "kW",
            "MW",
            "N",
            "Pa",
            "kPa",
            "V",
            "A",
            "K",
            "eV",
            "keV",
            "MeV",
            "GeV",
            "Hz",
            "kHz",
            "MHz",
            "GHz",
            "mph",
            "kph",
            "rad",
            "mol",
            "C",
            "T",
            "F",
            "H",
            "pc",
            "nm",
            "pm",
            "um",
            "t",
            "gal",
            "ha",
            "Wb",
            "cal",
            "kcal",
            "erg",
            "dyn",
            "mA",
            "mV",
            "kV",
            "mW",
            "mJ",
            "MPa",
            "atm",
            "bar",
            "GB",
            "MB",
            "KB",
        ]
    ),
    ("ml", "mL"),
    ("l", "L"),
    ("M", "M"),
    ("rpm", "rpm"),
    ("sr", "sr"),
    ("AU", "AU"),
    ("Ω", "Ω"),
    ("kmh", "km h-1"),
    ("km/h", "km h-1"),
)


_SPEEDS = {"mph": "mi h-1", "kph": "km h-1"}


#: symbols that, typed without \text{}, are hardly a product of variables
TYPED = words(
    "km cm mm ft yd mi kg mg lb oz min mL ml mph kph rad mol Hz kHz MHz GHz eV keV MeV GeV kJ kW Pa kPa kcal nm gal rpm"
)


_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}


#: words that may stand between a number and a noun, or behind it
_ADJECTIVES = words(
    "positive ordered different distinct possible real integer whole total such unique complete full equal identical prime even odd natural rational valid good small large "
    "big little new old red blue green yellow white black orange purple pink brown gray grey silver gold golden consecutive additional more other extra remaining nonnegative "
    "non-negative three-digit two-digit four-digit five-digit single individual separate chocolate first minimum maximum least most lattice right acute obtuse equilateral "
    "linear nautical light solar metric us fluid standard independent correct female male adult young paper plastic wooden school"
)


_JOINTS = words(
    "of in per from on at for with by to a an the each and his her their left long wide tall high old away apart altogether total overall later earlier ago remaining apiece"
)


NUMBER_WORDS = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty "
    "seventy eighty ninety hundred thousand million billion trillion quadrillion lakh crore dozen score gross myriad half halve halves third quarter fourth fifth sixth "
    "seventh eighth ninth tenth"
)


_NO_NOUNS = words(
    "plus minus times less gross wrong more yes is was has does this thus us as his its always perhaps sometimes besides unless whereas radius minuses pluses zeros zeroes twos threes "
    "sixes powers inverses reciprocals factorials roots squares cubes modulus repeats recurs equals exceeds divides decimals doubles negatives opposites percents percentages others "
    "dozens scores halves quarters thirds bases multiples logs exponents digits exponentials permilles fractions"
)


_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "mice": "mouse",
    "geese": "goose",
    "teeth": "tooth",
    "fish": "fish",
    "sheep": "sheep",
    "dice": "die",
    "oxen": "ox",
    "vertices": "vertex",
    "matrices": "matrix",
    "indices": "index",
    "radii": "radius",
    "foci": "focus",
    "loci": "locus",
    "series": "series",
}


_PER = re.compile(r"\s*(?:/|\bper\b|\ban?\b(?= (?:hour|minute|second|day|week|month|year|pound|mile)\b))\s*")


_PART = re.compile(r"([A-Za-z]+)\s?(?:\^?\{?(-?\d)\}?|[²³])?")


def _plural(word: str) -> str | None:
    """The noun that a plain plural is of, else None: "apples", not "gross", "sixteenths" or "hundreds"."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if (
        len(word) < 4
        or not word.islower()
        or not word.endswith("s")
        or word.endswith(("ss", "us", "is", "ths", "rds", "nds"))
        or word in _NO_NOUNS
    ):
        return None
    noun = re.sub(r"(?<=[^aeiou])ies$", "y", word) if word.endswith("ies") else word[:-1]
    first = noun.split("-")[0]
    if noun in NUMBER_WORDS or (first != noun and first in NUMBER_WORDS) or noun.endswith(("illion", "first")):
        return None
    return noun


def _physical(phrase: str) -> str | None:
    """A product of known units, as "km h-1"; "" for "square units"; None if a part is not known."""
    powers: dict[str, int] = {}
    parts = _PER.split(phrase.strip())
    if len(parts) > 3:
        return None
    for place, part in enumerate(parts):
        sign = -1 if place else 1
        scale, known, last = 1, False, ""
        words = re.sub(r"(?<=[A-Za-z])-(?=\s?[A-Za-z])", " ", part).replace("*", " ").replace(".", " ")
        at = 0
        while words[at:].strip():
            match = _PART.match(words, at + len(words[at:]) - len(words[at:].lstrip()))
            if match is None:
                return None
            at = match.end()
            word, power = match[1], match[2]
            if word.lower() in ("square", "sq", "cubic", "cu"):
                scale = _POWERS[word.lower()]
                continue
            if word.lower() in ("squared", "cubed") and last in powers:
                powers[last] = powers[last] * _POWERS[word.lower()]
                continue
            unit = SYMBOLS.get(word, _WORDS.get(word.lower()))
            if unit is None:
                return None
            exponent = (
                int(power) if power else 3 if match.group().endswith("³") else 2 if match.group().endswith("²") else 1
            )
            if unit in _SPEEDS:
                powers[(unit[0] == "m" and "mi") or "km"], powers["h"] = 1, -1
                known = True
                continue
            if unit == "°|°C|°F" and powers.get(unit):
                return None
            if unit:
                last = unit
                powers[unit] = powers.get(unit, 0) + sign * scale * exponent
            known, scale = True, 1
        if not known:
            return None
    if "°|°C|°F" in powers and ("°C" in powers or "°F" in powers):  # degrees Celsius
        del powers["°|°C|°F"]
    return " ".join(unit if power == 1 else f"{unit}{power}" for unit, power in sorted(powers.items()) if power)


def unit_of(phrase: str) -> str | None:
    """The unit that the words of ``phrase`` name: "cm2", "km h-1", "", or "#apple" for things counted; None if it is none."""
    phrase = re.sub(r"\s+", " ", phrase).strip(" .,;")
    if not phrase:
        return ""
    if phrase in SIGNS.values() or phrase == DEGREE:
        return phrase
    physical = _physical(phrase)
    if physical is not None:
        return physical
    if phrase in ("times", "per cent"):
        return "#time" if phrase == "times" else PERCENT
    words = phrase.replace("(", " ").replace(")", " ").lower().split()
    if not words or len(words) > 12 or not all(re.fullmatch(r"[a-z]+(?:[-'][a-z]+)*", w) for w in words):
        return None
    if any(
        w in NUMBER_WORDS or w in ("not", "or", "no", "wrong", "minus", "plus", "maybe", "perhaps", "but")
        for w in words
    ):
        return None
    at = 0
    while at < len(words) and words[at] in _ADJECTIVES:
        at += 1
    noun = None
    while at < len(words) and (_plural(words[at]) or words[at] in _WORDS or words[at] in _ADJECTIVES):
        noun = _plural(words[at]) or (words[at] if words[at] in _WORDS else noun)
        at += 1
    if noun is None:
        return None
    if at < len(words) and words[at] not in _JOINTS:
        return None
    return f"#{noun}"


SIGNS = {
    "%": PERCENT,
    "dollar": "$",
    "euro": "€",
    "sterling": "£",
    "yen": "¥",
    "rupee": "₹",
    "cent": "¢",
    "permille": "‰",
    "Omega": "Ω",
}
