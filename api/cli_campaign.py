"""``oubliette campaign``: make, set the policy of, open and close; credentials for PBXs."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from api.cli_http import remote
from api.cli_output import AsJson, show

app = typer.Typer(help="Campaigns, their policies and their deposit keys.", no_args_is_help=True)

Slug = Annotated[str, typer.Argument(help="Id or slug of the campaign.", metavar="CAMPAIGN")]


def campaign_path(campaign: str, *more: str) -> str:
    """Return the path of a campaign, or of something below it."""
    return "/v1/campaigns/" + "/".join(quote(one, safe="") for one in (campaign, *more))


@app.command()
def create(
    slug: Annotated[str, typer.Argument(help="[a-z0-9-], at most 40 characters.")],
    name: Annotated[str, typer.Option(help="Name for people.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make a campaign as a draft (admin)."""
    with remote() as vault:
        made = vault.json("POST", "/v1/campaigns", json={"slug": slug, "name": name})
    show(made, as_json=as_json)


@app.command("list")
def list_campaigns(*, as_json: AsJson = False) -> None:
    """List the campaigns in your scope."""
    with remote() as vault:
        found = vault.json("GET", "/v1/campaigns")
    lines = [f"{one['slug']}  {one['state']}  {one['name']}" for one in found["items"]]
    show(found, as_json=as_json, lines=lines or ["no campaigns"])


@app.command("show")
def show_campaign(campaign: Slug, *, as_json: AsJson = False) -> None:
    """Show a campaign and its policy."""
    with remote() as vault:
        found = vault.json("GET", campaign_path(campaign))
        found["policy"] = vault.json("GET", campaign_path(campaign, "policy"))
    show(found, as_json=as_json)


@app.command()
def policy(
    campaign: Slug,
    *,
    retention: Annotated[str, typer.Option(help="ISO 8601: P1D to P10Y.")] = "",
    preset: Annotated[str, typer.Option(help="A preset instead of, or beside, a retention.")] = "",
    legal_basis: Annotated[str, typer.Option(help="For example legitimate-interests.")],
    balancing: Annotated[str, typer.Option(help="The balancing text.")] = "",
    justification: Annotated[str, typer.Option(help="Why longer than the yardstick.")] = "",
    purpose: Annotated[list[str], typer.Option(help="What may be listened for; repeat.")],
    country: Annotated[list[str], typer.Option(help="Where audio may lie; repeat.")],
    processor: Annotated[str, typer.Option(help="The call centre, when it is not yours.")] = "",
    sensitive: Annotated[
        list[str] | None, typer.Option(help="A purpose that wants a second person; repeat.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set the retention policy (DPO); it holds for every recording that is there."""
    wanted = {
        "retention": retention or None,
        "preset": preset or None,
        "legal_basis": legal_basis,
        "balancing_text": balancing,
        "justification": justification,
        "listen_purposes": purpose,
        "countries": country,
        "processor": processor,
        "sensitive_purposes": sensitive or [],
    }
    with remote() as vault:
        answer = vault.json("PUT", campaign_path(campaign, "policy"), json=wanted)
    show(answer, as_json=as_json)


@app.command()
def simulate(
    campaign: Slug,
    retention: Annotated[str, typer.Argument(help="ISO 8601.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Count what another retention would make due at once; changes nothing (DPO)."""
    with remote() as vault:
        path = campaign_path(campaign, "policy", "simulation")
        answer = vault.json("GET", path, params={"retention": retention})
    show(answer, as_json=as_json)


@app.command("open")
def open_campaign(campaign: Slug, *, as_json: AsJson = False) -> None:
    """Let a campaign take deposits."""
    _post(campaign, "open", as_json=as_json)


@app.command()
def close(campaign: Slug, *, as_json: AsJson = False) -> None:
    """Refuse further deposits."""
    _post(campaign, "close", as_json=as_json)


@app.command("key")
def issue_key(
    campaign: Slug,
    label: Annotated[str, typer.Option(help="What it is for.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make a deposit key; its secret is shown this once (admin)."""
    with remote() as vault:
        answer = vault.json("POST", campaign_path(campaign, "deposit-keys"), json={"label": label})
    show(answer, as_json=as_json)


@app.command("keys")
def list_keys(campaign: Slug, *, as_json: AsJson = False) -> None:
    """List a campaign's deposit keys, without their secrets (admin)."""
    with remote() as vault:
        found = vault.json("GET", campaign_path(campaign, "deposit-keys"))
    show(found, as_json=as_json, lines=[_key_line(one) for one in found["items"]] or ["no keys"])


@app.command("revoke-key")
def revoke_key(
    campaign: Slug, key: Annotated[str, typer.Argument(help="Id of the key, dky_...")]
) -> None:
    """End a deposit key for good (admin)."""
    with remote() as vault:
        vault.send("DELETE", campaign_path(campaign, "deposit-keys", key))


@app.command("upload-url")
def upload_url(
    campaign: Slug,
    external_id: Annotated[str, typer.Argument(help="The platform's own id of the call.")],
    *,
    lifetime_s: Annotated[int, typer.Option(help="60 to 86400 seconds.")] = 3_600,
    as_json: AsJson = False,
) -> None:
    """Make an address that takes one recording without further credentials (admin)."""
    wanted = {"external_id": external_id, "lifetime_s": lifetime_s}
    with remote() as vault:
        answer = vault.json("POST", campaign_path(campaign, "upload-urls"), json=wanted)
    show(answer, as_json=as_json)


def _post(campaign: str, verb: str, *, as_json: bool) -> None:
    with remote() as vault:
        show(vault.json("POST", campaign_path(campaign, verb)), as_json=as_json)


def _key_line(key: dict[str, Any]) -> str:
    state = "revoked" if key["revoked_at"] else "good"
    return f"{key['id']}  {state}  {key['label']}"
