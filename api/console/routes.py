"""The console's addresses: log in, come back, listen, log out.

Pages and files of ours, beside the API and outside its document. Each address is fixed: where to
send a browser is never taken from a request, the ``Host`` field included.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from api.console.door import (
    LANGUAGE_COOKIE,
    LOG_IN_COOKIE,
    SESSION_COOKIE,
    check_same_origin,
    from_own_page,
    session_secret,
)
from api.console.login import CALLBACK, LIFETIME_S, SECRET_BYTES, LogIn
from api.console.pages import ASSETS, asset, moving_on, page
from api.console.session_seal import request_token
from api.console.sessions import BrowserSessions, Opened
from api.console.words import Language, language_of
from api.envelope import note_problem
from api.errors import LogInFailed, Unauthenticated
from api.problems import problem_headers, status_of
from api.service import Service
from core import ids
from core.errors import OublietteError
from core.scope import narrow

HOME: Final = "/console"
STEP_UP_AGE_S: Final = 300
LANGUAGE_S: Final = 31_536_000
CODE_MAX_CHARACTERS: Final = 2_048
_ANSWER: Final = frozenset({"code", "state", "iss", "error"})
Endpoint = Callable[[Request], Response]


def remembering_language(endpoint: Endpoint) -> Endpoint:
    """Let the browser keep the language that an address asks for."""

    @wraps(endpoint)
    def answered(request: Request) -> Response:
        answer = endpoint(request)
        if "lang" in request.query_params:
            answer.set_cookie(
                LANGUAGE_COOKIE,
                _language(request),
                max_age=LANGUAGE_S,
                path="/",
                secure=True,
                httponly=True,
                samesite="lax",
            )
        return answer

    return answered


def told_as_page(endpoint: Endpoint) -> Endpoint:
    """Answer a refusal with a page that a person can read, under the refusal's own status."""

    @wraps(endpoint)
    def answered(request: Request) -> Response:
        try:
            return endpoint(request)
        except OublietteError as error:
            note_problem(request.scope, error)
            reason = str(error.facts.get("reason", ""))
            shown = f"{error.code} {reason}".strip()
            answer = page("failed", _language(request), status=status_of(error), code=shown)
            answer.headers.update(problem_headers(error))
            return answer

    return answered


@remembering_language
@told_as_page
def home(request: Request) -> Response:
    """Show the console, or how to log in."""
    secret, language = session_secret(request.headers), _language(request)
    recording = request.query_params.get("recording", "")
    recording = recording if ids.is_id(recording, "rec_") else ""
    try:
        actor = _sessions(request).recognise(secret)
    except Unauthenticated:
        if _sessions(request).provider is None:
            return page("no_provider", language)
        where = f"{HOME}/login" + (f"?recording={recording}" if recording else "")
        return page("log_in", language, where=where)
    request.state.actor_id = actor.id
    return page(
        "console", language, token=request_token(secret), actor=actor.id, recording=recording
    )


@told_as_page
def login(request: Request) -> Response:
    """Send the browser to the provider, with a secret that only this browser keeps."""
    service = _service(request)
    sessions = service.browser_sessions
    if sessions.provider is None:
        raise LogInFailed(reason="no-provider")
    step_up = request.query_params.get("step_up") == "1"
    begun = LogIn.begin(
        sessions.clock.random_bytes(SECRET_BYTES),
        now=sessions.clock.now(),
        max_age_s=STEP_UP_AGE_S if step_up else sessions.rules.max_s,
        recording_id=request.query_params.get("recording", ""),
    )
    acr_values = " ".join(service.settings.oidc_step_up_acr) if step_up else ""
    where = sessions.provider.authorization_url(begun.request(acr_values=acr_values))
    answer = RedirectResponse(where, HTTPStatus.SEE_OTHER)
    answer.set_cookie(
        LOG_IN_COOKIE,
        begun.cookie,
        max_age=LIFETIME_S,
        path="/",
        secure=True,
        httponly=True,
        samesite="lax",  # it must come along when the provider sends the browser back
    )
    return answer


