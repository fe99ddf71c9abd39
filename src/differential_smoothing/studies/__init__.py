"""Many trainings compared: ``study`` (rules by seeds), ``sweep`` (rules by strengths, learning rates and seeds) and ``paper`` (the tables of the
paper as studies). A cell is one process; what is done is not done again.
"""
