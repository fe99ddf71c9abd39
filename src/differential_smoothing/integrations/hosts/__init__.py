"""Thin files for trainers other than TRL and verl, one each: what the trainer hands over goes into the package's own functions.

None of them imports its trainer before it is called, so each can be read and tested without it. ``docs/hosts.md`` states which version
each was written against, and which levels it reaches.
"""
