"""Template builds: accepted, recorded, and done at once. Their names can be created from; the system is always the base one."""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.e2bcloud.cloud import Cloud, Refused, iso
from tests.e2bcloud.http1 import Reply

_MOST_ENTRIES = 100  # of a status's log


@dataclass
class Build:
    id: str
    template: str
    name: str
    tags: list[str]
    request: dict[str, Any]
    steps: dict[str, Any] = field(default_factory=dict)  # what was triggered: fromImage, steps, startCmd, ...
    uploads: list[str] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    status: str = "waiting"
    reason: str = ""
    polls: int = 0
    created_at: float = field(default_factory=time.time)


class Builds:
    def __init__(self, cloud: Cloud, url: str) -> None:
        self._cloud, self._url = cloud, url
        self.builds: list[Build] = []
        self._uploaded: set[str] = set()

    def listed(self) -> list[dict[str, Any]]:
        return [asdict(build) for build in self.builds]

    def request(self, body: dict[str, Any]) -> Reply:
        name, _, tag = (body.get("name") or body.get("alias") or "").partition(":")
        if not name:
            raise Refused(400, "name is required")
        template = next((build.template for build in self.builds if build.name == name), "t" + uuid.uuid4().hex[:19])
        build = Build(str(uuid.uuid4()), template, name, [*(body.get("tags") or []), *([tag] if tag else [])] or ["default"], body)
        self.builds.append(build)
        answer = {"templateID": template, "buildID": build.id, "public": False, "names": [name], "tags": build.tags, "aliases": [name]}
        return Reply(202, answer)

    def upload_link(self, template: str, digest: str) -> Reply:
        self._by_template(template)[-1].uploads.append(digest)
        if digest in self._uploaded:
            return Reply(201, {"present": True})
        return Reply(201, {"present": False, "url": f"{self._url}/_upload/{digest}"})

    def uploaded(self, digest: str) -> None:
        self._uploaded.add(digest)

    def trigger(self, template: str, build_id: str, body: dict[str, Any]) -> Reply:
        build = self._get(template, build_id)
        build.steps, build.status = body, "building"
        steps = body.get("steps") or []
        self._say(build, f"FROM {body.get('fromImage') or body.get('fromTemplate') or 'base'}", "base")
        for number, step in enumerate(steps, 1):
            self._say(build, f"[{number}/{len(steps)}] {step['type']} {' '.join(step.get('args') or [])}", str(number))
        return Reply(202)

    def status(self, template: str, build_id: str, offset: int) -> Reply:
        """Building at the first look, ready (or failed, by the fault `build`) at the second."""
        build = self._get(template, build_id)
        build.polls += 1
        if build.status == "building" and build.polls > 1:
            self._finish(build)
        entries = build.log[offset : offset + _MOST_ENTRIES]
        answer: dict[str, Any] = {"templateID": template, "buildID": build_id, "status": build.status, "logs": [], "logEntries": entries}
        if build.status == "error":
            answer["reason"] = {"message": build.reason, "step": build.log[-1].get("step", "base"), "logEntries": []}
        return Reply(200, answer)

    def _finish(self, build: Build) -> None:
        if fault := self._cloud.faults.take("build"):
            build.status, build.reason = "error", fault.args.get("message", "the build failed")
            self._say(build, build.reason, str(fault.args.get("step", "base")), "error")
            return
        self._say(build, "Template is ready", "finalize")
        build.status = "ready"
        self._cloud.known_templates |= {build.name, build.template}

    def _say(self, build: Build, message: str, step: str, level: str = "info") -> None:
        build.log.append({"timestamp": iso(time.time()), "message": message, "level": level, "step": step})

    # --- names and tags -------------------------------------------------------------------------------------------------

    def alias(self, name: str) -> Reply:
        found = self._by_template(name.partition(":")[0])
        if not found and name not in self._cloud.known_templates:
            raise Refused(404, f"template '{name}' not found")
        return Reply(200, {"templateID": found[-1].template if found else name, "public": not found})

    def detail(self, name: str) -> Reply:
        if not (found := self._by_template(name)):
            raise Refused(404, f"template '{name}' not found")
        size = {"cpuCount": found[-1].request.get("cpuCount", 2), "memoryMB": found[-1].request.get("memoryMB", 1024), "diskSizeMB": 512}
        at = {"createdAt": iso(found[-1].created_at), "updatedAt": iso(found[-1].created_at)}
        builds = [
            {"buildID": one.id, "status": one.status, "createdAt": iso(one.created_at), "updatedAt": iso(one.created_at)} | size
            for one in found
        ]
        about = {"templateID": found[-1].template, "buildID": found[-1].id, "public": False, "aliases": [found[-1].name]}
        about |= {"names": [found[-1].name], "createdBy": None, "lastSpawnedAt": None, "spawnCount": 0, "buildCount": len(found)}
        return Reply(200, about | size | at | {"envdVersion": "0.5.0", "buildStatus": found[-1].status, "builds": builds})

    def tag(self, body: dict[str, Any]) -> Reply:
        name, _, tag = body["target"].partition(":")
        found = [build for build in self._by_template(name) if not tag or tag in build.tags]
        if not found:
            raise Refused(404, f"template '{body['target']}' not found")
        found[-1].tags += [one for one in body["tags"] if one not in found[-1].tags]
        return Reply(201, {"tags": body["tags"], "buildID": found[-1].id})

    def untag(self, body: dict[str, Any]) -> Reply:
        for build in self._by_template(body["name"]):
            build.tags = [tag for tag in build.tags if tag not in body["tags"]]
        return Reply(204)

    def tags(self, name: str) -> Reply:
        if not (found := self._by_template(name)):
            raise Refused(404, f"template '{name}' not found")
        made = [{"tag": tag, "buildID": one.id, "createdAt": iso(one.created_at)} for one in found for tag in one.tags]
        return Reply(200, made)

    def delete(self, name: str) -> bool:
        found = self._by_template(name)
        self._cloud.known_templates -= {one for build in found for one in (build.name, build.template)}
        self.builds = [build for build in self.builds if build not in found]
        return bool(found)

    def _by_template(self, name: str) -> list[Build]:
        return [build for build in self.builds if name in (build.template, build.name)]

    def _get(self, template: str, build_id: str) -> Build:
        for build in self._by_template(template):
            if build.id == build_id:
                return build
        raise Refused(404, f"build '{build_id}' not found")
