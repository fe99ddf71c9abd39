"""Pass@k and Pass^k: the chance that one, or every one, of k samples is correct, without bias from n >= k."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["pass_at_k", "pass_at_k_curve", "pass_hat_k"]


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> NDArray[np.float64]:
    """Unbiased estimate of Pass@k from `c` correct among `n` samples of a problem:

        pass@k = 1 - C(n - c, k) / C(n, k)

    that is, the share of all k-subsets of the samples that hold a correct one (Chen et al. 2021, "Evaluating
    Large Language Models Trained on Code", eq. 1). The three arguments broadcast; problems (P, 1) against k
    (K,) gives curves (P, K). The result is a probability, and NaN where k > n, which the samples cannot
    answer.

    The absolute error is below 1e-13 for n up to 10,000. An entry costs at most min(c, k) multiplications,
    and fewer than 7 sqrt(n) whatever c and k are.

    Raises ValueError for values that are not whole numbers, n or c below 0, k below 1, and c > n.
    """
    return 1.0 - _none_drawn(*_checked("pass_at_k", n, c, k))


def pass_hat_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> NDArray[np.float64]:
    """Unbiased estimate of Pass^k, the chance that k samples of a problem are all correct:

        pass^k = C(c, k) / C(n, k)

    the share of all k-subsets without a wrong sample (Yao et al. 2024, "tau-bench", arXiv 2406.12045). It says
    how far a model can be relied on, where Pass@k says what it can reach; at k = 1 the two are one. Arguments,
    result, accuracy and errors as in `pass_at_k`.
    """
    n, c, k = _checked("pass_hat_k", n, c, k)
    return _none_drawn(n, n - c, k)


def pass_at_k_curve(n: ArrayLike, c: ArrayLike, up_to: int | None = None) -> NDArray[np.float64]:
    """`pass_at_k` for every k = 1, 2, ..., up_to at once: `n` and `c` of shape (...) give (..., up_to).

    Entry j belongs to k = j + 1, and is NaN where k > n. `up_to` defaults to the largest n. Problems with equal
    (n, c) share their curve, and a curve is one cumulative product, since C(n - c, k) / C(n, k) is the product of
    (n - c - i) / (n - i) over i < k. After k factors its relative error is below 2k roundings, and its value is
    at most 1 - k / n, so the absolute error is below n / 2 roundings: 6e-13 for n = 10,000, typically 1e-14.

    Raises ValueError as `pass_at_k` does, and for `up_to` below 1.
    """
    n, c, _ = _checked("pass_at_k_curve", n, c, 1)
    up_to = max(1, n.max(initial=0)) if up_to is None else up_to
    up_to = int(_whole("pass_at_k_curve", "up_to", up_to, 1))
    pairs, place = np.unique(np.stack([n.ravel(), c.ravel()], axis=1), axis=0, return_inverse=True)
    total, wrong = pairs[:, :1], pairs[:, :1] - pairs[:, 1:]
    drawn = np.arange(up_to)
    curve = np.maximum(wrong - drawn, 0) / np.maximum(total - drawn, 1)
    np.cumprod(curve, axis=1, out=curve)
    np.subtract(1.0, curve, out=curve)
    curve[drawn >= total] = np.nan
    return curve[place.ravel()].reshape(*n.shape, up_to)


def _none_drawn(n: NDArray[np.int64], c: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.float64]:
    """C(n - c, k) / C(n, k): the chance that none of c marked among n samples is in k drawn ones."""
    # The ratio is symmetric in c and k, so of its two forms the product of (n - more - i) / (n - i) over
    # i < fewer is the shorter. After i factors it is below exp(-i^2 / n): a product long enough to gather
    # rounding errors is too small for them to matter, and below 2^-60 it vanishes beside the 1.
    result = np.where(k > n, np.nan, 1.0).ravel()
    place = np.flatnonzero(k <= n)
    total = n.ravel()[place].astype(np.float64)
    fewer, more = np.minimum(c, k).ravel()[place], np.maximum(c, k).ravel()[place]
    none = np.ones(place.size)
    i = 0
    while place.size:
        going = (i < fewer) & (none > 2.0**-60)
        if not going.all():
            result[place[~going]] = none[~going]
            place, total, fewer, more, none = (a[going] for a in (place, total, fewer, more, none))
        none *= (total - more - i) / (total - i)
        i += 1
    return result.reshape(n.shape)[()]


def _checked(who: str, n: ArrayLike, c: ArrayLike, k: ArrayLike) -> tuple[NDArray[np.int64], ...]:
    n, c, k = np.broadcast_arrays(_whole(who, "n", n, 0), _whole(who, "c", c, 0), _whole(who, "k", k, 1))
    if np.any(c > n):
        at = np.unravel_index(np.argmax(c > n), n.shape)
        raise ValueError(
            f"{who} got c = {c[at]} correct among n = {n[at]} samples, expected c <= n. Check that both "
            "count the same scored samples."
        )
    return n, c, k


def _whole(who: str, name: str, value: ArrayLike, least: int) -> NDArray[np.int64]:
    array = np.asarray(value)
    wrong = "{} got {} = {!r}, expected whole numbers, at least {}. "
    if array.dtype.kind not in "iuf":
        raise ValueError(wrong.format(who, name, value, least) + f"Give integers instead of {array.dtype} values.")
    if not np.all((array >= least) & (array == np.floor(array)) & (array < 2**53)):
        raise ValueError(wrong.format(who, name, value, least) + "Leave out problems without a count.")
    return array.astype(np.int64)
