"""What agents there are here, and installing their programs."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any, TextIO

from django.core.management.base import CommandError

from agents import install
from agents.adapters.base import Adapter
from agents.packages import PACKAGES, Package
from agents.registry import ADAPTERS
from tasks.management.base import AppCommand
from tasks.models import Credential
from tasks.running import backends, installs, model_access, offers

_MIB = 2**20


class Command(AppCommand):
    help = "List the agents, or install their programs on this host."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="the agents with version, state, size, key and models")
        installer = actions.add_parser("install", help="install what is not there yet, and remove old versions that nothing needs")
        installer.add_argument("names", nargs="*", metavar="NAME", help="default: all")

    def handle(self, **options: Any) -> None:
        if options["action"] == "list":
            self._list()
        else:
            self._install(options["names"])

    def _list(self) -> None:
        rows, broken = [("AGENT", "VERSION", "STATE", "SIZE", "KEY", "MODELS")], []
        on, models = {adapter.name for adapter in offers.adapters()}, offers.all_models()
        for adapter in ADAPTERS.values():
            package = PACKAGES.get(adapter.package)
            state, problem = _state(package)
            broken += [problem] if problem else []
            state += "" if adapter.name in on else ", off"
            names = ", ".join(model.name for model in models[adapter.name]) or "–"
            rows.append((adapter.name, package.version if package else "–", state, _size(package), _keys(adapter), names))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        for row in rows:
            self.stdout.write("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]))
        for problem in broken:
            self.stdout.write(f"Broken: {problem} `manage.py agents install` makes it anew.")

    def _install(self, names: list[str]) -> None:
        if unknown := [name for name in names if name not in PACKAGES]:
            raise CommandError(f"There is no agent {unknown[0]!r} to install. There are: {', '.join(PACKAGES)}.")
        failed = []
        for name in names or PACKAGES:
            package = PACKAGES[name]
            try:
                what = self._put(package)
            except installs.NotInstalled as error:
                failed.append(str(error))
            else:
                self.stdout.write(f"{name} {package.version} {what}.")
        for folder in installs.remove_old():
            self.stdout.write(f"{folder.parent.name} {folder.name} was removed: no version of asynccode here uses it any more.")
        if failed:
            raise CommandError("\n".join(failed))

    def _put(self, package: Package) -> str:
        """Install it, anew if what is there does not work; what was done."""
        folder, what = backends.agents_folder(), "is installed"
        if install.is_installed(package, folder):
            what = "was installed already"
            try:
                installs.check(package)
            except installs.NotInstalled:
                install.remove(folder / package.name / package.version)
                what = "was broken, and is installed anew"
        line = Line(sys.stderr)
        try:
            installs.put(package, line.show)
        finally:
            line.end()
        installs.release(package)
        return what


def _state(package: Package | None) -> tuple[str, str]:
    """In a word, and what is wrong."""
    if package is None:
        return "built in", ""
    if not install.is_installed(package, backends.agents_folder()):
        return "not installed", ""
    try:
        installs.check(package)
    except installs.NotInstalled as error:
        return "broken", str(error)
    return "installed", ""


def _size(package: Package | None) -> str:
    if package is None:
        return "–"
    size = install.size(backends.agents_folder() / package.name / package.version)
    return f"{size // _MIB} MB" if size else f"({package.mb} MB)"


def _keys(adapter: Adapter) -> str:
    """Where keys for everybody come from; users' own are theirs."""
    found = []
    for provider in adapter.providers:
        if Credential.objects.filter(owner=None, provider=provider).exists():
            found.append(f"{provider} (site)")
        elif model_access.is_in_environment(provider):
            found.append(f"{provider} (environment)")
    return ", ".join(found) or ("none for all" if adapter.providers else "needs none")


class Line:
    """A line of progress, rewritten in place; silent where there is no terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream if stream.isatty() else None

    def show(self, percent: int, text: str) -> None:
        if self._stream is not None:
            self._stream.write(f"\r\x1b[K{percent:3} %  {text}"[:100])
            self._stream.flush()

    def end(self) -> None:
        if self._stream is not None:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
