"""The connection to Ray: a private one on this machine, or the cluster that `--address` names.

The private one is closed: it listens on loopback only, asks every client for a token that lives in a folder of mode
0700, has no dashboard, and leaves nothing behind. (Ray's default writes a world-readable token and a world-writable
/tmp/ray, and its open dashboard is remote code execution, CVE-2023-48022.)
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

from rungwise.engine.cluster import compat, driver_folder, sigterm, startup_patches, user_code
from rungwise.engine.cluster.attach import SILENT, AttachTimeout, attach
from rungwise.trainable import granted_resources as granted
from rungwise.trainable.protocol import Training
from rungwise.trainable.resources import Resources

DEATH_SECONDS = 10.0  # that processes which are killed may take to die, on a busy machine
STARTS = 3  # tries; Ray gives up after 30 s (ray 2.60, _private/node.py), which a busy machine may exceed
SLOW_SECONDS = 25.0  # a start that fails later than this has run into that limit; one that fails earlier will again
OBJECT_STORE_BYTES = 256 * 1024**2  # the dataset, once; Ray's default takes 30 % of memory

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # about 1 ms a result, and the record holds it all
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial has no metrics
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # rungwise.engine.execution.stopping has it
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # the search bounds what is staged
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),  # Tune's own snapshots: the record is what we resume from
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def local_resources() -> Resources:
    """This machine's cores and GPUs, as this process may use them. Starts nothing."""
    return Resources(granted.cpus(), granted.gpus())


class Ray:
    """One connection to Ray, ended by `stop()`: also a private Ray's processes and its folder."""

    def __init__(self, address: str | None) -> None:
        """Sets the environment that Ray reads when it is first imported; starts nothing yet."""
        self._address = address
        self.launched = threading.Event()  # the private one's processes run, or there will be none
        self._processes: list[startup_patches.Process] = []  # that we started, each the leader of a session
        self.stopping = False
        self._hung = False  # in an attempt to attach that was given up
        driver_folder.remove_abandoned()
        self._folder, self._owner = driver_folder.create()
        self._environment = dict(_ENVIRONMENT)
        if address is None:
            token = self._folder / "token"  # in driver_folder.CONTENT, as are the folders below
            token.touch(0o600)
            token.write_text(_token())
            self._environment |= {
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": str(token),
                "RAY_LOGGER_LEVEL": "warning",  # at "info" Ray logs the cloud keys that Tune hands to its workers
                # "Not a cluster": without it Ray turns 127.0.0.1 into this host's address and listens everywhere
                # (ray 2.60, services.py, resolve_ip_for_localhost).
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
                **startup_patches.ENVIRONMENT,
            }
        self._before = {name: os.environ.get(name) for name in self._environment}
        os.environ.update(self._environment)

    def start(self, cpus: float, gpus: float, nbytes: int = 0, training: Training | None = None) -> None:
        """Start a private Ray that offers `cpus` and `gpus`, with room for a dataset of `nbytes`; or attach to the
        cluster at the address, and bring the code there that `training` needs of the user's."""
        try:
            startup_patches.forget_token()
            with sigterm.kept_while_ray_starts():
                if self._address is None:
                    self._start_private(cpus, gpus, nbytes)
                else:
                    code = None if training is None else user_code.gather(training, self._folder / "code")
                    attach(self._address, code)
        except AttachTimeout:
            self._hung = True
            raise
        finally:
            self.launched.set()

    def _start_private(self, cpus: float, gpus: float, nbytes: int) -> None:
        options: dict[str, Any] = {
            # Ints: of 8.0 on a machine of 16 cores the raylet is told to start "8.0" workers at a time, and dies of it
            # without a word (ray 2.60, services.py, `maximum_startup_concurrency`).
            "num_cpus": ceil(cpus - 1e-9),
            "num_gpus": ceil(gpus - 1e-9),
            "include_dashboard": False,
            # The search's copy, the final step's, and what Ray keeps beside them.
            "object_store_memory": max(OBJECT_STORE_BYTES, 3 * nbytes),
        }
        folder = self._folder / "ray"  # one deeper: Ray sets its mode to 0777
        for start in range(1, STARTS + 1):
            began = time.monotonic()
            try:
                with startup_patches.minimal_processes(self.launched.set, self._processes):
                    compat.init_private_ray({"address": "local", **options, **SILENT}, folder)
                break
            except Exception:
                if start == STARTS or time.monotonic() - began < SLOW_SECONDS:
                    raise
                self._discard_start()
        for path, _, _ in os.walk(folder):
            os.chmod(path, 0o700)  # Ray says 0777

    def _discard_start(self) -> None:
        """End the processes of a private Ray that did not come up in time."""
        import ray

        half_started = self._processes.copy()
        self._processes.clear()  # first: `gone` must not take their end for the death of this Ray
        ray.shutdown()
        _kill_sessions({process.pid for process in half_started})

    def lighten_tune(self) -> AbstractContextManager[None]:
        """A context for Tune's run, in which it leaves out what a private Ray has no use for."""
        return nullcontext() if self._address else startup_patches.minimal_imports()

    @property
    def storage(self) -> str:
        """A folder for Tune's own files, which nothing reads."""
        return str(self._folder / "tune")

    def gone(self) -> str | None:
        """How a process of the private Ray ended that should run, or None: by the kernel, not by Ray."""
        for process in [] if self.stopping else self._processes:
            if (status := process.poll()) is not None:
                return f"{Path(process.args[0]).name} ended with status {status}"
        return None

    def stop(self) -> None:
        """End what `start` started."""
        import ray

        self.stopping = True
        if not self._hung:
            with sigterm.kept_while_ray_ends():
                ray.shutdown()
        self.kill()
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def kill(self) -> None:
        """End the private Ray's processes and all that these have started, at once and without Ray; remove its folder.
        From any thread."""
        self.stopping = True
        _kill_sessions({process.pid for process in self._processes})
        driver_folder.remove(self._folder)
        self._owner.close()


@cache
def _token() -> str:
    """The token of all private Rays of this process, one after the other: where `forget_token` has no effect, Ray's
    core keeps the first that it reads."""
    return secrets.token_hex(32)


def _kill_sessions(leaders: set[int]) -> None:
    """End all processes in the sessions of these leaders, and wait until they have died."""
    until = time.monotonic() + DEATH_SECONDS
    # One that was killed dies when it is next given a processor, and may write until then, or have started another.
    while (pids := _processes_of_sessions(leaders)) and time.monotonic() < until:
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _processes_of_sessions(leaders: set[int]) -> list[int]:
    """All living processes in the sessions of these leaders, which may have ended: trials have groups of their own."""
    import psutil

    pids, dead = [], (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    for pid in psutil.pids():
        with suppress(OSError, psutil.Error):  # ended meanwhile
            if os.getsid(pid) in leaders and psutil.Process(pid).status() not in dead:
                pids.append(pid)
    return pids