@told_as_page
def callback(request: Request) -> Response:
    """Take the provider's answer; a session begins, or nothing has happened."""
    sessions = _sessions(request)
    begun = LogIn.read(request.cookies.get(LOG_IN_COOKIE, ""), now=sessions.clock.now())
    code = _code(request, begun, sessions)
    opened = sessions.log_in(begun, code, previous=session_secret(request.headers))
    request.state.actor_id = opened.actor.id
    query = f"?recording={begun.recording_id}" if begun.recording_id else ""
    answer = moving_on(_language(request), HOME + query)
    answer.delete_cookie(LOG_IN_COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return _with_session(answer, opened)


def enter(request: Request) -> Response:
    """Show the page of a link that logs in once, or take what it holds."""
    if request.method != "POST":
        return page("enter", _language(request))
    check_same_origin(request.headers, _service(request).settings.public_url, change=True)
    code = request.headers.get("oubliette-enter", "")
    opened = _sessions(request).enter(code, previous=session_secret(request.headers))
    request.state.actor_id = opened.actor.id
    return _with_session(JSONResponse({"location": HOME}), opened)


def logout(request: Request) -> Response:
    """End the session and whatever plays in it; then tell where to end the provider's."""
    service = _service(request)
    secret = session_secret(request.headers)
    from_own_page(request.headers, service.settings.public_url, secret=secret, change=True)
    with suppress(Unauthenticated):  # a row that does not open speaks for nobody
        actor = _sessions(request).whose(secret)  # whether or not the provider answers
        if actor is not None:
            narrow(actor.controller_id, service.ports.vault.ledger_controller_id)
            service.listen_accounts.end_browser_listens(actor)
    _sessions(request).end(secret)
    provider = _sessions(request).provider
    where = provider.end_session_url(service.settings.public_url + HOME) if provider else ""
    answer = JSONResponse({"location": where or HOME})
    answer.delete_cookie(SESSION_COOKIE, path="/", secure=True, httponly=True, samesite="strict")
    answer.headers["Clear-Site-Data"] = '"cache", "storage"'
    return answer


def _code(request: Request, begun: LogIn, sessions: BrowserSessions) -> str:
    """Return the code of an answer that is to this very log-in, by this very issuer."""
    said = request.query_params
    if any(len(said.getlist(name)) > 1 for name in _ANSWER):
        raise LogInFailed(reason="repeated")
    begun.check_state(said.get("state", ""))
    if sessions.provider is None:
        raise LogInFailed(reason="no-provider")
    sessions.provider.check_answering(said.get("iss"))
    if "error" in said:
        raise LogInFailed(reason="refused-by-issuer")
    code = said.get("code", "")
    if not 0 < len(code) <= CODE_MAX_CHARACTERS:
        raise LogInFailed(reason="code")
    return code


def _with_session(answer: Response, opened: Opened) -> Response:
    answer.set_cookie(
        SESSION_COOKIE,
        opened.secret,
        path="/",
        secure=True,
        httponly=True,
        samesite="strict",
    )
    return answer


def _file(request: Request, *, name: str) -> Response:
    del request
    return asset(name)


def _language(request: Request) -> Language:
    asked = request.query_params.get("lang", "") or request.cookies.get(LANGUAGE_COOKIE, "")
    return language_of(asked, request.headers.get("accept-language", ""))


def _sessions(request: Request) -> BrowserSessions:
    return _service(request).browser_sessions


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ROUTES: Final = (
    Route(HOME, home, methods=["GET"]),
    Route(f"{HOME}/login", login, methods=["GET"]),
    Route(CALLBACK, callback, methods=["GET"]),
    Route(f"{HOME}/enter", enter, methods=["GET", "POST"]),
    Route(f"{HOME}/logout", logout, methods=["POST"]),
    *(Route(f"{HOME}/{name}", partial(_file, name=name), methods=["GET"]) for name in ASSETS),
)
