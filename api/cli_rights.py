"""``oubliette grant``, ``approval``, ``account``, ``freeze`` and ``review``: who may do what."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from api.cli_http import remote
from api.cli_output import AsJson, only_one, show, told_in_private

grant_app = typer.Typer(help="Rights of accounts, with a window (admin).", no_args_is_help=True)
approval_app = typer.Typer(help="A second person's word (admin, DPO).", no_args_is_help=True)
account_app = typer.Typer(help="Who has been here, and may come back.", no_args_is_help=True)
freeze_app = typer.Typer(help="Stop things at once in an incident.", no_args_is_help=True)
review_app = typer.Typer(help="Judge reasons of past listens (DPO).", no_args_is_help=True)

Reason = Annotated[str, typer.Option(help="10 to 500 characters, two words at least.")]
Account = Annotated[str, typer.Option(help="Pseudonym of the account, act_...")]
Subject = Annotated[
    str,
    typer.Option(
        help="Instead: its name at the issuer (- reads it from stdin).", callback=told_in_private
    ),
]
GrantId = Annotated[str, typer.Argument(help="Id of the grant, grt_...", metavar="GRANT")]
ApprovalId = Annotated[str, typer.Argument(help="Id of the approval, apr_...", metavar="APPROVAL")]
AccountId = Annotated[str, typer.Argument(help="Pseudonym, act_...", metavar="ACCOUNT")]


@grant_app.command()
def give(
    role: Annotated[str, typer.Option(help="quality-manager, dpo or auditor.")],
    campaign: Annotated[str, typer.Option(help="Id or slug, or * for every campaign.")],
    reason: Reason,
    *,
    account: Account = "",
    subject: Subject = "",
    company: Annotated[str, typer.Option(help="The call centre's slug (internal staff).")] = "",
    purpose: Annotated[list[str] | None, typer.Option(help="What for; repeat.")] = None,
    since: Annotated[str, typer.Option("--from", help="RFC 3339 (now).")] = "",
    until: Annotated[str, typer.Option(help="RFC 3339, excluded (no end of its own).")] = "",
    listens_max: Annotated[int, typer.Option(help="How many listens at most (0: no cap).")] = 0,
    as_json: AsJson = False,
) -> None:
    """Give an account a right; an officer's or auditor's waits for a second person."""
    wanted: dict[str, Any] = _named(account, subject) | {
        "role": role,
        "campaign": campaign,
        "company": company,
        "purposes": purpose or [],
        "reason": reason,
    }
    wanted |= {"from": since} if since else {}
    wanted |= {"until": until} if until else {}
    wanted |= {"listens_max": listens_max} if listens_max else {}
    with remote() as vault:
        show(vault.json("POST", "/v1/grants", json=wanted), as_json=as_json)


@grant_app.command("list")
def list_grants(
    *,
    account: Account = "",
    state: Annotated[str, typer.Option(help="in-force, ended, revoked ... (all).")] = "",
    as_json: AsJson = False,
) -> None:
    """List grants and how each stands."""
    with remote() as vault:
        found = vault.json("GET", "/v1/grants", params={"account": account, "state": state})
    lines = [
        f"{one['id']}  {one['state']}  {one['account']}  {one['role']}  {one['campaign']}  "
        f"until {one['until_at'] or '-'}"
        for one in found["items"]
    ]
    show(found, as_json=as_json, lines=lines or ["none"])


@grant_app.command()
def confirm(grant: GrantId, reason: Reason, *, as_json: AsJson = False) -> None:
    """Say at a review that a grant is still right."""
    with remote() as vault:
        path = f"/v1/grants/{grant}/confirmation"
        show(vault.json("POST", path, json={"reason": reason}), as_json=as_json)


@grant_app.command()
def revoke(grant: GrantId, *, as_json: AsJson = False) -> None:
    """End a grant, with the listens under it."""
    with remote() as vault:
        show(vault.json("DELETE", f"/v1/grants/{grant}"), as_json=as_json)


@approval_app.command("list")
def list_approvals(
    state: Annotated[str, typer.Option(help="asked, approved, refused, used, expired.")] = "asked",
    *,
    as_json: AsJson = False,
) -> None:
    """List requests that wait for a second person."""
    with remote() as vault:
        found = {"items": list(vault.items("/v1/approvals", state=state))}
    lines = [
        f"{one['id']}  {one['kind']}  by {one['requested_by']}"
        + (f"  about {one['request']['account']}" if "account" in one["request"] else "")
        + f"  until {one['expires_at']}"
        for one in found["items"]
    ]
    show(found, as_json=as_json, lines=lines or ["none"])


@approval_app.command("show")
def show_approval(approval: ApprovalId, *, as_json: AsJson = False) -> None:
    """Show exactly what is asked for, with the requester's reason."""
    with remote() as vault:
        show(vault.json("GET", f"/v1/approvals/{approval}"), as_json=as_json)


@approval_app.command()
def approve(
    approval: ApprovalId,
    reason: Reason,
    *,
    account: Account = "",
    subject: Subject = "",
    as_json: AsJson = False,
) -> None:
    """Agree to somebody else's request; they then repeat it. Name whose right it is, if one."""
    named = _named(account, subject) if account or subject else {}
    _decide(approval, {"verdict": "approve", "reason": reason} | named, as_json=as_json)


@approval_app.command()
def refuse(approval: ApprovalId, reason: Reason, *, as_json: AsJson = False) -> None:
    """Refuse somebody else's request."""
    _decide(approval, {"verdict": "refuse", "reason": reason}, as_json=as_json)


