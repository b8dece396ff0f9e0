"""Errors of the service's outside: callers, their requests, and the settings it starts from."""

from __future__ import annotations

from core.errors import OublietteError


class ApiError(OublietteError):
    """Root of the family."""


class Unauthenticated(ApiError):
    """No credentials, or credentials that do not verify; the fact ``reason`` names the rule."""

    code = "unauthenticated"
    title = "The request carries no valid credentials."


class LogInFailed(ApiError):
    """A browser's log-in did not come to its end; the fact ``reason`` names the rule."""

    code = "log-in-failed"
    title = "The log-in did not succeed; begin it again."


class CsrfRefused(ApiError):
    """A change was asked for with a session's cookie, but not by a page of ours."""

    code = "csrf-refused"
    title = "This request does not come from the console's own page."


class StepUpRequired(ApiError):
    """The caller must authenticate again, more strongly or more recently."""

    code = "step-up-required"
    title = "A recent, stronger authentication is required for this."


class IssuerUnavailable(ApiError):
    """The issuer's keys cannot be had, so no token can be verified."""

    code = "issuer-unavailable"
    title = "Tokens cannot be verified at the moment; try again shortly."
    retryable = True


class RoleRequired(ApiError):
    """The caller is known but has none of the roles that may do this."""

    code = "role-required"
    title = "None of your roles may do this."


class RateLimited(ApiError):
    """The caller has asked too often within the last minute."""

    code = "rate-limited"
    title = "Too many requests; try again shortly."
    retryable = True


class Busy(ApiError):
    """Every slot for this kind of work is taken."""

    code = "busy"
    title = "The service is busy; try again shortly."
    retryable = True


class NotReady(ApiError):
    """The service cannot answer yet, or is shutting down; facts name the failing checks."""

    code = "not-ready"
    title = "The service is not ready to answer; try again shortly."
    retryable = True


class RouteNotFound(ApiError):
    """No route has this path."""

    code = "route-not-found"
    title = "There is nothing at this address."


class EntryNotFound(ApiError):
    """No such ledger entry within the actor's controller and campaigns."""

    code = "entry-not-found"
    title = "No such ledger entry."


class MethodNotAllowed(ApiError):
    """The path exists, the method does not; facts list those that do."""

    code = "method-not-allowed"
    title = "This address does not take this method."


class BodyTooLarge(ApiError):
    """A body that is no recording is above its limit."""

    code = "body-too-large"
    title = "The body of the request is too large."


class BodyTooSlow(ApiError):
    """A body that is no recording did not arrive in time."""

    code = "body-too-slow"
    title = "The body of the request did not arrive in time."


class HeadersTooLarge(ApiError):
    """The request has too many header fields, or too many bytes of them."""

    code = "headers-too-large"
    title = "The header fields of the request are too many or too large."


class UnsupportedMediaType(ApiError):
    """The body is not of a media type that this route reads."""

    code = "unsupported-media-type"
    title = "The body is not of a media type that is read here."


class InternalFailure(ApiError):
    """A fault of the service itself; the log has it under the request id."""

    code = "internal-failure"
    title = "The service failed to answer; the fault was recorded under the request id."


class SettingsInvalid(ApiError):
    """A setting is unknown, malformed, missing or not allowed in this mode; facts name it."""

    code = "settings-invalid"
    title = "The settings are not acceptable."


class NotInitialised(ApiError):
    """The database holds no vault yet: ``oubliette init`` makes one."""

    code = "not-initialised"
    title = "There is no vault yet; run 'oubliette init'."


class AlreadyInitialised(ApiError):
    """The database holds a vault already; nothing was changed."""

    code = "already-initialised"
    title = "There is a vault already; nothing was changed."
