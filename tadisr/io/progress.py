"""Progress bars, on stderr where that is a terminal."""

from tadisr.io.messages import visible


class Bars:
    """A context manager: bars by name, made when they are first set, and gone at the end."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=3600,  # rich forgets what is older, and one step may take minutes
        )
        self._tasks = {}

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._progress.stop()

    def set(self, name: str, done: float, total: int | None) -> None:
        """Show that `done` of `total` are done; None: nobody knows yet of how many."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[name], completed=done, total=total)

    def remove(self, name: str) -> None:
        """Take the bar away."""
        self._progress.remove_task(self._tasks.pop(name))

    def say(self, message: str) -> None:
        """One line for the user, above the bars."""
        self._progress.console.print(f"tadisr: {visible(message)}", soft_wrap=True, markup=False, highlight=False)
