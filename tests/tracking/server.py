"""MLflow's own server in a thread of the tests, behind basic authentication; the loopback only."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest


class Server:
    """A working server.

    Args:
        port: Its port.
        user: The only user.
        password: The user's password.
    """

    def __init__(self, port: int, user: str, password: str) -> None:
        self.port, self.user, self.password = port, user, password
        #: Returns the HTTP status of a failure for a request's method and path; ``None`` to pass the request on.
        self.judge: Callable[[str, str], int | None] = lambda method, path: None

    @property
    def uri(self) -> str:
        """The address with user and password."""
        return f"http://{self.user}:{quote(self.password, safe='')}@127.0.0.1:{self.port}"


@contextmanager
def serve(folder: Path, database: Path, user: str = "bort", password: str = "planted/hunter2") -> Iterator[Server]:
    """Serve a database that has MLflow's tables already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{database}")
        patch.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "true")
        patch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", str(folder / "artifacts"))
        patch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "mlflow-artifacts:/")
        patch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
        from mlflow.server import app, handlers
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Silent(WSGIRequestHandler):
            def log_request(self, *_: Any) -> None: ...

        for store in ("_tracking_store", "_model_registry_store", "_artifact_repo"):
            patch.setattr(handlers, store, None, raising=False)
        expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        answers: list[Server] = []

        def guard(environ: dict[str, Any], start: Any) -> Any:
            status = answers[0].judge(environ["REQUEST_METHOD"], environ["PATH_INFO"])
            if environ.get("HTTP_AUTHORIZATION") != expected:
                status = 401
            if status is None:
                return app(environ, start)
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start(f"{status} Refused", [("Content-Type", "text/plain")])
            return [b"refused by the proxy"]

        listener = make_server("127.0.0.1", 0, guard, threaded=True, request_handler=Silent)
        answers.append(Server(listener.server_port, user, password))
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield answers[0]
        finally:
            listener.shutdown()
            listener.server_close()
            thread.join(5)
