"""Trees of tokens: trajectories that share prefixes, and a policy with one softmax at every node.

One node and one token per trajectory is a bandit. log pi(y) is a sum over the tokens of y.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Trajectories", "log_policy", "random_tree", "sequences", "to_logits", "token_logps"]

Floats = NDArray[np.float64]


class Trajectories(NamedTuple):
    """Y trajectories of up to T tokens: ``node``, ``action`` (Y, T) ints and ``mask`` (Y, T) bool; ``nodes`` M, ``actions`` V.

    ``allowed`` (M, V) bool marks the actions that some trajectory takes; the policy gives the others probability 0.
    """

    node: NDArray[np.int64]
    action: NDArray[np.int64]
    mask: NDArray[np.bool_]
    allowed: NDArray[np.bool_]


def sequences(tokens: Sequence[Sequence[int]]) -> Trajectories:
    """Trajectories from sequences of tokens, one node per prefix. ``[[0], [1], [2]]`` is a bandit with three arms.

    Raises ValueError unless there are at least two, different, none the beginning of another: else their probabilities
    would not sum to 1.
    """
    paths = [tuple(int(token) for token in path) for path in tokens]
    prefixes = {path[:t] for path in paths for t in range(len(path))}
    if (
        len(paths) < 2
        or not all(paths)
        or len(set(paths)) < len(paths)
        or prefixes & set(paths)
        or min(map(min, paths)) < 0
    ):
        raise ValueError(
            f"sequences needs at least two different, non-empty lists of token numbers >= 0, none of which begins another; "
            f"got {tokens!r}. End each with a token of its own for 'stop' where needed."
        )
    number = {prefix: i for i, prefix in enumerate(sorted(prefixes))}
    longest = max(map(len, paths))
    node, action = (np.zeros((len(paths), longest), dtype=np.int64) for _ in range(2))
    mask = np.zeros((len(paths), longest), dtype=bool)
    allowed = np.zeros((len(number), 1 + max(map(max, paths))), dtype=bool)
    for y, path in enumerate(paths):
        for t, token in enumerate(path):
            node[y, t], action[y, t], mask[y, t] = number[path[:t]], token, True
            allowed[number[path[:t]], token] = True
    return Trajectories(node, action, mask, allowed)


def random_tree(leaves: int, seed: int, *, actions: int = 3) -> Trajectories:
    """A random tree with ``leaves`` >= 2 trajectories: a leaf drawn uniformly grows 2 to ``actions`` branches, until there are enough.

    Raises ValueError for fewer than two leaves or two actions. The seed decides the tree.
    """
    if leaves < 2 or actions < 2:
        raise ValueError(f"random_tree needs leaves >= 2 and actions >= 2, got {leaves} and {actions}.")
    random = np.random.default_rng(seed)
    paths: list[list[int]] = [[]]
    while len(paths) < leaves:
        grown = paths.pop(int(random.integers(len(paths))))
        most = min(actions, leaves - len(paths))
        paths += [[*grown, action] for action in range(int(random.integers(2, most + 1)))]
    return sequences(paths)


def token_logps(logits: Floats, trajectories: Trajectories) -> Floats:
    """(..., M, V) logits -> (..., Y, T) log-probabilities of every token, nats; 0 where masked."""
    return np.where(
        trajectories.mask, log_policy(logits, trajectories)[..., trajectories.node, trajectories.action], 0.0
    )


def to_logits(per_outcome: Floats, logits: Floats, trajectories: Trajectories) -> Floats:
    """(..., Y, T) weight of each token of each trajectory -> (..., M, V): every token adds weight * (onehot - pi) / length."""
    weight = per_outcome / trajectories.mask.sum(1)[:, None]
    shape = (*weight.shape[:-2], *trajectories.allowed.shape)
    flat = np.zeros((int(np.prod(shape[:-2])), trajectories.allowed.size))
    place = (trajectories.node * shape[-1] + trajectories.action)[trajectories.mask]
    tokens = weight.reshape(len(flat), *trajectories.mask.shape)[:, trajectories.mask]
    if len(set(place.tolist())) == len(place):  # a bandit: no two tokens are the same decision
        flat[:, place] = tokens
    else:
        for column, at in enumerate(place):
            flat[:, at] += tokens[:, column]
    gradient = flat.reshape(shape)
    policy = np.exp(log_policy(logits, trajectories))
    return gradient - policy * gradient.sum(-1, keepdims=True)


def log_policy(logits: Floats, trajectories: Trajectories) -> Floats:
    """(..., M, V) logits -> log of the softmax over the allowed actions of every node, -inf elsewhere."""
    if logits.shape[-2:] != trajectories.allowed.shape:
        raise ValueError(
            f"logits must be (..., {', '.join(map(str, trajectories.allowed.shape))}), one softmax per node, got {logits.shape}."
        )
    values = np.where(trajectories.allowed, logits, -np.inf)
    values = values - values.max(-1, keepdims=True)
    return values - np.log(np.exp(values).sum(-1, keepdims=True))
