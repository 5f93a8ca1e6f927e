"""What a worker says of itself when it registers: the device, its slots, the task types that it offers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from retirecluster.domain.requirements import PICKLED
from retirecluster.domain.task_types import BUILT_IN
from retirecluster.wire.messages import PROTOCOL_VERSION
from retirecluster.worker.agent import PREFETCH, Agent
from retirecluster.worker.cpu_share import CpuShare
from retirecluster.worker.profiler import DeviceProfiler


def register_data(
    profiler: DeviceProfiler, agent: Agent, settings: Mapping[str, Any], speed: float, cpus: CpuShare
) -> dict[str, Any]:
    """The data of the register message, all but the attempts. Called in a thread, as it may take seconds."""
    offered = {"cpus_offered": cpus.count} if cpus.count < cpus.had else {}
    return offered | {
        "device_info": profiler.get_system_info(),
        "hardware_specs": profiler.get_hardware_specs(),
        "capabilities": profiler.detect_capabilities(),
        "protocol_version": PROTOCOL_VERSION,
        "slots": agent.executor.slots,
        "prefetch": PREFETCH,
        "task_types": sorted(agent.task_types),
        "task_schemas": agent.plugins.documents(),
        "isolation": agent.isolation.level,
        "fences": {
            "layers": list(agent.isolation.layers),
            "missing": dict(agent.isolation.missing),
            "default": agent.executor.level,
            "limits": dict(agent.executor.device_limits),
        },
        "speed": speed,
        "tools": profiler.tools(),
        "sources": profiler.sources(),
        "tags": list(settings["tags"]),
        "labels": dict(settings["labels"]),
        "wake_on_lan": settings["wake_on_lan"],
    }


def offered_types(allow_code: bool, plugins: Mapping[str, str]) -> frozenset[str]:
    """What this device runs: types that run a submitter's code only if its owner allows it."""
    offered = {name for name, each in BUILT_IN.items() if allow_code or not each.runs_code}
    if find_spec("cloudpickle") is None:
        offered.discard(PICKLED)
    return frozenset(offered) | frozenset(plugins)
