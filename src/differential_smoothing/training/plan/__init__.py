"""The plan of a training, made without its weights: ``make`` collects into a ``page`` what the ``model``'s tokenizer, the ``problems`` and an
``estimate`` of the cost say, and every mistake on the way.
"""

from .estimate import placement_of
from .make import make_plan
from .page import Plan

__all__ = ["Plan", "make_plan", "placement_of"]
