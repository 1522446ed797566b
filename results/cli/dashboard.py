"""The command `rungwise dashboard`: optuna-dashboard on loopback, with the studies of a run that may still go on."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from rungwise.results.cli.runs import OptionalRun, find_run
from rungwise.results.io.command_line import CommandLineError
from rungwise.results.io.page_server import HOST, REFUSED, QuietRequests, QuietThreads, is_this_machine
from rungwise.results.io.text import say
from rungwise.results.record.reader import Reader

if TYPE_CHECKING:
    from pathlib import Path
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from rungwise.results.exporters.loggers.feed import Feed

EVERY = 2.0  # seconds between two looks at the record


def dashboard(run: OptionalRun = None, /, *, port: int = 8080) -> int:
    """Show a run's Optuna studies in optuna-dashboard, live while the sweep runs.

    It serves this machine alone, until Ctrl-C.

    Args:
        port: Port on 127.0.0.1; where it is taken, and for 0, a free one.
    """
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise CommandLineError("optuna-dashboard must be installed: pip install 'rungwise[dashboard]'")
    if not 0 <= port < 2**16:
        raise CommandLineError(f"--port must be between 0 and 65535, but is {port}")
    folder = find_run(run)
    with Reader(folder) as reader:
        reader.verify()  # nothing is made from a damaged record
    import optuna_dashboard

    from rungwise.results.exporters.loggers.optuna import FILE
    from rungwise.results.exporters.loggers.registry import feed_of
    from rungwise.results.exporters.loggers.settings import LogSettings
    from rungwise.results.exporters.optuna_storage import opened
    from rungwise.results.exporters.tracking_uri import sqlite_uri

    feed = feed_of("optuna", folder, LogSettings())
    feed.sync()
    stop = threading.Event()
    follower = threading.Thread(target=_follow, args=(folder, feed, stop))
    with _listen(port, _guarded(optuna_dashboard.wsgi(opened(sqlite_uri(folder.absolute() / FILE))))) as server:
        follower.start()
        try:
            say(f"optuna-dashboard of {folder}: http://{HOST}:{server.server_port}/dashboard (Ctrl-C ends it)")
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            stop.set()
            follower.join()
            feed.close()
    return 0


def _follow(folder: Path, feed: Feed, stop: threading.Event) -> None:
    """Bring the studies up to date whenever the record has changed. What fails is tried again, and said once."""
    last, said = -1, ""
    with Reader(folder) as reader:
        while not stop.wait(EVERY):
            if (version := reader.version()) == last:
                continue
            try:
                feed.sync()
                last = version
            except Exception as error:  # the page goes on showing what there is
                if str(error) != said:
                    said = str(error)
                    say(f"not up to date: {said}")


def _guarded(application: WSGIApplication) -> WSGIApplication:
    """The application for pages of its own alone: a website can neither read the studies nor change them."""

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        origin = environ.get("HTTP_ORIGIN")
        hosts = [environ.get("HTTP_HOST", ""), *([] if origin is None else [origin.partition("://")[2]])]
        if all(map(is_this_machine, hosts)):
            return application(environ, start)
        start("403 Forbidden", [("Content-Type", "text/plain")])
        return [REFUSED.encode()]

    return answer


class _Server(QuietThreads, WSGIServer):
    """Serves optuna-dashboard."""


class _Handler(QuietRequests, WSGIRequestHandler):
    """Its requests."""


def _listen(port: int, application: Any) -> WSGIServer:
    """A server on `port`, or on a free one where it is taken."""
    try:
        return make_server(HOST, port, application, _Server, _Handler)
    except OSError:
        return make_server(HOST, 0, application, _Server, _Handler)
