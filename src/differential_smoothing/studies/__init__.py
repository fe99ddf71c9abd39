"""Many trainings compared: ``spec`` has a study (rules by seeds), ``sweep`` one that varies strengths and learning rates too, ``paper`` the tables
of the paper as studies, ``read`` finds out which one a file holds. ``run`` runs the cells, each a process of its own (``cell``) with ``gpus`` of its own,
and a sweep's cells leave ``counts``. What is done is not done again.
"""
