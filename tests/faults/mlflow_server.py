"""A real MLflow server on the loopback, and a proxy before it that refuses, hangs, fails and loses what passes through."""

from __future__ import annotations

import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.faults.postgres import free_port

#: What the proxy can do with a request, beside passing it on.
FAULTS = ("error", "lost", "cut", "hang")
START_SECONDS = 400.0


class MlflowServer:
    """A server that can be killed and started again; what it holds stays.

    Args:
        folder: Gets database, artifacts and log.
        backend: The database's address; by default a file in the folder.
        artifacts: Where it keeps artifacts; by default in the folder.
    """

    def __init__(self, folder: Path, backend: str | None = None, artifacts: Path | None = None) -> None:
        self.folder, self.port = folder, free_port()
        self.artifacts = artifacts or folder / "artifacts"
        self.backend = backend or f"sqlite:///{folder}/server.db"
        self.process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        # Of this process alone, not of what its tests deliver to.
        environment.pop("MLFLOW_TRACKING_URI", None)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.backend, "--serve-artifacts",
                 "--artifacts-destination", str(self.artifacts), "--host", "127.0.0.1", "--port", str(self.port),
                 "--workers", "1"],
                cwd=self.folder, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                with urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > until:
                    told = (self.folder / "server.log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"MLflow did not start: {told}") from error
                time.sleep(0.1)

    def kill(self) -> None:
        """Kills the server and its workers the hard way."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)


class Proxy:
    """Stands before a server.

    Args:
        port: The server's port.
    """

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        #: Called with method and path of each request, says what becomes of it: ``pass`` or one of ``FAULTS``.
        self.judge: Any = lambda method, path: "pass"
        self.requests: Counter[str] = Counter()
        self._target = port
        self._server: ThreadingHTTPServer | None = None
        self._released = threading.Event()

    def open(self) -> None:
        """Listens."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                proxy._handle(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def log_message(self, *_: Any) -> None: ...

        class Quietly(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None: ...

        self._released.clear()
        self._server = Quietly(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Refuses every connection from now on."""
        self._released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def at_random(self, seed: int, chance: float, faults: tuple[str, ...] = FAULTS[:3]) -> None:
        """Lets a share of the requests fail."""
        draw, lock = random.Random(seed), threading.Lock()

        def judge(method: str, path: str) -> str:
            with lock:
                return draw.choice(faults) if draw.random() < chance else "pass"

        self.judge = judge

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        verdict = self.judge(handler.command, handler.path)
        self.requests[verdict] += 1
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if verdict == "hang":
            self._released.wait(60)
            return
        if verdict == "cut":
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        if verdict == "error":
            self._answer(handler, 500, b'{"error_code": "INTERNAL_ERROR", "message": "injected"}')
            return
        if verdict == "full":
            self._answer(handler, 500, b'{"error_code": "INTERNAL_ERROR", "message": "[Errno 28] No space left on device"}')
            return
        connection = http.client.HTTPConnection("127.0.0.1", self._target, timeout=60)
        try:
            headers = {key: value for key, value in handler.headers.items() if key.lower() not in ("host", "connection")}
            headers["Host"] = f"127.0.0.1:{self._target}"
            connection.request(handler.command, handler.path, body=body or None, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
            if verdict == "lost":
                # The server has done it; nobody learns of it.
                self._answer(handler, 500, b'{"error_code": "INTERNAL_ERROR", "message": "injected"}')
                return
            self._answer(handler, answer.status, content, answer.getheader("Content-Type"))
        except OSError:
            self._answer(handler, 502, b"the server is gone")
        finally:
            connection.close()

    def _answer(self, handler: BaseHTTPRequestHandler, status: int, content: bytes, kind: str | None = "application/json") -> None:
        try:
            handler.send_response(status)
            handler.send_header("Content-Type", kind or "application/octet-stream")
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)
        except OSError:
            # The client did not wait.
            return


def removed(folder: Path) -> None:
    """Removes a folder, whoever owns what is in it."""
    shutil.rmtree(folder, ignore_errors=True)
