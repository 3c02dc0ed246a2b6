"""From errors to answers: the one table that decides HTTP statuses, and the errors that the interface itself raises.

Every body has `detail`: a sentence, or for 422 a list of problems with the place (`loc`) and the reason (`msg`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from service.api.reply import Reply, json_reply
from service.api.schema import HttpError, InternalError, Problem, ValidationError
from service.engine.codes import CodeError
from service.engine.errors import Busy, Conflict, Damaged, EngineError, Invalid, NoSpace, NotFound, Unfit
from service.logs import REQUEST_ID, logger

ERROR_HEADER, DAMAGED, FENCED = "tidepool-error", "damaged", "fenced"
"""Tells a program that 500 means damaged data, and no defect; or that 503 means a new owner, and no bucket in trouble."""
RETRY_AFTER_SECONDS = 1
RETRY_AFTER_START_SECONDS = 2


class ApiError(Exception):
    """Base of what the interface refuses by itself."""


class BadRequest(ApiError):
    """The request makes no sense as a whole."""


class Unauthorized(ApiError):
    """The key is missing or wrong."""


class TooLarge(ApiError):
    """The body is larger than a setting allows."""


class TooSlow(ApiError):
    """The body did not arrive in time."""


class Overtime(ApiError):
    """The answer took longer than a setting allows."""


class SwitchedOff(ApiError):
    """The part of the service that answers here is switched off."""

    def __init__(self, setting: str) -> None:
        super().__init__(f"this is switched off here: ISCC_SEARCH_{setting} is no")


class TooLong(ApiError):
    """The path is longer than any that exists."""


class NotReady(ApiError):
    """Data routes do not answer yet, or not any more."""


class NotOwner(ApiError):
    """Another process owns the bucket: this one ends, and whoever tries again asks the next."""


class Unprocessable(ApiError):
    """Parts of the request are wrong: `problems` says which and why."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems[0].msg)
        self.problems = problems


STATUSES: dict[type[Exception], int] = {
    BadRequest: 400,
    CodeError: 400,
    Invalid: 400,
    Unauthorized: 401,
    NotFound: 404,
    SwitchedOff: 404,
    TooSlow: 408,
    Conflict: 409,
    TooLarge: 413,
    TooLong: 414,
    Unprocessable: 422,
    Unfit: 422,
    EngineError: 500,  # Damaged, Defect, Fatal: nothing that a client can put right
    Busy: 503,
    NotOwner: 503,
    NotReady: 503,
    Overtime: 503,
    NoSpace: 507,
}


def unprocessable(loc: list[str | int], msg: str, kind: str) -> Unprocessable:
    """One problem at one place."""
    return Unprocessable([Problem(loc=loc, msg=msg, type=kind)])


def exception_handlers() -> ExceptionHandlersMap:
    """For the application: every exception that a handler can raise has an answer."""
    return {ApiError: _answer_known, EngineError: _answer_known, HTTPException: _answer_http, Exception: _answer_unexpected}


def to_reply(error: ApiError | EngineError) -> Reply:
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    if status == 500:
        logger.error("request failed: %s: %s", type(error).__name__, error)
        body = msgspec.json.encode(InternalError(str(error), REQUEST_ID.get()))
        return json_reply(status, body, {ERROR_HEADER: DAMAGED} if isinstance(error, Damaged) else None)
    if isinstance(error, Unprocessable):
        return json_reply(status, msgspec.json.encode(ValidationError(detail=error.problems)))
    if isinstance(error, Unfit):
        return json_reply(
            status, msgspec.json.encode(ValidationError(detail=[Problem(loc=["body", *error.place], msg=str(error), type="unfit")]))
        )
    return json_reply(status, msgspec.json.encode(HttpError(detail=str(error))), _headers(error))


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, NotOwner):
        return {"retry-after": str(RETRY_AFTER_START_SECONDS), ERROR_HEADER: FENCED}
    if isinstance(error, NotReady):
        return {"retry-after": str(RETRY_AFTER_START_SECONDS)}
    if isinstance(error, Busy | Overtime):
        return {"retry-after": str(RETRY_AFTER_SECONDS)}
    return {}


def _answer_known(_: Request[Any, Any, Any], error: Any) -> Any:
    return to_reply(error).as_response()


def _answer_http(_: Request[Any, Any, Any], error: Any) -> Any:
    """What the router raises: unknown path, wrong method, bad host; and its rate limit."""
    headers = {}
    if error.status_code == 429:
        return _too_many(error.headers).as_response()
    if error.status_code == 405:
        allowed = {method.strip() for method in error.headers["allow"].split(",")} - {"OPTIONS"}
        headers["allow"] = ", ".join(sorted(allowed))
    return json_reply(error.status_code, msgspec.json.encode(HttpError(detail=error.detail)), headers).as_response()


def _too_many(headers: Mapping[str, str]) -> Reply:
    """The router's answer has all but the usual header and words that help."""
    wait = max(1, int(headers["RateLimit-Reset"]))
    detail = f"too many searches without the key from this address (ISCC_SEARCH_RATE_LIMIT): send the request again in {wait} seconds"
    told = {name.lower(): value for name, value in headers.items()}
    return json_reply(429, msgspec.json.encode(HttpError(detail)), {**told, "retry-after": str(wait)})


def _answer_unexpected(_: Request[Any, Any, Any], error: Exception) -> Any:
    logger.error("unexpected error", exc_info=error)
    request_id = REQUEST_ID.get()
    body = InternalError(detail=f"internal error, see the log for request {request_id}", request_id=request_id)
    return json_reply(500, msgspec.json.encode(body)).as_response()
