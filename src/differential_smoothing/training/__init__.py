"""One training, from its options to its model: ``run`` does it, ``plan`` checks it first and ``cost`` counts what it takes; ``base_model``,
``supervised``, ``packaged`` and ``hub`` are where its model comes from.
"""

from .run import RunArguments, parse_config, resolve_model, snapshot, train

__all__ = ["RunArguments", "parse_config", "resolve_model", "snapshot", "train"]
