"""What surrounds every request: its id, headers, CORS, and errors in its dialect's envelope."""

import asyncio
import logging
from collections.abc import Awaitable, Sequence

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import telemetry
from gateway.answers import send_body
from gateway.context import RequestContext, open_context
from gateway.cors import Cors
from gateway.dialects.dialect import Dialect, Refusal
from gateway.errors import INTERNAL, ClientGoneError, Problem, ProblemError
from gateway.streams import send_now, stopping

_logger = logging.getLogger(__name__)


class Edge:
    """The outermost application."""

    def __init__(self, app: ASGIApp, dialects: Sequence[Dialect], cors: Cors) -> None:
        self._app = app
        self._dialects = tuple(dialects)
        self._cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, whatever happens in it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["app"] = self  # makes Starlette raise its 404 and 405 instead of answering them
        context = open_context(scope)
        telemetry.begun(context)
        try:
            await self._answer(context, scope, receive, send)
        finally:
            telemetry.ended(context, scope["method"])

    async def _answer(
        self, context: RequestContext, scope: Scope, receive: Receive, send: Send
    ) -> None:
        dialect = self._dialect_of(scope["path"])
        context.envelope = dialect.name
        owned = dialect.owns(scope["path"])
        origin = context.headers.get("origin")
        started = False

        def sending(message: Message) -> Awaitable[None]:
            nonlocal started
            if not started and message["type"] == "http.response.start":
                started = True
                telemetry.answering(context, scope["method"], message["status"])
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", context.request_id.encode("ascii")),
                    *(dialect.headers(context) if owned else ()),
                    *context.response_headers,
                    *self._cors.headers(origin),
                ]
            elif started and not message.get("more_body", False):
                context.end()
            return send(message)

        preflight = self._cors.preflight(scope["method"], context.headers)
        if preflight is not None:
            await sending({"type": "http.response.start", "status": 204, "headers": preflight})
            await sending({"type": "http.response.body", "body": b"", "more_body": False})
            return
        try:
            _check_path(scope)
            await self._app(scope, receive, sending)
            return
        except ClientGoneError:
            context.failure = telemetry.CLIENT_GONE
            return
        except asyncio.CancelledError:
            if not started:
                _refuse_now(sending, dialect.refusal(stopping(), context))
            raise
        except ProblemError as error:
            problem = error.problem
        except HTTPException as error:
            problem = _routing_problem(error, scope)
        except Exception:
            _logger.exception("request %s failed", context.request_id)
            problem = INTERNAL
        finally:
            context.end()
        context.failure = problem.reason
        if started:
            # Too late for a status: the server closes the connection, and clients see an error.
            raise RuntimeError(f"request {context.request_id} failed after its answer had begun")
        _report(context, scope, problem)
        refusal = dialect.refusal(problem, context)
        await send_body(sending, refusal.body, refusal.status, refusal.headers)

    def _dialect_of(self, path: str) -> Dialect:
        return next((d for d in self._dialects if d.owns(path)), self._dialects[-1])


def _check_path(scope: Scope) -> None:
    """Refuses an encoded slash where the dialect is told, which proxies before this edge may read
    otherwise. IDs further on may hold one."""
    raw: bytes = scope.get("raw_path", b"")
    if b"%" in raw and any(b"%2f" in part.lower() for part in raw.split(b"/", 3)[1:3]):
        raise HTTPException(404)


def _refuse_now(send: Send, refusal: Refusal) -> None:
    status, headers, body = refusal
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    start: Message = {"type": "http.response.start", "status": status, "headers": headers}
    if send_now(send, start):
        send_now(send, {"type": "http.response.body", "body": body, "more_body": False})


def _routing_problem(error: HTTPException, scope: Scope) -> Problem:
    method, path = scope["method"], scope["path"]
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
        methods = ", ".join(sorted(part.strip() for part in allow.split(",") if part.strip()))
        message = f"Not allowed to {method} on {path}. Allowed: {methods}."
        return Problem("METHOD_NOT_ALLOWED", message, allow=methods)
    return Problem("UNKNOWN_URL", f"Invalid URL ({method} {path}).")


def _report(context: RequestContext, scope: Scope, problem: Problem) -> None:
    level = logging.WARNING if problem.status >= 500 else logging.DEBUG
    _logger.log(
        level,
        "%s %r by %s: %d %s (%s)",
        scope["method"],
        scope["path"],
        context.principal.id,
        problem.status,
        problem.reason,
        context.request_id,
    )
