"""Our template of E2B sandboxes: what it holds, its name, and building it with the official SDK.

The name carries a hash of all that the template is made of, so building what is there already does nothing, and another
version of a program makes another template, while sandboxes of the old one go on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus

from e2b import BuildException, BuildInfo, Template, TemplateBuildStatus, TemplateBuildStatusResponse
from e2b.api import encode_path_param, handle_api_exception
from e2b.api.client.api.templates import get_templates_aliases_alias, get_templates_template_id
from e2b.api.client.models import TemplateAliasResponse, TemplateWithBuilds
from e2b.api.client.models import TemplateBuildStatus as BuildStatus
from e2b.api.client_sync import get_api_client
from e2b.connection_config import ConnectionConfig
from e2b.template.main import TemplateBuilder

from sandboxes.base import HOME, WORKSPACE
from sandboxes.e2b.account import Account, is_passing, understood
from sandboxes.e2b.inside import RUN, USER
from sandboxes.errors import SandboxError

CPU, MEMORY_MB = 2, 2048
SYSTEM = (
    *("build-essential", "ca-certificates", "curl", "file", "git", "jq", "less", "openssh-client", "patch", "procps"),
    *("python3", "python3-pip", "python3-venv", "ripgrep", "unzip", "xz-utils", "zip"),
)
_FOLDERS = (WORKSPACE, HOME, RUN)
_STEP = re.compile(r"\b(\d{1,3})/(\d{1,3})\]")  # as E2B counts them in its log: [builder 3/9] RUN …

LOOK_S = 1.0
_PATIENCE_S = 300.0  # without an answer of E2B, while it builds
_MOST_S = 2 * 3600.0

Say = Callable[[int, str], None]  # percent of the whole, new lines of the log; may raise to give up


@dataclass(frozen=True)
class Program:
    """What is installed: the shell commands that do it, as root, joined by `&&`. `title` names it with its version."""

    title: str
    commands: Sequence[str]


@dataclass(frozen=True)
class Recipe:
    """A Debian image with Node (`node`, a tag of the image's), what a coding sandbox is expected to have, and `programs`."""

    node: str
    programs: Sequence[Program]
    cpu: int = CPU
    memory_mb: int = MEMORY_MB

    @property
    def contents(self) -> str:
        """A hash of what lies in the template, whatever machine it is for."""
        return _hash([self.node, SYSTEM, _FOLDERS, USER, [asdict(program) for program in self.programs]])

    @property
    def name(self) -> str:
        return f"asynccode-{_hash([self.contents, self.cpu, self.memory_mb])}"


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:10]


def describe(recipe: Recipe) -> TemplateBuilder:
    """The recipe in the SDK's words."""
    template = Template(file_context_path="/nonexistent").from_node_image(recipe.node)
    template = template.apt_install(list(SYSTEM), no_install_recommends=True).run_cmd("rm -rf /var/lib/apt/lists/*", user="root")
    for program in recipe.programs:
        template = template.run_cmd(list(program.commands), user="root")
    folders = " ".join(_FOLDERS)
    template = template.run_cmd([f"mkdir -p {folders}", f"chown {USER}: {folders}"], user="root")
    return template.set_user(USER).set_workdir(WORKSPACE)


def build(recipe: Recipe, account: Account, say: Say, *, name: str = "", force: bool = False) -> bool:
    """Build the template under its own name unless E2B has it, or under `name` in any case; False when there was nothing to do.

    A build of that name that is under way is waited for instead, so this may be repeated after being killed. `force` builds
    anew, without what E2B remembers of earlier builds. Raises SandboxError, and what `say` raises.
    """
    called = name or recipe.name
    say(0, f"Asking E2B for the template {called}")
    with understood(f"say whether there is a template {called}"):
        builds = _builds(called, account)
    if not name and not force and any(build.status == BuildStatus.READY for build in builds):
        say(100, f"E2B has the template {called} already")
        return False
    if going := next((build for build in builds if build.status == BuildStatus.BUILDING), None):
        info = BuildInfo(going.template_id, going.build_id, called, called)
        say(0, f"Build {info.build_id} of it is under way already")
    else:
        with understood(f"begin to build the template {called}"), _build_errors(called):
            info = Template.build_in_background(
                describe(recipe),
                called,
                cpu_count=recipe.cpu,
                memory_mb=recipe.memory_mb,
                skip_cache=force,
                on_build_logs=lambda entry: say(0, entry.message),
                **account.options,
            )
    _follow(info, account, say)
    return True


