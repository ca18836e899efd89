"""The REST half of the cloud: E2B's API, as far as AsyncSandbox and AsyncTemplate ask it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from tests.e2bcloud.builds import Builds
from tests.e2bcloud.cloud import Cloud, Refused, Sandbox, iso, too_many
from tests.e2bcloud.http1 import Head, Reply

# The newest that does not promise metadata of files, which envd here does not keep.
ENVD_VERSION = "0.6.1"
_CPUS, _MEMORY_MB, _DISK_MB = 2, 512, 10240
_PAGE = 100


class Api:
    def __init__(self, cloud: Cloud, url: str, key: str) -> None:
        self._cloud, self._key, self.builds = cloud, key, Builds(cloud, url)

    async def answer(self, head: Head, content: bytes) -> Reply:
        """Every error is the API's {"code", "message"}."""
        try:
            if head.headers.get("x-api-key") != self._key:
                raise Refused(401, "Invalid API key")
            body = json.loads(content) if content else {}
            parts = [unquote(part) for part in head.raw_path.strip("/").split("/")]
            if parts[0] in ("v2", "v3"):
                parts = parts[1:]
            return await self._route(head, parts, body)
        except Refused as refused:
            return error(refused.status, refused.message, refused.retry_after)

    async def _route(self, head: Head, parts: list[str], body: dict[str, Any]) -> Reply:
        match (head.method, *parts):
            case ("POST", "sandboxes"):
                return await self._create(head, body)
            case ("GET", "sandboxes"):
                return self._list(head.query)
            case (_, "sandboxes", sandbox_id, *rest):
                return await self._sandbox(head, self._cloud.get(sandbox_id), rest, body)
            case ("GET", "snapshots"):
                return self._snapshots(head.query)
            case ("POST", "templates"):
                return self.builds.request(body)
            case ("GET", "templates", "aliases", name):
                return self.builds.alias(name)
            case ("POST", "templates", "tags"):
                return self.builds.tag(body)
            case ("DELETE", "templates", "tags"):
                return self.builds.untag(body)
            case ("GET", "templates", template):
                return self.builds.detail(template)
            case ("GET", "templates", name, "tags"):
                return self.builds.tags(name)
            case ("GET", "templates", template, "files", digest):
                return self.builds.upload_link(template, digest)
            case ("POST", "templates", template, "builds", build_id):
                return self.builds.trigger(template, build_id, body)
            case ("GET", "templates", template, "builds", build_id, "status"):
                return self.builds.status(template, build_id, int(head.query.get("logsOffset", 0)))
            case ("DELETE", "templates", name):
                return await self._delete_template(name)
        raise Refused(404, f"no such route: {head.method} {head.raw_path}")

    async def _sandbox(self, head: Head, sandbox: Sandbox, rest: list[str], body: dict[str, Any]) -> Reply:
        match (head.method, *rest):
            case ("GET",):
                return Reply(200, _detail(sandbox))
            case ("DELETE",):
                await self._cloud.kill(sandbox)
                return Reply(204)
            case ("POST", "connect"):
                return Reply(201 if await self._cloud.resume(sandbox, body) else 200, _created(sandbox))
            case ("POST", "pause"):
                await self._cloud.pause(sandbox)
                return Reply(204)
            case ("POST", "timeout"):
                if sandbox.state != "running":
                    raise Refused(404, f"sandbox '{sandbox.id}' not found")
                self._cloud.set_timeout(sandbox, body, may_shorten=True)
                return Reply(204)
            case ("PUT", "network"):
                network = dict(body)
                self._allow_rules(f"{head.method} {head.raw_path}", network)
                sandbox.body["allow_internet_access"] = network.pop("allow_internet_access", None)
                sandbox.body["network"] = network
                return Reply(204)
            case ("POST", "snapshots"):
                made = await self._cloud.snapshot(sandbox, body.get("name"))
                return Reply(201, {"snapshotID": made["id"], "names": made["names"]})
            case ("POST", "fork"):
                return Reply(201, [_forked(one) for one in await self._cloud.fork(sandbox, body)])
            case ("GET", "metrics"):
                return Reply(200, [await asyncio.to_thread(_metric, sandbox)])
        raise Refused(404, f"no such route: {head.method} {head.raw_path}")

    # --- sandboxes ------------------------------------------------------------------------------------------------------

    async def _create(self, head: Head, body: dict[str, Any]) -> Reply:
        faults, call = self._cloud.faults, f"{head.method} {head.raw_path}"
        self._allow_rules(call, body.get("network") or {})
        if fault := faults.take("quota", call=call):
            raise Refused(429, fault.args.get("message") or too_many(self._cloud.settings.concurrency or 20))
        if fault := faults.take("slow_create", call=call):
            await asyncio.sleep(fault.args["seconds"])
        sandbox = await self._cloud.create(body, head.headers.get("idempotency-key"))
        if faults.take("vanish", call=call, sandbox=sandbox.id, where=lambda args: args.get("at") == "create"):
            await self._cloud.kill(sandbox)
        elif fault := faults.take("vanish", call=call, sandbox=sandbox.id, where=lambda args: "seconds" in args):
            self._cloud.kill_in(sandbox, fault.args["seconds"])
        return Reply(201, _created(sandbox))

    def _allow_rules(self, call: str, network: dict[str, Any]) -> None:
        if network.get("rules") and (fault := self._cloud.faults.take("rules", call=call)):
            raise Refused(fault.args.get("status", 403), fault.args.get("message") or "Network rules are not enabled for your team")

    def _list(self, query: dict[str, str]) -> Reply:
        # Quoted twice by the SDK: each key and value, then the whole.
        wanted = {unquote(key): unquote(value) for key, value in parse_qsl(query.get("metadata", ""))}
        states = query.get("state", "running,paused").split(",")
        after = datetime.fromisoformat(query["startedAfter"]).timestamp() if "startedAfter" in query else 0.0
        found = [
            one
            for one in self._cloud.sandboxes.values()
            if one.state in states
            and wanted.items() <= one.metadata.items()
            and one.started_at >= after
            and query.get("template", one.template) == one.template
        ]
        found.sort(key=lambda one: one.started_at, reverse=query.get("order", "desc") == "desc")
        return _page(found, query, _listed)

    def _snapshots(self, query: dict[str, str]) -> Reply:
        found = [
            one
            for one in self._cloud.snapshots.values()
            if query.get("sandboxID", one["sandbox"]) == one["sandbox"]
            and ("name" not in query or query["name"].partition(":")[0] in (one["id"], *one["names"]))
        ]
        return _page(found, query, lambda one: {"snapshotID": one["id"], "names": one["names"]})

    async def _delete_template(self, name: str) -> Reply:
        if snapshot := self._cloud.snapshots.pop(name, None):
            await asyncio.to_thread(shutil.rmtree, snapshot["files"], ignore_errors=True)
        elif not self.builds.delete(name):
            raise Refused(404, f"template '{name}' not found")
        return Reply(204)


