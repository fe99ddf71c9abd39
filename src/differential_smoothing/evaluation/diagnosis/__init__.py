"""Did training sharpen a model? ``sharpening`` compares samples before and after it, ``regime`` reads the training's own log."""

from .sharpening import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