@account_app.command("list")
def list_accounts(*, as_json: AsJson = False) -> None:
    """List accounts, with their rights, sessions at once, and the number of admins."""
    with remote() as vault:
        found = vault.json("GET", "/v1/accounts")
    lines = [
        f"{one['id']}  {one['kind']}  {' '.join(one['roles']) or '-'}  seen {one['last_seen_at']}  "
        f"sessions {one['sessions_at_once']}{_stopped(one)}"
        for one in found["items"]
    ]
    show(found, as_json=as_json, lines=[*lines, f"admins: {found['admins_count']}"])


@account_app.command()
def suspend(account: AccountId, reason: Reason, *, as_json: AsJson = False) -> None:
    """Stop an account until it is resumed."""
    with remote() as vault:
        path = f"/v1/accounts/{account}/suspension"
        show(vault.json("POST", path, json={"reason": reason}), as_json=as_json)


@account_app.command()
def resume(account: AccountId, *, as_json: AsJson = False) -> None:
    """Let a suspended account act again."""
    with remote() as vault:
        show(vault.json("DELETE", f"/v1/accounts/{account}/suspension"), as_json=as_json)


@account_app.command("reviews")
def account_reviews(*, as_json: AsJson = False) -> None:
    """List the quarterly reviews of grants."""
    with remote() as vault:
        found = vault.json("GET", "/v1/account-reviews")
    lines = [
        f"{one['quarter']}  due {one['due_at']}  grants {one['grants_count']}  "
        f"open {one['open_count']}"
        for one in found["items"]
    ]
    show(found, as_json=as_json, lines=lines or ["none"])


@account_app.command("review")
def begin_review(*, as_json: AsJson = False) -> None:
    """Begin this quarter's review of grants now."""
    with remote() as vault:
        show(vault.json("POST", "/v1/account-reviews"), as_json=as_json)


@freeze_app.command("set")
def freeze(
    reason: Reason,
    *,
    account: Account = "",
    subject: Subject = "",
    grant: Annotated[str, typer.Option(help="One grant, grt_...")] = "",
    campaign: Annotated[str, typer.Option(help="A campaign, id or slug.")] = "",
    everything: Annotated[bool, typer.Option("--everything", help="All of it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop an account, a grant, a campaign or everything; streams end within two seconds."""
    named = {"grant": grant, "campaign": campaign}
    scope = only_one(
        {"account": account or subject, **named, "everything": everything},
        "an account, --grant, --campaign, --everything",
    )
    wanted: dict[str, Any] = {"scope": scope, "reason": reason}
    if scope == "account":
        wanted |= _named(account, subject)
    elif scope in named:
        wanted[scope] = named[scope]
    with remote() as vault:
        show(vault.json("POST", "/v1/freezes", json=wanted), as_json=as_json)


@freeze_app.command("list")
def list_freezes(
    *,
    lifted: Annotated[bool, typer.Option("--lifted", help="Those of the past too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List freezes."""
    with remote() as vault:
        found = vault.json("GET", "/v1/freezes", params={"lifted": lifted})
    lines = [
        f"{one['id']}  {one['scope']}  {one['set_at']}  "
        f"{'lifted' if one['lifted_at'] else 'in force'}"
        for one in found["items"]
    ]
    show(found, as_json=as_json, lines=lines or ["none"])


@freeze_app.command("lift")
def lift_freeze(
    freeze: Annotated[str, typer.Argument(help="Id of the freeze, frz_...")],
    *,
    as_json: AsJson = False,
) -> None:
    """Let it go on."""
    with remote() as vault:
        show(vault.json("DELETE", f"/v1/freezes/{freeze}"), as_json=as_json)


@review_app.command("list")
def list_reviews(
    *,
    judged: Annotated[bool, typer.Option("--judged", help="Those that were judged.")] = False,
    as_json: AsJson = False,
) -> None:
    """List listens that were drawn, with their reasons."""
    with remote() as vault:
        found = vault.json("GET", "/v1/reviews", params={"judged": judged})
    lines = [
        f"{one['id']}  {one['listened_at']}  {one['actor_id']}  {one['purpose']}  "
        f"{one['verdict'] or one['reason'] or '-'}"
        for one in found["items"]
    ]
    show(found, as_json=as_json, lines=lines or ["none"])


@review_app.command()
def judge(
    review: Annotated[str, typer.Argument(help="Id of the review, rvw_...")],
    verdict: Annotated[str, typer.Option(help="sound, doubtful or abusive.")],
    reason: Reason,
    *,
    as_json: AsJson = False,
) -> None:
    """Say whether a past reason holds."""
    with remote() as vault:
        asked = {"verdict": verdict, "reason": reason}
        show(vault.json("POST", f"/v1/reviews/{review}", json=asked), as_json=as_json)


def _decide(approval: str, asked: dict[str, str], *, as_json: bool) -> None:
    with remote() as vault:
        path = f"/v1/approvals/{approval}/decision"
        show(vault.json("POST", path, json=asked), as_json=as_json)


def _named(account: str, subject: str) -> dict[str, str]:
    named = {"account": account, "subject": subject}
    given = only_one(named, "--account, --subject")
    return {given: named[given]}


def _stopped(one: dict[str, Any]) -> str:
    if one["frozen"]:
        return "  frozen"
    return f"  suspended ({one['suspended_why']})" if one["suspended_at"] else ""
