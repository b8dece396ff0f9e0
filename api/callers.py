"""The role a route asks of its caller, declared on the route itself.

Roles here are the outer gate; whether the caller may touch *this* campaign or recording is decided
by the flows, which answer "no such thing" outside the caller's controller and campaigns.
"""

from __future__ import annotations

from typing import Any

from fastapi import Depends, Request

from api.console.door import READING, from_own_page, session_secret
from api.errors import RoleRequired
from api.service import Service
from api.step_up import check_step_up
from core.scope import narrow
from vault.access import ROLES, Actor, Role
from vault.errors import AccountSuspended


def identify(request: Request) -> Actor:
    """Return who calls: by token or deposit key, else by the cookie of a browser session.

    Raises:
        Unauthenticated, IssuerUnavailable: there is no caller.
        CsrfRefused: the cookie came along with a request that our own page did not make.
    """
    service: Service = request.app.state.service
    headers, secret = request.headers, session_secret(request.headers)
    if "authorization" in headers or not secret:
        return service.authenticator.authenticate(headers)
    change = request.method not in READING
    from_own_page(headers, service.settings.public_url, secret=secret, change=change)
    return service.browser_sessions.recognise(secret)


def allow(*roles: Role, step_up: bool = False) -> Any:
    """Make a dependency that returns the caller when it has one of ``roles``.

    Without roles every known caller passes: for routes whose flow decides and records a refusal.

    Args:
        *roles: what the route asks for, any one of them.
        step_up: also ask for a strong and fresh authentication.

    Raises:
        Unauthenticated, IssuerUnavailable: there is no caller.
        AccountSuspended: the account is suspended or frozen.
        RoleRequired: none of its roles is asked for; the fact lists those that are.
        StepUpRequired: the person must authenticate again.
    """
    wanted = frozenset(roles)
    if not wanted <= ROLES:
        raise ValueError(sorted(wanted - ROLES))

    def check(request: Request) -> Actor:
        service: Service = request.app.state.service
        actor = identify(request)
        narrow(actor.controller_id, service.ports.vault.ledger_controller_id)
        request.state.actor_id = actor.id
        return admit(service, actor, wanted, step_up=step_up)

    return Depends(check)


def admit(service: Service, actor: Actor, wanted: frozenset[str], *, step_up: bool) -> Actor:
    """Return an authenticated caller with the roles it really has, when a route may serve it.

    Args:
        service: whose accounts and grants count.
        actor: as its token or session says.
        wanted: roles, any one of them; none leaves the decision to the flow.
        step_up: also ask for a strong and fresh authentication.

    Raises:
        AccountSuspended, RoleRequired, StepUpRequired: as ``allow``.
    """
    stopped = service.accounts.arrive(actor)
    if not wanted:
        return actor
    if stopped is not None:
        raise AccountSuspended(why=stopped)
    if not actor.roles & wanted:
        raise RoleRequired(roles=sorted(wanted))
    entitled = service.listens.rights.narrow(actor, wanted)
    if not entitled.roles & wanted:
        raise RoleRequired(roles=sorted(wanted), why="grant")
    if step_up:
        settings = service.settings
        check_step_up(actor, settings.oidc_step_up_acr, now=service.ports.clock.now())
    return entitled
