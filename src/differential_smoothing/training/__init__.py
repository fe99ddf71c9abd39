"""One training, from its options to its model: ``options`` reads them, ``run`` trains, ``plan`` checks it first and ``cost`` counts what it takes; ``models``, ``base_model``,
``supervised``, ``packaged`` and ``hub`` are where its model comes from.
"""

from .models import resolve_model
from .options import RunArguments, parse_config
from .run import snapshot, train

__all__ = ["RunArguments", "parse_config", "resolve_model", "snapshot", "train"]
