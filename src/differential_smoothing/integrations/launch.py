"""Whether a launch that was meant for several processes runs as one.

Nothing fails then: the training is only slower by that factor, and its batches are as many times smaller. Three ways into it:

* ``accelerate launch --num_processes 2`` where it finds no two GPUs, or with ``--cpu``: it sets MASTER_ADDR as for several
  processes and starts one (accelerate 1.15).
* ``python`` where ``torchrun`` was meant, on a cluster that announces WORLD_SIZE by itself.
* ``python`` on a machine with several GPUs: transformers spreads the model's layers over them or copies it to each with
  ``nn.DataParallel``, and both leave the GPUs waiting for each other.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["lone_process"]

_INSTEAD = (
    "Start it with `torchrun --nproc_per_node N -m differential_smoothing train ...` (or your script in place of -m ...), which "
    "starts N processes on GPUs and on CPUs, or on GPUs with `accelerate launch --num_processes N`. The batch of a step is N times "
    "per_device_train_batch_size."
)


def lone_process(environ: Mapping[str, str], *, processes: int, gpus: int) -> str | None:
    """One paragraph if this process trains alone although the launch looks like one for several; else None.

    Args:
        environ: the process's environment variables.
        processes: how many the trainer really has.
        gpus: how many the process sees and has not been told how to use; 0 for a training on the CPU.

    ``torchrun --nproc_per_node 1`` says one, and nothing is said. A MASTER_ADDR that the shell exports before ``accelerate launch
    --num_processes 1`` cannot be told from accelerate's own.
    """
    if processes > 1:
        return None
    announced = environ.get("WORLD_SIZE", "1").strip()
    if announced.isdecimal() and int(announced) > 1:
        return (
            f"This training runs in one process, although WORLD_SIZE={announced} announces {announced}: no launcher has told them of "
            f"each other, so every process that was started trains by itself. {_INSTEAD}"
        )
    if {"RANK", "LOCAL_RANK", "OMPI_COMM_WORLD_SIZE"} & set(environ):
        return None
    if {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= set(environ):
        return (
            f"This training runs in one process, although accelerate launch was asked for several: with --cpu, or where it finds too few "
            f"GPUs, it starts one and does not say so. {_INSTEAD}"
        )
    if gpus > 1:
        return (
            f"This training runs in one process and sees {gpus} GPUs: they will not work at the same time, or only with many copies of "
            f"the model between them. {_INSTEAD} If one GPU is meant, set CUDA_VISIBLE_DEVICES=0."
        )
    return None
