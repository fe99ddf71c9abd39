"""What an answer is: a quantity, an equation, a system, a set, a tuple, a region, a matrix, words; and when two are the same.

``tokens`` cuts LaTeX or plain text into tokens, ``units`` takes units off, ``trees`` reads an expression, ``values`` gives the type of an
answer, ``agree`` compares two of them type by type, and ``oracles`` decides whether two expressions are equal: exactly where they are
``polynomials``, else by their values (``numeric``). Two answers of different types, and whatever cannot be decided, are not equal.

These modules import each other relatively, and nothing else of the package: the program ``worker`` loads them without it.
"""
