"""How varied the correct answers of a problem are: given that it is solved, in how many ways?

Pass@k mixes two things, how often a model is right and in how many ways. These estimates look at the correct
samples alone, so that two models of different accuracy compare. What is unbiased and what is not:

- `rarefaction` and `gini_simpson` are U-statistics: without bias whatever the number of samples, given that
  there are enough of them, and NaN where there are not.
- The plug-in entropy of the forms found, and so its exp (the effective number of order 1, and the Vendi score of
  a 0/1 similarity), is biased downwards by about (forms - 1) / (2 c) nats from c correct samples, and no unbiased
  estimate of it exists. So is the plain count of distinct forms. Compare those at equal numbers only.
- `effective_modes` turns the unbiased `gini_simpson` into a number of modes. The turn is convex, so the number
  of one problem errs upwards; of a mean over many problems it errs little.

A mean over problems is about the problems where the estimate is defined, and a model that solves more of them is
judged on harder ones: compare on the problems where both models are defined.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .pass_at_k import pass_at_k
from .tally import Tally

__all__ = ["distinct_at_k", "effective_modes", "gini_simpson", "mode_agreement", "rarefaction", "vendi_score"]


def rarefaction(repeats: ArrayLike, k: ArrayLike, n: int | None = None) -> NDArray[np.float64] | np.float64:
    """Expected number of different forms among k samples drawn without replacement, for one problem.

    `repeats` (F,) says how often each different correct form came up; it may be empty. `n` is the number of
    samples to draw from, `sum(repeats)` if not given: then the k samples are all correct. Give the number of all
    scored samples, and the others are wrong and add no form. With N the number drawn from:

        sum over forms f of  1 - C(N - repeats_f, k) / C(N, k)

    (Hurlbert 1971, "The nonconcept of species diversity", eq. 14; Sanders' rarefaction made exact), which is
    without bias for the number in k new samples. `k` of any shape gives that shape; NaN where k > N.

    Raises ValueError for repeats that are not whole numbers >= 1, `n` below their sum, and k below 1.
    """
    repeats = _repeats("rarefaction", repeats)
    total = int(repeats.sum())
    if n is not None and n < total:
        raise ValueError(
            f"rarefaction got n = {n} samples and {total} correct ones among them, expected n to be at least "
            "that. Give the number of all scored samples."
        )
    drawn_from = total if n is None else n
    k = np.asarray(k)
    # A form is in the draw just as a correct sample is; with no form, the empty sum still knows k > n.
    forms = pass_at_k(drawn_from, np.append(repeats, 0), k[..., None])
    return forms.sum(axis=-1)


def gini_simpson(repeats: ArrayLike) -> float:
    """Chance that two of a problem's correct samples, drawn without replacement, have different forms.

        1 - sum over forms f of  repeats_f (repeats_f - 1) / (c (c - 1)),    c = sum(repeats)

    (Hurlbert 1971, PIE; Simpson 1949, "Measurement of diversity"): the U-statistic, without bias for the chance
    that two new correct samples differ. In [0, 1]; NaN below two correct samples. `repeats` as in `rarefaction`.
    """
    repeats = _repeats("gini_simpson", repeats)
    c = int(repeats.sum())
    return 1.0 - float((repeats * (repeats - 1)).sum()) / (c * (c - 1)) if c > 1 else np.nan


def effective_modes(differ: ArrayLike) -> NDArray[np.float64] | np.float64:
    """Effective number of modes of order 2, 1 / (1 - differ): this many equally likely forms agree as often.

    `differ` is what `gini_simpson` gives, or its mean over problems (Hill 1973, "Diversity and evenness"; Jost 2006,
    "Entropy and diversity"). At least 1; inf where no two samples agree, because then nothing bounds the number; NaN
    stays NaN. Turn the mean over problems, not each problem: one problem without an agreement would be inf.
    """
    differ = np.asarray(differ, dtype=np.float64)
    if np.any((differ < 0) | (differ > 1)):
        raise ValueError(
            f"effective_modes got values from {np.nanmin(differ)} to {np.nanmax(differ)}, expected chances in [0, 1]. "
            "Give the result of gini_simpson."
        )
    with np.errstate(divide="ignore"):
        return (1.0 / (1.0 - differ))[()]


def vendi_score(similarity: ArrayLike) -> float:
    """Vendi score of m samples: exp of the von Neumann entropy of similarity / m, between 1 and m.

        exp(-sum_i l_i log l_i),    l the eigenvalues of similarity / m

    (Friedman and Dieng 2023, "The Vendi score", TMLR). `similarity` (m, m) is any positive semi-definite matrix with
    ones on its diagonal, such as cosines of embeddings, or 1 where two forms are equal and 0 elsewhere, which gives
    exp of the plug-in entropy. It grows with m: compare at equal m. NaN for no samples.

    Raises ValueError for another shape, a value that is not finite, a diagonal that is not 1, a matrix that is not
    symmetric, and one with a negative eigenvalue, all up to 1e-8 (eigenvalues: times m).
    """
    matrix = np.asarray(similarity, dtype=np.float64)
    wrong = f"vendi_score got a similarity of shape {matrix.shape}"
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{wrong}, expected a square matrix (m, m). Compare every sample with every other.")
    if matrix.size == 0:
        return np.nan
    if not np.isfinite(matrix).all() or np.abs(matrix.diagonal() - 1).max() > 1e-8:
        raise ValueError(
            f"{wrong} whose values are not all finite or whose diagonal is not 1, expected every sample to have the "
            "similarity 1 with itself. Divide by the norms: K[i, j] / sqrt(K[i, i] K[j, j])."
        )
    if np.abs(matrix - matrix.T).max() > 1e-8:
        raise ValueError(
            f"{wrong} that is not symmetric, expected K[i, j] = K[j, i]. Take (K + K.T) / 2 if that is meant."
        )
    weights = np.linalg.eigvalsh(matrix) / len(matrix)
    if weights[0] < -1e-8:
        raise ValueError(
            f"{wrong} with the negative eigenvalue {weights[0] * len(matrix):.3g}, expected a positive semi-definite one: "
            "the entropy is of eigenvalues as shares. Use a kernel, such as cosines or exp(-distance^2)."
        )
    shares = weights[weights > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def distinct_at_k(counted: Tally, k: int, *, of_correct: bool) -> NDArray[np.float64]:
    """`rarefaction` of every problem of a tally: (P,), drawing from its correct samples or from all scored ones.

    NaN where k is above what there is to draw from, and where the forms are not known.
    """
    drawn_from = counted.c if of_correct else counted.n
    # Many forms came up equally often among equally many; each such pair is worked out once.
    pairs, place = np.unique(
        np.stack([drawn_from[counted.owner], counted.repeats], axis=1), axis=0, return_inverse=True
    )
    found = np.bincount(
        counted.owner, weights=pass_at_k(pairs[:, 0], pairs[:, 1], k)[place.ravel()], minlength=len(counted.n)
    )
    return np.where(counted.known & (k <= drawn_from), found, np.nan)


def mode_agreement(counted: Tally) -> NDArray[np.float64]:
    """`gini_simpson` of every problem of a tally: (P,), NaN below two correct samples and where forms are not known."""
    agree = np.bincount(counted.owner, weights=counted.repeats * (counted.repeats - 1.0), minlength=len(counted.n))
    pairs = counted.c * (counted.c - 1.0)
    return np.where(counted.known & (pairs > 0), 1.0 - agree / np.maximum(pairs, 1), np.nan)


def _repeats(who: str, repeats: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(repeats)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.min() < 1:
        raise ValueError(
            f"{who} got repeats = {repeats!r}, expected one whole number >= 1 per different correct form. Count the "
            "samples of each form, such as with np.unique(forms, return_counts=True)[1]."
        )
    return array.astype(np.int64)
