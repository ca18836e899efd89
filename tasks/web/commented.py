"""The comments on a run's changes as a page shows them: each with its place, how it stands, and its text as HTML."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from django.core.signing import BadSignature, Signer
from django.db.models.functions import Coalesce
from django.utils.safestring import SafeString

from tasks.comments import Sides
from tasks.errors import Conflict
from tasks.models import ACTIVE, Comment, CommentSide, Run, RunStatus, Turn, User
from tasks.review.diffs import File, anchor
from tasks.review.placing import Place, places
from tasks.review.trees import Change
from tasks.web import shown
from tasks.web.shown.markdown import gist

MOST_SENT = 300  # of those that were sent, the newest
_SIGNER = Signer(salt="sides of a changed file")


@dataclass(frozen=True)
class Commented:
    """A comment on a page; `is_whole` says that the page shows the whole change of its run."""

    comment: Comment
    place: Place
    is_whole: bool

    @property
    def at(self) -> str:
        """The id of its last line's number, where that is shown; "" where it has none."""
        if self.place.file is None or self.place.lines is None:
            return ""
        return f"{self.place.file.anchor}-{'L' if self.comment.side == CommentSide.OLD else 'R'}{self.place.lines.end}"

    @property
    def lines(self) -> str:
        """In words, as they are numbered by now."""
        said = str(self.place.lines) if self.place.lines else self.comment.lines
        return f"{said} before the change" if self.comment.side == CommentSide.OLD else said

    @property
    def is_outdated(self) -> bool:
        """Its lines have changed since, or are gone. Of what was before, other lines are shown when it is compared otherwise."""
        is_new = self.comment.side == CommentSide.NEW
        return self.place.lines is None and (self.is_whole or (is_new and self.place.file is not None))

    @property
    def html(self) -> SafeString:
        return shown.markdown_html(self.comment.body)

    @property
    def gist(self) -> str:
        return gist(self.comment.body)

    @property
    def turn(self) -> Turn | None:
        """The turn that has it, or had it: for a message to an agent at work, that one."""
        turn = self.comment.turn
        return turn and (turn.joined or turn)

    @property
    def state(self) -> str:
        """How it stands: draft, posted, waits, at work, answered, or unanswered (the turn that had it failed)."""
        if self.comment.is_draft:
            return "draft"
        return _state(self.turn.status if self.turn else None)


def _state(status: str | None) -> str:
    """That of a comment that was sent, by the status of the turn that has it."""
    if status is None:
        return "posted"
    if status == RunStatus.QUEUED:
        return "waits"
    if status in ACTIVE:
        return "at work"
    return "answered" if status in (RunStatus.SUCCEEDED, RunStatus.WAITING) else "unanswered"


@dataclass(frozen=True)
class Comments:
    """All that a user sees of a run: by the anchor of the file, `others` on files that the page's change does not have, and the
    user's own drafts among them."""

    by_file: dict[str, list[Commented]] = field(default_factory=dict)
    others: Sequence[Commented] = ()
    drafts: Sequence[Commented] = ()

    @classmethod
    def of(cls, run: Run, user: User, change: Change, files: Sequence[File], *, is_whole: bool) -> Comments:
        rows = Comment.objects.visible_to(user).filter(run=run).select_related("author", "turn__joined")
        drafts = list(rows.unsent_by(user))
        found = drafts + sorted(rows.sent().order_by("-pk")[:MOST_SENT], key=lambda each: (each.start_line, each.end_line, each.pk))
        if not found:
            return cls()
        placed = change.ask(lambda mirror, *_: places(mirror, files, found))
        all_of_them = [Commented(comment, place, is_whole) for comment, place in zip(found, placed, strict=True)]
        by_file: dict[str, list[Commented]] = {}
        for each in all_of_them:
            if each.place.file is not None:
                by_file.setdefault(each.place.file.anchor, []).append(each)
        others = [each for each in all_of_them if each.place.file is None]
        return cls(by_file, others, all_of_them[: len(drafts)])

    @property
    def standing(self) -> str:
        """As `standing` has it, of what is shown."""
        shown = {each.comment.pk: each.state for each in chain(self.others, *self.by_file.values()) if not each.comment.is_draft}
        return _standing(shown)


def standing(run: Run, user: User) -> str:
    """How all stands that was sent, in short: another text when a comment came, or its turn has moved on; "" when nothing was."""
    sent = Comment.objects.visible_to(user).filter(run=run).sent().order_by("-pk")
    status = Coalesce("turn__joined__status", "turn__status")
    return _standing({pk: _state(its) for pk, its in sent.values_list("pk", status)[:MOST_SENT]})


def _standing(states: Mapping[int, str]) -> str:
    return hashlib.sha256(repr(sorted(states.items())).encode()).hexdigest()[:16] if states else ""


def signed(file: File) -> str:
    """A file's two sides as they are shown to somebody, to be sent along with what is said of them: only who saw them has it."""
    change = file.change
    return _SIGNER.sign_object([change.path, change.old_path, change.old_blob, change.new_blob])


def sides_of(text: str) -> Sides:
    """What `signed` gave. Conflict for anything else."""
    try:
        path, old_path, old_blob, new_blob = _SIGNER.unsign_object(text)
    except BadSignature as error:
        raise Conflict("This page is out of date. Reload it and look at the lines again.") from error
    return Sides(anchor(path), path, old_path, old_blob, new_blob)
