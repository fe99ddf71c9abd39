"""``python -m differential_smoothing`` is ``dsmooth``."""

from differential_smoothing.cli import main

if __name__ == "__main__":  # the processes of a study import this file under another name
    main()
