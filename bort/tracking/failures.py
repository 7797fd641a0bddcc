"""Classification of a store's failures: unreachable, unwilling, or unwilling to take one event."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from bort.errors import first_line
from bort.redaction import redact
from bort.tracking.errors import StoreDownError, StoreRefusesError

#: MLflow's codes of a request that was understood and declined: trying again cannot help.
_DECLINED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_LIMIT_EXCEEDED"}
#: HTTP statuses of the client's side that say nothing of the request itself: credentials, time limits, conflicts, quotas by time.
_PASSING = {401, 407, 408, 409, 425, 429}
#: Errors of a store's artifact folder that concern one file; a full disk does not.
_FILE_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL}
_STATUS = re.compile(r"failed with error code (\d{3})")
_LONGEST = 300


def declines(error: BaseException) -> bool:
    """Return whether the store understood the request that failed and declines it, so that the next one may pass."""
    code = getattr(error, "error_code", None)
    if code in _DECLINED:
        return True
    if code == "RESOURCE_DOES_NOT_EXIST":
        return False
    status = _status(error)
    if status is not None:
        return 400 <= status < 500 and status not in _PASSING
    return isinstance(error, OSError) and error.errno in _FILE_ERRORS


def forbids(error: BaseException) -> bool:
    """Return whether the store lacks or rejects the credentials of the request that failed."""
    return _status(error) in (401, 403, 407)


def store_error(error: BaseException) -> StoreDownError:
    """Return the error of a delivery that had to stop, with the cause and, if there is one, the remedy."""
    from requests.exceptions import SSLError

    for one in _chain(error):
        if isinstance(one, SSLError):
            return StoreRefusesError(
                f"the server's TLS certificate cannot be verified: {_tls_cause(one)}. Set MLFLOW_TRACKING_SERVER_CERT_PATH to "
                "a PEM file with the certificate of the authority that signed it, or correct the host name in tracking.uri"
            )
    status = _status(error)
    if status in (401, 407):
        return StoreRefusesError(
            f"user and password are missing or wrong (HTTP status {status}). Set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, or correct tracking.uri"
        )
    if status == 403:
        return StoreRefusesError(
            f"this user is not permitted to write there, or the server does not accept the host name (HTTP status 403: "
            f"{_said(error)}). Ask its owner for permission to edit the experiment, or set --allowed-hosts of `mlflow server`"
        )
    return StoreDownError(short(error))


def short(error: BaseException) -> str:
    """Return the first line of an error without secrets, cut to a readable length."""
    return redact(first_line(error))[:_LONGEST]


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of a server's answer; ``None`` without an answer."""
    for one in _chain(error):
        status = getattr(getattr(one, "response", None), "status_code", None)
        if status is not None:
            return int(status)
        if match := _STATUS.search(str(one)):
            return int(match[1])
        if getattr(one, "error_code", "INTERNAL_ERROR") != "INTERNAL_ERROR" and hasattr(one, "get_http_status_code"):
            return int(one.get_http_status_code())
    return None


def _said(error: BaseException) -> str:
    body = re.search(r"Response (?:body|text): '?(.*?)'?$", first_line(error))
    return redact(body[1] if body else first_line(error))[:_LONGEST] or "no reason"


def _tls_cause(error: BaseException) -> str:
    text = " ".join(str(one) for one in _chain(error))
    cause = re.search(r"certificate verify failed: ([^()\"\\]+)", text) or re.search(r"\[SSL[^\]]*\] ([^()\"\\]+)", text)
    return redact(cause[1]).strip(" .,'") if cause else short(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
