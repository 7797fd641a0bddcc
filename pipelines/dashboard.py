"""Optuna's dashboard for browsers of this machine: a page that renames its own host to this server's address is refused."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)


def local_only(app: WSGIApplication) -> WSGIApplication:
    """Refuse requests whose ``Host`` or ``Origin`` is not the loopback's, as MLflow's server does."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        origin = environ.get("HTTP_ORIGIN")
        hosts = [environ.get("HTTP_HOST", ""), *([urlsplit(origin).netloc] if origin is not None else [])]
        if all(_HOST.fullmatch(host) for host in hosts):
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"This server answers to localhost and 127.0.0.1 only.\n"]

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log no requests."""


def main() -> None:
    """Serve the studies of a storage, until interrupted."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna_dashboard import wsgi

    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.dashboard", description=__doc__)
    parser.add_argument("storage", help="a study.journal, or the URL of a database")
    parser.add_argument("--host", default="127.0.0.1", help="the address to bind (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="the port to bind (default: 8080)")
    options = parser.parse_args(sys.argv[1:])
    journal = Path(options.storage).is_file()
    storage = JournalStorage(JournalFileBackend(options.storage)) if journal else options.storage
    with make_server(options.host, options.port, local_only(wsgi(storage)), _Server, _Quiet) as server, suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
