"""Which GPUs each job of a study sees: all that its largest cell needs, and no other job's."""

from __future__ import annotations

import os

from .spec import Cell, Study

__all__ = ["gpus_of", "gpus_of_jobs"]


def gpus_of_jobs(study: Study, jobs: int) -> list[list[str]]:
    """The GPUs of each job, by the names that CUDA_VISIBLE_DEVICES has; empty without GPUs."""
    need = {cell.name: gpus_of(cell, study) for cell in study.cells()}
    largest = max(need, key=need.__getitem__)
    gpus, most = [] if _on_the_cpu(study) else _visible_gpus(), need[largest]
    if not gpus:
        return [[] for _ in range(jobs or min(2, os.cpu_count() or 1))]
    if most > len(gpus):
        raise ValueError(
            f"{largest} needs {most} GPUs, for its processes or tensor_parallel_size, and this machine shows {len(gpus)}."
        )
    jobs = jobs or len(gpus) // most
    if most > 1 and jobs * most > len(gpus):
        raise ValueError(
            f"{jobs} jobs of {most} GPUs each do not fit on {len(gpus)}: they would take each other's. Take at most "
            f"{len(gpus) // most} jobs."
        )
    return [[gpus[(job * most + i) % len(gpus)] for i in range(most)] for job in range(jobs)]


def _on_the_cpu(study: Study) -> bool:
    """Whether nothing in the study is made for a GPU: small models, which may share one while they are sampled."""
    cells = study.cells()
    trained = [cell.options.get("use_cpu", False) for cell in cells if cell.options is not None]
    return (
        bool(trained)
        and all(trained)
        and all(e.engine != "vllm" for cell in cells for e in study.evaluations(cell).values())
    )


def _visible_gpus() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def gpus_of(cell: Cell, study: Study) -> int:
    """How many GPUs a cell takes at most, in training or in sampling. 1 where it takes none: there is nothing to keep apart."""
    options = cell.options or {}
    trained = 1 if options.get("use_cpu") else int(options.get("processes") or 1)
    sampled = [(e.engine_options or {}).get("tensor_parallel_size", 1) for e in study.evaluations(cell).values()]
    return max([trained, *(size for size in sampled if isinstance(size, int))])
