"""login, logout, whoami."""

from __future__ import annotations

import sys

import click

from asynccode.client.api import Api
from asynccode.client.clean import line
from asynccode.client.credentials import LOCAL, Credentials, server_of
from asynccode.client.failures import NotSignedIn, Usage
from asynccode.client.options import AS_JSON, print_json, signed_in

_LOOPBACK = ("http://localhost", "http://127.", "http://[::1]")


@click.command()
@click.argument("url", required=False, envvar="ASYNCCODE_URL")
@click.option("--token-stdin", is_flag=True, help="Read the token from the standard input.")
def login(url: str | None, token_stdin: bool) -> None:
    """Sign in to a server, with a token made under Settings → API tokens there. It is kept in a file that only you can read."""
    credentials = Credentials.load()
    server = server_of(url) if url else credentials.default or LOCAL
    if server.startswith("http://") and not server.startswith(_LOOPBACK):
        click.echo(f"Mind that {server} is not encrypted: whoever is on the way can read your token.", err=True)
    if token_stdin:
        token = sys.stdin.readline().strip()
    elif sys.stdin.isatty():
        click.echo(f"Make a token that may write at {server}/settings, under API tokens.", err=True)
        token = click.prompt("Token", hide_input=True, err=True).strip()
    else:
        raise Usage("There is no terminal to ask for the token. Pipe it in: asynccode login --token-stdin < FILE")
    if not token.isascii() or not token.isprintable() or not token or " " in token:
        raise NotSignedIn("That is no token. Copy it again: it begins with ac_.")
    with Api(server, token) as api:
        me = api.get("/me")
    credentials.keep(server, token)
    click.echo(f"Signed in at {server} as {line(me['username'])}; the token {line(me['token'])} may {line(me['scope'])}.")
    if me["scope"] != "write":
        click.echo("With a token that may only read you can list, watch, diff and apply. The rest needs one that may write.", err=True)


@click.command()
@click.argument("url", required=False, envvar="ASYNCCODE_URL")
def logout(url: str | None) -> None:
    """Forget the token of a server. It stays good until it is revoked there."""
    credentials = Credentials.load()
    server = server_of(url) if url else credentials.default
    if not server or not credentials.forget(server):
        raise NotSignedIn(f"You are not signed in at {server}." if server else "You are not signed in to any server.")
    click.echo(f"The token for {server} is forgotten here. Revoke it at {server}/settings, unless others use it.")


@click.command()
@AS_JSON
@signed_in
def whoami(api: Api, as_json: bool) -> None:
    """Show where you are signed in, and what the token may do."""
    me = api.get("/me")
    if as_json:
        print_json({"server": api.server, **me})
        return
    until = f", until {line(me['expires_at'][:10])}" if me["expires_at"] else ""
    click.echo(f"{line(me['username'])} at {api.server}; the token {line(me['token'])} may {line(me['scope'])}{until}.")
    for other in sorted(set(Credentials.load().tokens) - {api.server}):
        click.echo(f"also signed in at {other}")
