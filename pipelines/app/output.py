"""Redaction of everything that the process, its libraries and its children print through descriptors 1 and 2."""

from __future__ import annotations

import errno
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

from bort.redaction import known, redact, remember, secrets_in, secrets_of_environment

#: The folder that this module is imported from, in a clone or in an installation.
_ROOT = Path(__file__).resolve().parents[__name__.count(".")]
#: The filter runs in a process of its own: it outlives a crash of this one, whose last words pass through it.
_PROGRAM = f"import sys; sys.path.append({str(_ROOT)!r}); from {__name__} import pump; sys.exit(pump(*map(int, sys.argv[1:])))"
_CHUNK = 65_536
#: Seconds after which the beginning of a line is shown, e.g. a progress bar.
_IDLE_SECONDS = 0.1
#: Seconds that the end of the process waits for the filter; children that live on may still be printing.
_END_SECONDS = 5.0
#: The filter's exit status if a reader left early.
_BROKEN_PIPE = 3

_control: int | None = None


def know(secrets: Iterable[str]) -> None:
    """Have these secrets redacted by value from now on, in messages of this process and in its output."""
    new = remember(secrets)
    if new and _control is not None:
        with suppress(OSError):
            _write(_control, json.dumps(new).encode("ascii") + b"\n")


@contextmanager
def redacted_output() -> Iterator[None]:
    """Redact what is printed inside the block; secrets of environment and command line are known from the start."""
    global _control
    know(secrets_of_environment() | secrets_in(sys.argv))
    if _control is not None:
        yield
        return
    # It asks for the terminal before a pipe takes its place.
    import_module(".console", __package__)
    terminal = [stream.isatty() for stream in (sys.stdout, sys.stderr)]
    _flush()
    originals = os.dup(1), os.dup(2)
    (control, _control), (out, out_end), (err, err_end) = os.pipe(), os.pipe(), os.pipe()
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM, *map(str, (control, out, originals[0], err, originals[1]))]
    inherited = (control, out, err, *originals)
    filter_ = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=inherited, start_new_session=True)
    _write(_control, json.dumps(list(known())).encode("ascii") + b"\n")
    # One pipe for one file, so that the order of both streams is kept.
    one = os.path.sameopenfile(*originals)
    for end, descriptor in ((out_end, 1), (out_end if one else err_end, 2)):
        os.dup2(end, descriptor)
    for descriptor in (control, out, err, out_end, err_end):
        os.close(descriptor)
    if terminal[0] and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        yield
    finally:
        _flush()
        for original, descriptor in zip(originals, (1, 2), strict=True):
            os.dup2(original, descriptor)
            os.close(original)
        os.close(_control)
        _control = None
        with suppress(subprocess.TimeoutExpired):
            if filter_.wait(_END_SECONDS) == _BROKEN_PIPE:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def pump(control: int, out: int, to_out: int, err: int, to_err: int) -> int:
    """Copy two streams line by line, redacted, until all writers have ended; return the exit status of :data:`_PROGRAM`."""
    status = 0
    targets = {out: to_out, err: to_err}
    held = {out: b"", err: b""}
    orders = b""
    while targets:
        watched = [*targets, *([control] if control >= 0 else [])]
        ready = select.select(watched, [], [], _IDLE_SECONDS if any(held.values()) else None)[0]
        if control in ready:
            # Before the text that was printed after it.
            order = os.read(control, _CHUNK)
            *lines, orders = (orders + order).split(b"\n")
            for line in lines:
                remember(json.loads(line))
            if not order:
                control = -1
            continue
        for source in list(targets):
            if source in ready:
                chunk = os.read(source, _CHUNK)
                end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
                whole, held[source] = (held[source] + chunk[:end], chunk[end:]) if end else (b"", held[source] + chunk)
                if len(held[source]) > _CHUNK or not chunk:
                    whole, held[source] = whole + held[source], b""
            elif not ready:
                chunk, whole, held[source] = b"-", held[source], b""
            else:
                continue
            shown = _shown(targets[source], whole)
            if not shown or not chunk:
                # The reader has gone: the writer gets a broken pipe, as it would without the filter.
                status = status if shown else _BROKEN_PIPE
                os.close(source)
                del targets[source], held[source]
    return status


def _shown(target: int, text: bytes) -> bool:
    try:
        _write(target, redact(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape"))
    except OSError:
        return False
    return True


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
