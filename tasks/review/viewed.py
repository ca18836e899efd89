"""Which files of a run's change somebody has marked as viewed. A file that changes is no longer one of them."""

from __future__ import annotations

from tasks.models import Run, User, Viewed
from tasks.review.diffs import File


def viewed(*, user: User, run: Run) -> set[str]:
    """The digests of the files that are marked."""
    return set(Viewed.objects.filter(user=user, run=run).values_list("digest", flat=True))


def mark(*, user: User, run: Run, file: File, is_viewed: bool) -> None:
    """Mark a file as it is now, or take the mark away. Doing so twice is the same as once."""
    if is_viewed:
        Viewed.objects.get_or_create(user=user, run=run, digest=file.digest)
    else:
        Viewed.objects.filter(user=user, run=run, digest=file.digest).delete()
