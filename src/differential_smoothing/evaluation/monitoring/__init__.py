"""Sharpening seen while a model trains: ``groups`` measures the groups of a batch, ``sequential`` tests for a fall after every step."""
