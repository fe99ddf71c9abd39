"""The exact laboratory: the theory of Differential Smoothing on prompts with finitely many trajectories, computed.

``closed_form`` has the optima, ``penalty`` those of a problem that is not concave, ``population`` Pass@k of many prompts, ``theorem`` and
``biases`` the paper's statements as functions, ``frontier`` what no rule can beat, ``trajectories`` and ``oracle`` the exact expected gradient of
the shipped advantages, ``dynamics`` training, ``claims`` the verdicts and ``figures`` the pictures. ``dsmooth tabular`` runs all of it.
Needs SciPy; the figures need matplotlib.
"""
