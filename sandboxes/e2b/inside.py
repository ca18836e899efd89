"""Where our things lie in a sandbox of E2B, and the commands that put and start them there.

Commands of the SDK go through a login shell of the user they are for: `root` for what lies outside its home, `user` (the account
of E2B's templates that agents work under) for the rest.
"""

from __future__ import annotations

import shlex

from sandboxes.base import HOME, MIRROR, WORKSPACE

USER = "user"
PLACE = "/var/lib/asynccode"
STATE = f"{PLACE}/state"
SUPERVISOR = f"{PLACE}/supervisor.pyz"
ARCHIVE = f"{PLACE}/mirror.tar"
_MIRROR = f"{PLACE}/mirror.git"
RUN = "/run/asynccode"  # what is put there before a turn, such as an earlier patch
_SCRATCH = f"{PLACE}/scratch"
_PYTHON = "python3 -I -S"
_PREPARED = f"{PLACE}/prepared"  # says that the workspace holds what a setup script left
_BOOT_S = 15


def furnish(*, is_prepared: bool) -> str:
    """As root: folders as a new sandbox has them, and the mirror in its place if one was brought. Says what the template lacks.

    A prepared environment still has what an earlier sandbox had there."""
    folders = " ".join((STATE, _SCRATCH, RUN, WORKSPACE, HOME))
    return _script(
        'command -v python3 >/dev/null || { echo "The template has no python3." >&2; exit 3; }',
        'command -v git >/dev/null || { echo "The template has no git." >&2; exit 3; }',
        f'id {USER} >/dev/null 2>&1 || {{ echo "The template has no account named {USER}." >&2; exit 3; }}',
        f"rm -rf {STATE} {_SCRATCH} {RUN} {_MIRROR} {_PREPARED}",
        f"mkdir -p {folders} {_MIRROR}",
        f"chmod 700 {STATE} {_SCRATCH} {RUN}",
        f"touch {_PREPARED}" if is_prepared else "true",
        f"if [ -e {ARCHIVE} ]; then tar -xf {ARCHIVE} -C {_MIRROR}; rm {ARCHIVE}; fi",
        f"ln -sfn {_MIRROR} {MIRROR}",
        f"chown {USER}: {folders}",
        f"chmod -R a+rX {PLACE}/*.pyz",
    )


def start() -> str:
    """As the user: the supervisor, in a session of its own; when it runs already, nothing. Waits until it answers."""
    options = f"--state {STATE} --scratch {_SCRATCH} --workspace {WORKSPACE} --home {HOME} --mirror {MIRROR}"
    log = f"{STATE}/boot.log"
    supervisor = f"{_PYTHON} {SUPERVISOR}"
    return _script(
        f"{supervisor} relay there {STATE} 0 && exit 0",
        f"if [ -e {_PREPARED} ]; then more='--prepared yes'; else more=; fi",
        f"setsid -f {supervisor} {options} $more >>{log} 2>&1 </dev/null",
        f"{supervisor} relay there {STATE} {_BOOT_S} && exit 0",
        f'echo "The supervisor did not start: $(tail -c 1000 {log})" >&2; exit 4',
    )


def relay(*words: str) -> str:
    """As the user: one call of the relay."""
    return shlex.join([*_PYTHON.split(), SUPERVISOR, "relay", *words])


def _script(*lines: str) -> str:
    return "\n".join(["set -e", *lines])
