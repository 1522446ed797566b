"""Attaches the driver to the Ray cluster that `--address` names, or says in one line why that is impossible."""

from __future__ import annotations

import logging
import socket
import threading
from pathlib import Path
from typing import Any

from rungwise.engine.cluster import compat
from rungwise.errors import RungwiseError

ATTACH_SECONDS = 12.0  # to a cluster that listens
SILENT: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}  # of ray.init
TOKEN = (
    "the cluster at --address {address} wants its token: put it into ~/.ray/auth_token (mode 0600) and set "
    "RAY_AUTH_MODE=token; `ray up` leaves it on every machine"
)


class Unusable(RungwiseError, RuntimeError):
    """The cluster, or its storage, cannot be used for this sweep; the message is for the user."""


class AttachTimeout(Unusable):
    """The cluster does not answer, and a thread of this process still waits for it inside Ray."""


def attach(address: str, code: Path | None = None) -> None:
    """`ray.init` at `address`: Ray may try for minutes, here within `ATTACH_SECONDS` or not at all.

    Args:
        address: "auto", or host:port of the head.
        code: A folder that becomes the working directory of this driver's processes on all machines.

    Raises Unusable, and AttachTimeout when Ray's own attempt goes on in its thread.
    """
    import ray

    head = _resolve(address)
    environment = None if code is None else {"working_dir": str(code)}
    failure: list[Exception] = []

    def initialise() -> None:
        try:
            ray.init(address=head, runtime_env=environment, **SILENT)
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=initialise, daemon=True)
    thread.start()
    thread.join(ATTACH_SECONDS)
    if thread.is_alive():
        raise AttachTimeout(f"the cluster at --address {address} gave no answer within {ATTACH_SECONDS:g} s")
    if failure:
        raise Unusable(_explain(address, failure[0])) from failure[0]


def _resolve(address: str) -> str:
    """host:port of a head that listens; "auto" where Ray does not say which that is. Raises Unusable at once where Ray
    would try for minutes."""
    head = address
    if address == "auto":
        head = compat.address_of_running_cluster() or ""
        if not head:
            raise Unusable(
                "--address auto: no Ray cluster runs on this machine; run there, or name its head: host:port"
            )
        if head == "auto":
            return head
    host, _, port = head.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise Unusable(f"--address takes auto, or host:port of the cluster's head (port 6379) (got {address!r})")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise Unusable(f"no Ray cluster answers at --address {address} ({head}: {error}); is it up?") from None
    if compat.refuses_token(head):
        raise Unusable(TOKEN.format(address=address))
    return head


def _explain(address: str, error: Exception) -> str:
    """Ray's message of many lines in one."""
    text = str(error)
    if "token" in text.lower() or "unauthenticated" in text.lower():
        return TOKEN.format(address=address)
    if "version mismatch" in text.lower():
        return f"the cluster at --address {address} runs other versions: {' '.join(text.split())}"
    return f"the cluster at --address {address} cannot be used: {type(error).__name__}: {' '.join(text.split())[:300]}"
