"""How far the work is, on stderr: bars where that is a terminal, and else a line now and then."""

import time

from tadisr.io.messages import say, visible


class Bars:
    """A context manager: bars by name, made when they are first set, and gone at the end.

    Where stderr is no terminal (a pipe, a file, a scheduler's log), lines say the same: one for each tenth of the work,
    but none before `pause` seconds have passed since the last. `quiet`: neither bars nor lines.
    """

    def __init__(self, pause: float = 0, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._lines, self._pause = not console.is_terminal and not quiet, pause
        self._said: dict[str, int] = {}  # tenths of the work
        self._when = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal or quiet,
            speed_estimate_period=3600,  # rich forgets what is older, and one step may take minutes
        )
        self._tasks = {}

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._progress.stop()

    def set(self, name: str, done: float, total: int | None, line: bool = True) -> None:
        """Show that `done` of `total` are done; None: nobody knows yet of how many. `line`: in lines, too."""
        if self._lines:
            if line:
                self._say_tenths(name, done, total)
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[name], completed=done, total=total)

    def _say_tenths(self, name: str, done: float, total: int | None) -> None:
        tenths = int(10 * done / total) if total else 0
        if tenths > self._said.get(name, 0) and time.monotonic() - self._when >= self._pause:
            self._said[name] = tenths
            self.line(f"{name}: {int(done)} of {total}")

    def remove(self, name: str) -> None:
        """Take the bar away."""
        self._said.pop(name, None)
        if name in self._tasks:
            self._progress.remove_task(self._tasks.pop(name))

    def line(self, message: str) -> None:
        """One line for the user where there are no bars."""
        if self._lines:
            self._when = time.monotonic()
            say(message)

    def say(self, message: str) -> None:
        """One line for the user, above the bars."""
        self._progress.console.print(f"tadisr: {visible(message)}", soft_wrap=True, markup=False, highlight=False)
