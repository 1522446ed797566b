"""Ray: a private one on this machine, or the cluster that `--address` names.

The private one is closed: it listens on loopback only, asks every client for a token that lives in a folder of mode
0700, has no dashboard, and leaves nothing behind. (Ray's default writes a world-readable token and a world-writable
/tmp/ray, and its open dashboard is remote code execution, CVE-2023-48022.)
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import stat
import tempfile
import threading
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from math import ceil
from pathlib import Path
from typing import Any

from rungwise.engine.cluster import startup_patches as lean
from rungwise.errors import RungwiseError
from rungwise.files import lock, try_lock
from rungwise.trainable import granted_resources as granted
from rungwise.trainable.resources import Resources

PREFIX, OWNER = "rw-", "owner"  # of a driver's temporary folder, and the file that it holds locked
CONTENT = {"token", "ray", "tune"}  # all else that such a folder may hold
UNOWNED_SECONDS = 60.0  # a driver locks its folder within milliseconds
DEATH_SECONDS = 10.0  # that processes which are killed may take to die, on a busy machine
ATTACH_SECONDS = 12.0  # to a cluster that listens
DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder for each GPU
OBJECT_STORE_BYTES = 256 * 1024**2  # the dataset, once; Ray's default takes 30 % of memory

TOKEN = (
    "the cluster at --address {address} wants its token: put it into ~/.ray/auth_token (mode 0600) and set "
    "RAY_AUTH_MODE=token; `ray up` leaves it on every machine"
)
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


_SILENT: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}  # of ray.init


def local_resources() -> Resources:
    """This machine's cores and GPUs, as this process may use them. Starts nothing, imports neither Ray nor torch."""
    present = len(list(DRIVER.glob("*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return Resources(granted.cpus(), present if visible is None else _visible(visible, present))


def _visible(devices: str, present: int) -> int:
    """How many of CUDA_VISIBLE_DEVICES there are. CUDA reads numbers and identifiers, up to the first that it does not
    know. `present`: GPUs that the kernel's driver names; 0 where it names none (a virtual machine, another maker)."""
    count = 0
    for device in map(str.strip, devices.split(",")):
        if not device or device.startswith("-") or (device.isdigit() and 0 < present <= int(device)):
            break
        count += 1
    return count


class Unusable(RungwiseError, RuntimeError):
    """The cluster, or its storage, cannot be used for this sweep; the message is for the user."""


class Ray:
    """One connection to Ray, ended by `stop()`: also a private Ray's processes and its folder."""

    def __init__(self, address: str | None) -> None:
        """Sets the environment that Ray reads when it is first imported; starts nothing yet."""
        self._address = address
        self.launched = threading.Event()  # the private one's processes run, or there will be none
        self._processes: list[lean.Process] = []  # that we started, each the leader of a session
        self.stopping = False
        self._hung = False  # in an attempt to attach that was given up
        remove_abandoned()
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_temporary()))
        self._owner = (self._folder / OWNER).open("w")
        lock(self._owner)
        self._environment = dict(_ENVIRONMENT)
        if address is None:
            token = self._folder / "token"  # in CONTENT, as are the two below
            token.touch(0o600)
            token.write_text(secrets.token_hex(32))
            self._environment |= {
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": str(token),
                "RAY_LOGGER_LEVEL": "warning",  # at "info" Ray logs the cloud keys that Tune hands to its workers
                # "Not a cluster": without it Ray turns 127.0.0.1 into this host's address and listens everywhere
                # (ray 2.60, services.py, resolve_ip_for_localhost).
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
                **lean.ENVIRONMENT,
            }
        self._before = {name: os.environ.get(name) for name in self._environment}
        os.environ.update(self._environment)

    def start(self, cpus: float, gpus: float, nbytes: int = 0) -> None:
        """Start a private Ray that offers `cpus` and `gpus`, with room for a dataset of `nbytes`; or attach to the
        cluster at the address."""
        try:
            lean.forget_token()
            with lean.own_sigterm():
                if self._address is None:
                    self._private(cpus, gpus, nbytes)
                else:
                    self._attach(self._address)
        finally:
            self.launched.set()

    def _private(self, cpus: float, gpus: float, nbytes: int) -> None:
        import ray

        private: dict[str, Any] = {
            # Ints: of 8.0 on a machine of 16 cores the raylet is told to start "8.0" workers at a time, and dies of it
            # without a word (ray 2.60, services.py, `maximum_startup_concurrency`).
            "num_cpus": ceil(cpus - 1e-9),
            "num_gpus": ceil(gpus - 1e-9),
            "include_dashboard": False,
            # The search's copy, the final step's, and what Ray keeps beside them.
            "object_store_memory": max(OBJECT_STORE_BYTES, 3 * nbytes),
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": str(self._folder / "ray"),  # one deeper: Ray sets its mode to 0777
        }
        with lean.few_processes(self.launched.set, self._processes):
            ray.init(address="local", **private, **_SILENT)
        for made, _, _ in os.walk(self._folder / "ray"):
            os.chmod(made, 0o700)  # Ray says 0777

    def _attach(self, address: str) -> None:
        """Ray may try for minutes: within `ATTACH_SECONDS` or not at all. Raises Unusable."""
        import ray

        found = _resolved(address)
        failure: list[Exception] = []

        def attach() -> None:
            try:
                ray.init(address=found, **_SILENT)
            except Exception as error:
                failure.append(error)

        thread = threading.Thread(target=attach, daemon=True)
        thread.start()
        thread.join(ATTACH_SECONDS)
        self._hung = thread.is_alive()
        if self._hung:
            raise Unusable(f"the cluster at --address {address} gave no answer within {ATTACH_SECONDS:g} s")
        if failure:
            raise Unusable(_why(address, failure[0])) from failure[0]

    def lean(self) -> AbstractContextManager[None]:
        """While Tune works: what it may leave out on a private Ray."""
        return nullcontext() if self._address else lean.few_imports()

    @property
    def storage(self) -> str:
        """Where Tune may write what nobody reads."""
        return str(self._folder / "tune")

    def gone(self) -> str | None:
        """How a process of the private Ray ended that should run, or None. Asks the kernel, not Ray."""
        for process in [] if self.stopping else self._processes:
            if (status := process.poll()) is not None:
                return f"{Path(process.args[0]).name} ended with status {status}"
        return None

    def stop(self) -> None:
        """End what `start` started."""
        import ray

        self.stopping = True
        if not self._hung:
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
        leaders, until = {process.pid for process in self._processes}, time.monotonic() + DEATH_SECONDS
        # One that was killed dies when it is next given a processor, and may write until then, or have started another.
        while (pids := _sessions(leaders)) and time.monotonic() < until:
            for pid in pids:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        _remove(self._folder)
        self._owner.close()


def _resolved(address: str) -> str:
    """host:port of a head that listens. Raises Unusable at once where Ray would try for minutes."""
    from ray._private.services import canonicalize_bootstrap_address

    found = address
    if address == "auto":
        try:
            found = str(canonicalize_bootstrap_address("auto"))
        except ConnectionError:
            found = "None"
        if found == "None":
            raise Unusable(
                "--address auto: no Ray cluster runs on this machine; run there, or name its head: host:port"
            )
    host, _, port = found.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise Unusable(f"--address takes auto, or host:port of the cluster's head (port 6379), but got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise Unusable(f"no Ray cluster answers at --address {address} ({found}: {error}); is it up?") from None
    if _refused(found):
        raise Unusable(TOKEN.format(address=address))
    return found


def _refused(head: str) -> bool:
    """Whether the head wants a token that we do not have: Ray's own client tries for minutes (ray 2.60)."""
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
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(b"", metadata=metadata, timeout=5)
        except grpc.RpcError as error:
            return bool(error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED))
    return False


def _why(address: str, error: Exception) -> str:
    """One line for what Ray says in many."""
    text = str(error)
    if "token" in text.lower() or "unauthenticated" in text.lower():
        return TOKEN.format(address=address)
    if "version mismatch" in text.lower():
        return f"the cluster at --address {address} runs other versions: {' '.join(text.split())}"
    return f"the cluster at --address {address} cannot be used: {type(error).__name__}: {' '.join(text.split())[:300]}"


def _sessions(leaders: set[int]) -> list[int]:
    """All living processes in the sessions of these leaders, which may have ended: trials have groups of their own."""
    found = []
    for about in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            state, _, _, session, *_ = about.read_text().rpartition(")")[2].split()
            found += [int(about.parent.name)] if state not in "ZX" and int(session) in leaders else []
    return found


def _temporary() -> str:
    """TMPDIR, or /tmp when that is too long: a Unix socket's name has room for 107 bytes, and Ray takes 83 of them."""
    return folder if len(folder := tempfile.gettempdir()) <= 24 else "/tmp"


def remove_abandoned() -> None:
    """Remove the temporary folders of drivers that were killed: the kernel let go of their locks."""
    for folder in {found for where in (_temporary(), "/tmp") for found in Path(where).glob(f"{PREFIX}*")}:
        try:
            if _unowned(folder):
                _remove(folder)
                continue
            with (folder / OWNER).open("r+") as owner:
                if try_lock(owner):
                    _remove(folder)
        except OSError:  # in use, another user's, or gone meanwhile
            continue


def _unowned(folder: Path) -> bool:
    """Whether nobody will lock a folder of ours: its driver was killed before it did, or while it removed the folder
    and a dying process put something back."""
    about, holds = folder.lstat(), {child.name for child in folder.iterdir()}
    ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and len(folder.name) == len(PREFIX) + 8
    return ours and holds <= CONTENT and time.time() - about.st_mtime > UNOWNED_SECONDS


def _remove(folder: Path) -> None:
    """Remove a driver's folder, its owner's file last: what a dying process still holds is left to the next driver."""
    for wait in (0.0, 0.1, 0.3, 0.6):  # a process that was killed a moment ago may write still
        time.sleep(wait)
        children = [child for child in folder.iterdir() if child.name != OWNER] if folder.exists() else []
        for child in children:
            shutil.rmtree(child, ignore_errors=True) if child.is_dir() else child.unlink(missing_ok=True)
        if not any(child.exists() for child in children):
            shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
