"""Making machines of E2B's, and waking them up.

Both are asked for by the SDK's own client of the API, since `AsyncSandbox.create` and `connect` keep the answer to themselves, and how long
a rate limit holds is said in its headers only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from e2b import ConnectionConfig
from e2b.api import AsyncApiClient, handle_api_exception
from e2b.api.client.api.sandboxes import post_v2_sandboxes, post_v_2_sandboxes_sandbox_id_connect
from e2b.api.client.models import ConnectSandboxV2, NewSandboxV2, Sandbox, SandboxNetworkConfig
from e2b.api.client.types import Response
from e2b.api.client_async import get_api_client
from e2b.retry import parse_retry_after
from e2b.sandbox.sandbox_api import build_network_config

from sandboxes.base import HeaderRule, NetworkPolicy
from sandboxes.e2b import network
from sandboxes.e2b.account import Account, limited

_CREATE_S = 60.0


async def create(
    account: Account, template: str, policy: NetworkPolicy, rules: Sequence[HeaderRule], *, timeout_s: int, metadata: Mapping[str, str]
) -> str:
    """Make one, which is paused after `timeout_s`: its id. Raises the SDK's exceptions, and SandboxLimited."""
    wanted = NewSandboxV2(
        template_id=template,
        timeout=timeout_s,
        auto_pause=True,
        metadata=dict(metadata),
        network=SandboxNetworkConfig(**(build_network_config(network.options(policy, rules)) or {})),
    )
    answer = await post_v2_sandboxes.asyncio_detailed(client=_client(account), body=wanted)
    _heed(answer)
    if not isinstance(answer.parsed, Sandbox):
        raise handle_api_exception(answer)
    return answer.parsed.sandbox_id


async def wake(account: Account, ref: str, *, timeout_s: int) -> None:
    """Wake one up, if there is room. Raises SandboxLimited; any other refusal is for `AsyncSandbox.connect` to find."""
    body = ConnectSandboxV2(timeout=timeout_s)
    _heed(await post_v_2_sandboxes_sandbox_id_connect.asyncio_detailed(ref, client=_client(account), body=body))


def _client(account: Account) -> AsyncApiClient:
    return get_api_client(ConnectionConfig(**account.options, request_timeout=_CREATE_S))


def _heed(answer: Response[Any]) -> None:
    """What fits into a request's time, the SDK has waited for already."""
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        refused = handle_api_exception(answer)
        raise limited(refused, parse_retry_after(answer.headers.get("Retry-After"))) from refused