def is_there(name: str, account: Account) -> bool:
    """Whether E2B has a template of this name that is ready. SandboxError."""
    with understood(f"say whether there is a template {name}"):
        return any(build.status == BuildStatus.READY for build in _builds(name, account))


@dataclass(frozen=True)
class _Build:
    template_id: str
    build_id: str
    status: BuildStatus


def _builds(name: str, account: Account) -> list[_Build]:
    """The newest builds of that name, the newest first; none when there is no such template."""
    client = get_api_client(ConnectionConfig(**account.options))
    alias = get_templates_aliases_alias.sync_detailed(encode_path_param(name), client=client)
    if alias.status_code == HTTPStatus.NOT_FOUND:
        return []
    if alias.status_code == HTTPStatus.FORBIDDEN:
        raise SandboxError(f"The template {name} is somebody else's at E2B. Choose another name: --name NAME")
    if not isinstance(alias.parsed, TemplateAliasResponse):
        raise handle_api_exception(alias)
    template = get_templates_template_id.sync_detailed(encode_path_param(alias.parsed.template_id), client=client)
    if not isinstance(template.parsed, TemplateWithBuilds):
        raise handle_api_exception(template)
    newest = sorted(template.parsed.builds, key=lambda build: build.created_at, reverse=True)
    return [_Build(template.parsed.template_id, str(build.build_id), build.status) for build in newest]


@contextlib.contextmanager
def _build_errors(name: str) -> Iterator[None]:
    try:
        yield
    except BuildException as error:
        raise SandboxError(f"The template {name} could not be built: {error}") from error


def _follow(build: BuildInfo, account: Account, say: Say) -> None:
    """Say what a build says until it is over. One look that fails says nothing about the build."""
    seen, percent = 0, 0
    begun_at = heard_at = time.monotonic()
    while True:
        try:
            with understood(f"say how the build of {build.name} is"), _build_errors(build.name):
                now = Template.get_build_status(build, logs_offset=seen, **account.options)
        except SandboxError as error:
            if not _may_pass(error) or time.monotonic() - heard_at > _PATIENCE_S:
                raise
            time.sleep(LOOK_S)
            continue
        heard_at = time.monotonic()
        seen += len(now.log_entries)
        lines = [entry.message.rstrip() for entry in now.log_entries]
        percent = max(percent, *(_percent(line) for line in lines), 0)
        say(percent, "\n".join(lines))
        if lines:  # an answer has the first hundred that are new
            continue
        match now.status:
            case TemplateBuildStatus.READY:
                return
            case TemplateBuildStatus.ERROR:
                raise SandboxError(f"The template {build.name} could not be built{_reason(now)}")
        if time.monotonic() - begun_at > _MOST_S:
            raise SandboxError(f"The template {build.name} was not built within {_MOST_S / 3600:.0f} hours. Look at it at E2B.")
        time.sleep(LOOK_S)


def _may_pass(error: SandboxError) -> bool:
    """Whether a look failed, not the build. The SDK makes every status of the look a BuildException that begins with it."""
    cause = error.__cause__
    return is_passing(error) or (isinstance(cause, BuildException) and not str(cause).startswith("4"))


def _reason(status: TemplateBuildStatusResponse) -> str:
    reason = status.reason
    step = f" (step {reason.step})" if reason and reason.step else ""
    return f"{step}: {reason.message if reason and reason.message else 'E2B did not say why.'}"


def _percent(line: str) -> int:
    found = _STEP.search(line[:200])
    return min(99, 100 * (int(found[1]) - 1) // int(found[2])) if found and int(found[2]) else 0
