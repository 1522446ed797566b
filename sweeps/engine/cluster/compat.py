"""Private names of Ray. Each function says what a sweep loses when its name is gone, and has a public fallback.

Nothing outside this module and `startup_patches`, which receives its objects from here, depends on a name that Ray
does not document. A sweep without any of them costs time and processes, never its trials (tests/engine/test_compat.py).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rungwise.results.io.text import say

TESTED = "2.60."  # of Ray
_CHECK_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"


def services_module() -> Any:
    """`ray._private.services`, which starts Ray's processes. None when it is gone: they stay in the driver's process
    group, so that a SIGTERM to the group ends them too, and the raylet's two agents run (1.5 s of CPU)."""
    try:
        from ray._private import services
    except ImportError:
        return None
    return services


def node_class() -> Any:
    """`ray._private.node.Node`, the processes of one machine. None when it is gone: the dashboard's server, the
    autoscaler and the log monitor run (about 3 s of CPU)."""
    try:
        from ray._private.node import Node
    except ImportError:
        return None
    return Node


def worker_module() -> Any:
    """`ray._private.worker`, the driver's side. None when it is gone: a thread prints errors that the record holds
    anyway, and a Ray that is ended within its first second waits a minute for that thread."""
    try:
        from ray._private import worker
    except ImportError:
        return None
    return worker


def raylet_module() -> Any:
    """`ray._raylet`, Ray's C++ core. None when it is gone: the agents run, Ray handles SIGTERM itself, and a process
    that has imported Ray before its first sweep keeps the token that Ray has read: the private Ray of such a sweep does
    not start. A sweep script imports Ray later."""
    try:
        from ray import _raylet
    except ImportError:
        return None
    return _raylet


def class_cache_module() -> Any:
    """`ray.tune.execution.class_cache`, which gives Tune's actors their environment. None when it is gone: actors do
    not take the processes that Ray has started already (3 s of CPU for the first trial of each)."""
    try:
        from ray.tune.execution import class_cache
    except ImportError:
        return None
    return class_cache


def controller_class() -> Any:
    """`ray.tune.execution.tune_controller.TuneController`, Tune's loop. None when it is gone: a trial that is
    given to a process that has died while it waited is LOST, whatever its retries, and of two processes only one may
    train while trials are shorter than the start of a process."""
    try:
        from ray.tune.execution.tune_controller import TuneController
    except ImportError:
        return None
    return TuneController


@contextmanager
def controller_method(name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Within the block, Tune's controllers call `wrap(method)` for their method `name`; nothing changes without one."""
    controller = controller_class()
    original = getattr(controller, name, None)
    if original is None:
        yield
        return
    with patch.object(controller, name, wrap(original)):
        yield


def usage_module() -> Any:
    """`ray.air._internal.usage`, Ray's usage statistics. None when it is gone: Tune imports MLflow and other loggers to
    count which of them are used (1.3 s of CPU)."""
    try:
        from ray.air._internal import usage
    except ImportError:
        return None
    return usage


def usage_hook() -> Any:
    """`put_pre_init_usage_stats` of `ray._common.usage.usage_lib`, which registers itself when it is imported and runs
    at the end of `ray.init`. None when it is gone."""
    try:
        from ray._common.usage import usage_lib
    except ImportError:
        return None
    return getattr(usage_lib, "put_pre_init_usage_stats", None)


def init_private_ray(options: Mapping[str, Any], folder: Path) -> None:
    """`ray.init` of a private Ray that listens on loopback only and keeps its files in `folder`.

    `_node_ip_address` and `_temp_dir` are hidden options. Without them Ray keeps its files where RAY_TMPDIR, a
    documented variable, says, and listens on this machine's address, where it still demands its token: a note says so.
    """
    import ray

    try:
        ray.init(**options, _node_ip_address="127.0.0.1", _temp_dir=str(folder))
    except RuntimeError as error:
        if "nknown keyword" not in str(error):
            raise
        os.environ["RAY_TMPDIR"] = str(folder.parent)  # to which Ray adds its own name, that of `folder`
        try:
            ray.init(**options)
        finally:
            del os.environ["RAY_TMPDIR"]
        say(f"note: Ray {ray.__version__} cannot be told to listen on loopback only; its token still guards it",
            sys.stderr)  # fmt: skip


def address_of_running_cluster() -> str | None:
    """host:port of the cluster's head when this machine is part of one, else None.

    "auto" where this Ray has no `canonicalize_bootstrap_address`: `ray.init` takes that too, but then the head is not
    probed beforehand, and a cluster that does not answer is reported after seconds instead of at once.
    """
    find = getattr(services_module(), "canonicalize_bootstrap_address", None)
    if find is None:
        return "auto"
    try:
        address = find("auto")
    except ConnectionError:
        return None
    return None if address is None else str(address)


def refuses_token(head: str) -> bool:
    """Whether the cluster at `head` (host:port) demands a token that this process does not have.

    Asks through the gRPC path of a private service. Where that path is gone, or gRPC is, the answer is False, and Ray's
    own client tries for as long as `attach.ATTACH_SECONDS` lets it (ray 2.60 would try for minutes).
    """
    try:
        import grpc  # comes with ray[default], as the cluster does
    except ImportError:
        return False
    metadata = []
    if os.environ.get("RAY_AUTH_MODE") == "token":
        path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
        token = os.environ.get("RAY_AUTH_TOKEN") or (path.read_text().strip() if path.exists() else "")
        metadata = [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(head) as channel:
        try:
            channel.unary_unary(_CHECK_ALIVE)(b"", metadata=metadata, timeout=5)
        except grpc.RpcError as error:
            return bool(error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED))
    return False


def reported_node_groups() -> list[tuple[str, dict[str, float], int, int]]:
    """(name, resources, fewest, most) of each node type that an autoscaler has reported to Ray's head.

    [] when Ray has no such interface any more: the configuration files of `ray up` and KubeRay say it, or else only
    machines that have joined are counted.
    """
    try:
        from ray._private.state import state

        config = state.get_cluster_config()
        groups = config.node_group_configs if config else []
        return [(group.name, dict(group.resources), group.min_count, group.max_count) for group in groups]
    except (ImportError, AttributeError):
        return []


def kuberay_configuration(name: str, namespace: str) -> dict[str, Any] | None:
    """The configuration that KubeRay's autoscaler derives from the RayCluster `name`, read from Kubernetes.

    None when it cannot be read, or when Ray's autoscaler has other names: only machines that have joined are counted.
    """
    try:
        from ray.autoscaler._private.kuberay.autoscaling_config import AutoscalingConfigProducer

        text: dict[str, Any] = AutoscalingConfigProducer(name, namespace)()  # type: ignore[no-untyped-call]
    except Exception as error:
        logging.getLogger(__name__).warning("the node types of %s cannot be read: %s", name, error)
        return None
    return text
