"""Hosts: one file per trainer that people run. Each imports its host; nothing else in the package imports them."""
