"""Who does the work on sections: this process one after the other, or Dask workers, here or on a cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from stainglass.errors import StainglassError

T = TypeVar("T")
CONNECT_SECONDS = 30


@dataclass(frozen=True)
class Done(Generic[T]):
    """What became of one piece of work: its value, or the error's three parts (plain text travels between machines).

    Attributes
    ----------
    at
        Its place in the list of work.
    attempts, seconds
        How often it was tried, and how long all that took.
    """

    at: int
    value: T | None
    error: tuple[str, str, str] | None
    attempts: int
    seconds: float


class Crew:
    """The plain way: this process, one after the other."""

    here = True
    """Whether work is done in this process, so that what one piece left in memory can be used by the next."""

    def each(
        self, work: Callable[[Any], T], items: Sequence[Any], where: Sequence[str], retries: int
    ) -> Iterator[Done[T]]:
        """Do ``work`` on every item, as they finish; a failure is told and stops none of the others.

        Parameters
        ----------
        where
            What each item is called.
        retries
            Further attempts at one that failed.
        """
        for at, item in enumerate(items):
            yield attempt(work, item, where[at], retries, at)


class DaskCrew(Crew):
    """Workers of a Dask scheduler; one section a worker's thread at a time."""

    here = False

    def __init__(self, client: Any) -> None:
        self.client = client

    def each(
        self, work: Callable[[Any], T], items: Sequence[Any], where: Sequence[str], retries: int
    ) -> Iterator[Done[T]]:
        """As `Crew.each`; a section whose worker dies again and again is given up, the others go on."""
        from distributed import as_completed

        futures = {
            self.client.submit(attempt, work, item, where[at], retries, at, pure=False): at
            for at, item in enumerate(items)
        }
        try:
            for future in as_completed(list(futures)):
                if future.status == "finished":
                    yield future.result()
                else:
                    yield Done(futures[future], None, _lost(where[futures[future]], future), 0, 0.0)
                future.release()
        finally:
            self.client.cancel(list(futures))


def attempt(work: Callable[[Any], T], item: Any, where: str, retries: int, at: int) -> Done[T]:
    """Do it, up to ``retries`` times again; what is raised at last is told, not raised."""
    began = time.perf_counter()
    for tried in range(1, retries + 2):
        try:
            return Done(at, work(item), None, tried, time.perf_counter() - began)
        except StainglassError as error:
            told = (error.where, error.finding, error.remedy)
        except Exception as error:  # one section's trouble, whatever it is, must not end the others
            told = (
                where,
                f"{type(error).__name__}: {error}",
                "Look at this section; the others are not touched",
            )
    return Done(at, None, told, retries + 1, time.perf_counter() - began)


@contextlib.contextmanager
def crew_of(workers: int = 1, scheduler: str | None = None, folder: Path | None = None) -> Iterator[Crew]:
    """A crew: this process, ``workers`` processes on this machine, or the cluster at ``scheduler``.

    Parameters
    ----------
    workers
        More than one starts a Dask cluster on this machine, reachable from it alone, for as long as the block lasts.
    scheduler
        Address of a Dask scheduler, e.g. ``tcp://host:8786``; wins over ``workers``.
    folder
        Where results go; every worker of a cluster must see it under this path.

    Raises
    ------
    StainglassError
        When Dask is not installed, nobody answers, there are no workers, or one does not see ``folder``.
    """
    if workers <= 1 and scheduler is None:
        yield Crew()
        return
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(_client(workers, scheduler, stack))
        if not client.nthreads():
            raise StainglassError(
                scheduler or "dask", "this scheduler has no workers", "Start some: dask worker …"
            )
        if folder is not None and scheduler is not None:
            blind = sorted(name for name, sees in client.run(folder.is_dir).items() if not sees)
            if blind:
                raise StainglassError(
                    folder, f"worker {blind[0]} does not see it", "Choose --out on a shared disk"
                )
        yield DaskCrew(client)


def _client(workers: int, scheduler: str | None, stack: contextlib.ExitStack) -> Any:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise StainglassError(
            "--dask" if scheduler else "--workers",
            "needs Dask, which is not installed",
            "pip install 'stainglass[dask]', or leave it out: one process does it as well",
        ) from None
    if scheduler is None:
        scheduler = stack.enter_context(
            LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
            )
        )
    try:
        return Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise StainglassError(
            str(scheduler),
            f"no Dask scheduler answers ({error})",
            "Check --dask, for instance tcp://host:8786",
        ) from None


def _lost(where: str, future: Any) -> tuple[str, str, str]:
    error = future.exception() if future.status == "error" else None
    return (
        where,
        f"its worker was lost ({type(error).__name__ if error else future.status})",
        "Give workers more memory, or use fewer of them",
    )
