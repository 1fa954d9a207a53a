"""What commands show a person: tables and a progress bar, by rich on a terminal, plain text elsewhere."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

LAST_COLUMN = 30
"""Characters that the last column's words need at least, to be wrapped and still be read."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    right: bool = False


def say(text: str = "") -> None:
    """One line or more on standard output."""
    sys.stdout.write(text + "\n")


def show_table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
    """A table on standard output; on a narrow terminal plain too, where rich would cut columns to shreds."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = _widths(columns, cells)
    fits = sum(widths[:-1]) + 3 * len(widths) + LAST_COLUMN < shutil.get_terminal_size().columns
    if sys.stdout.isatty() and fits:
        _show_rich(title, columns, cells)
    else:
        say(plain_table(title, columns, cells))


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(line[index]) for line in ([c.name for c in columns], *rows)) for index in range(len(columns))]


def plain_table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """The title, and below it the columns, two spaces apart."""
    lines = [[column.name for column in columns], *rows]
    widths = _widths(columns, rows)
    padded = [
        "  ".join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([title, *("  " + line for line in padded)])


def _show_rich(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich import box  # noqa: PLC0415 (a fifth of a second, and only on a terminal)
    from rich.console import Console  # noqa: PLC0415 (as above)
    from rich.markup import escape  # noqa: PLC0415 (as above)
    from rich.table import Table  # noqa: PLC0415 (as above)

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in columns:
        side: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.name, justify=side, no_wrap=column is not columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


@contextmanager
def progress_bar(what: str, at_end: str = "") -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error for `advance(done, total)`; nothing where that is no terminal.

    at_end: what goes on when all are done.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console  # noqa: PLC0415 (as above)
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn  # noqa: PLC0415 (as above)

    console = Console(stderr=True)
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, total: int) -> None:
            finishing = 0 < total == done
            bar.update(task, completed=done, total=total, description=(at_end or what) if finishing else what)

        yield advance


def counted(number: int, thing: str) -> str:
    """`1 well`, `2 wells`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def printable(text: str) -> str:
    """Text with escapes for what does not print, so that it cannot steer a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
