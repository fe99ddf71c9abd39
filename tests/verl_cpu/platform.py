"""verl's own extension points, filled in for a CPU: platform, engine, rollout. Load with VERL_USE_EXTERNAL_MODULES and VERL_PLATFORM=cpu.

One shim is no extension point: verl asks for the process groups "cpu:gloo,cpu:gloo", which torch refuses as a duplicate.
"""

import os
import types
from contextlib import contextmanager

import torch
import torch.distributed as dist

_init_process_group = dist.init_process_group


def init_process_group(backend=None, *args, **kwargs):
    return _init_process_group("gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *args, **kwargs)


dist.init_process_group = init_process_group

from verl.plugin.platform.platform_base import PlatformBase  # noqa: E402
from verl.plugin.platform.platform_manager import PlatformRegistry  # noqa: E402


def nothing(*_, **__):
    return None


class Device(types.ModuleType):
    """What torch.cuda is to the others."""

    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: "cpu")
    get_device_name = staticmethod(lambda *_: "cpu")
    set_device = synchronize = empty_cache = ipc_collect = reset_peak_memory_stats = staticmethod(nothing)
    memory_allocated = memory_reserved = staticmethod(lambda *_: 0)
    max_memory_allocated = max_memory_reserved = staticmethod(lambda *_: 0)
    mem_get_info = staticmethod(lambda *_: (1 << 33, 1 << 33))
    get_rng_state = staticmethod(lambda *_: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, *_: torch.set_rng_state(state))
    manual_seed = manual_seed_all = staticmethod(lambda seed: torch.manual_seed(seed))


@PlatformRegistry.register(platform="cpu")
class CPU(PlatformBase):
    device_name = vendor_name = "cpu"
    device_module = Device("verl_cpu_device")

    def is_available(self):
        return True

    def is_platform_available(self, use_smi_check=False):
        return os.environ.get("VERL_PLATFORM") == "cpu"

    def current_device(self):
        return "cpu"

    def device_count(self):
        return 1

    def manual_seed(self, seed):
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_device_capability(self, device=0):
        return None, None

    def communication_backend_name(self):
        return "gloo"

    def visible_devices_envvar(self):
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, message):
        yield

    def ray_resource_name(self):
        return "GPU"  # verl counts no other: Ray is started with pretended ones

    def ray_noset_envvars(self):
        return []

    def is_ipc_supported(self):
        return False

    def set_device(self, *_): ...
    def synchronize(self, *_): ...
    def set_allocator_settings(self, *_): ...
    def empty_cache(self): ...
    def profiler_start(self): ...
    def profiler_stop(self): ...
    def cudart(self): ...


def register() -> None:
    from verl.workers.engine import EngineRegistry, FSDPEngineWithLMHead
    from verl.workers.rollout import base
    from verl.workers.rollout.replica import RolloutReplicaRegistry

    engine = EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")
    engine(FSDPEngineWithLMHead)

    def replica():
        from verl_cpu.rollout import HFReplica

        return HFReplica

    RolloutReplicaRegistry.register("hf_cpu", replica)
    base._ROLLOUT_REGISTRY["hf_cpu", "async"] = "verl_cpu.rollout.ServerAdapter"


register()
