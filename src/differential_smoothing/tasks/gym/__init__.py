"""``reasoning_gym:NAME``: any generator of the package reasoning-gym as a task, with its own options.

    make_task("reasoning_gym:graph_color", min_num_vertices=7, max_num_vertices=7, edge_probability=0.4)

*Problems* come from (seed, index) of the generator. The split of a problem is decided by its question's text, so train,
dev and test share none. *Correct* is a score of at least ``threshold`` from the data set's own scorer, which runs in a
process of its own under limits of time and memory (``worker.py``); whatever an answer does to it, it is wrong with a
reason. *The same answer* is the same text but for white space, or what the data set's form says (``forms.py``), which also
gives some data sets short prompts for small models. Chat prompts are always the data set's question.
"""

from .forms import FORMS, Form
from .scorer import Scorer
from .task import GymProblem, ReasoningGym

__all__ = ["FORMS", "Form", "GymProblem", "ReasoningGym", "Scorer"]
