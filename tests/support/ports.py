"""A port for a server that a test starts."""

from __future__ import annotations

import random
import socket

BELOW_EPHEMERAL = range(20_000, 32_768)  # Linux gives numbers from 32768 on to whoever asks for any


def free_port() -> int:
    """A port of loopback that no server has, and that no other process is given by chance: neither before the server
    starts nor while it is started again."""
    while True:
        port = random.SystemRandom().choice(BELOW_EPHEMERAL)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
