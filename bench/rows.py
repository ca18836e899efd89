"""Rows by COPY, for benches that need many."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import connection, models
from django.utils import timezone

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Table:
    """A model's table. What a row does not name has the model's default; ids are given."""

    def __init__(self, model: type[models.Model]) -> None:
        fields = [field for field in model._meta.concrete_fields if field.column and not field.generated]
        columns = [field.column for field in fields]
        now = timezone.now()
        self.name = model._meta.db_table
        self._copy = f"COPY {self.name} ({', '.join(map(connection.ops.quote_name, columns))}) FROM STDIN"
        self._places = {column: place for place, column in enumerate(columns)}
        self._usual = [
            _text(now if getattr(field, "auto_now_add", False) or getattr(field, "auto_now", False) else field.get_default())
            for field in fields
        ]
        self._lines: list[str] = []

    def add(self, **values: Any) -> None:
        row = self._usual.copy()
        for column, value in values.items():
            row[self._places[column]] = _text(value)
        self._lines.append("\t".join(row))

    def add_lines(self, lines: Iterable[str]) -> None:
        """Rows in COPY's own text format, with all columns in the model's order."""
        self._lines.extend(lines)

    def flush(self) -> int:
        """Send what was added; gives the number of rows."""
        count = len(self._lines)
        if count:
            with connection.cursor() as cursor, cursor.copy(self._copy) as copy:
                copy.write("\n".join(self._lines) + "\n")
            self._lines.clear()
        return count


def _text(value: Any) -> str:
    match value:
        case None:
            return r"\N"
        case bool():
            return "t" if value else "f"
        case str():
            return value.translate(_ESCAPES)
        case datetime():
            return value.isoformat()
        case bytes():
            return rf"\\x{value.hex()}"
        case dict() | list():
            return json.dumps(value).translate(_ESCAPES)
    return str(value)
