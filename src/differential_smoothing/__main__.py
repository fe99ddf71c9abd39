"""``python -m differential_smoothing`` is ``dsmooth``."""

from differential_smoothing.cli import main

main()