def error(status: int, message: str, retry_after: int | None = None) -> Reply:
    headers = () if retry_after is None else (("Retry-After", str(retry_after)),)
    return Reply(status, {"code": status, "message": message}, headers)


def _page(found: list[Any], query: dict[str, str], shown: Callable[[Any], dict[str, Any]]) -> Reply:
    start, limit = int(query.get("nextToken", 0)), int(query.get("limit", _PAGE))
    headers = (("x-next-token", str(start + limit)),) if start + limit < len(found) else ()
    return Reply(200, [shown(one) for one in found[start : start + limit]], headers)


def _created(sandbox: Sandbox) -> dict[str, Any]:
    return {
        "templateID": sandbox.template,
        "sandboxID": sandbox.id,
        "clientID": "loopback",
        "envdVersion": ENVD_VERSION,
        "envdAccessToken": sandbox.token,
        "domain": None,
    }


def _forked(made: Sandbox | Refused) -> dict[str, Any]:
    if isinstance(made, Refused):
        return {"error": {"code": made.status, "message": made.message}}
    return {"sandbox": _created(made)}


def _listed(sandbox: Sandbox) -> dict[str, Any]:
    return {
        "templateID": sandbox.template,
        "sandboxID": sandbox.id,
        "clientID": "loopback",
        "envdVersion": ENVD_VERSION,
        "startedAt": iso(sandbox.started_at),
        "endAt": iso(sandbox.end_at),
        "cpuCount": _CPUS,
        "memoryMB": _MEMORY_MB,
        "diskSizeMB": _DISK_MB,
        "state": sandbox.state,
        "metadata": sandbox.metadata,
    }


def _detail(sandbox: Sandbox) -> dict[str, Any]:
    detail = _listed(sandbox) | {
        "envdAccessToken": sandbox.token,
        "allowInternetAccess": sandbox.body.get("allow_internet_access"),
        "lifecycle": {"autoResume": sandbox.auto_resume, "onTimeout": sandbox.on_timeout},
    }
    if network := sandbox.body.get("network"):
        detail["network"] = network
    return detail


def _metric(sandbox: Sandbox) -> dict[str, Any]:
    """Of memory, what its processes hold; of the disk, the host's."""
    pages = 0
    for pid in sandbox.box.processes():
        try:
            with open(f"/proc/{pid}/statm") as file:
                pages += int(file.read().split()[1])
        except OSError:
            continue
    disk = shutil.disk_usage(sandbox.box.root)
    return {
        "timestamp": iso(time.time()),
        "timestampUnix": int(time.time()),
        "cpuCount": _CPUS,
        "cpuUsedPct": 0.0,
        "memUsed": pages * os.sysconf("SC_PAGE_SIZE"),
        "memTotal": _MEMORY_MB * 2**20,
        "memCache": 0,
        "diskUsed": disk.used,
        "diskTotal": disk.total,
    }
