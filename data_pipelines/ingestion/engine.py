"""Where tasks run: in this process, in processes of this machine, or on a Dask cluster. Tasks are idempotent."""

import contextlib
import dataclasses
import functools
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from data_pipelines.errors import InputError, Interrupted
from data_pipelines.memory import hand_back_freed_memory

Task = Callable[[Any], Any]


def _tidily(task: Task, argument: Any) -> Any:
    """One task, which leaves no memory behind for allocators to keep."""
    result = task(argument)
    hand_back_freed_memory()
    return result


class Runner(Protocol):
    """Runs one function on many arguments. What a task raises is raised here, and the rest is given up."""

    def run(self, task: Task, arguments: Sequence[Any]) -> Iterator[Any]:
        """Yield the results as they come, in any order."""
        ...


class Engine(Protocol):
    """Where tasks run; opened once per ingest."""

    def open(self) -> contextlib.AbstractContextManager[tuple[Runner, int]]:
        """A runner, and how many tasks run at the same time on one machine and share its memory."""
        ...


@dataclasses.dataclass(frozen=True)
class Local:
    """This machine: `workers` processes, or this process alone for 1."""

    workers: int = 1

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[Runner, int]]:
        runner = _Processes(self.workers)
        try:
            yield runner, self.workers
        finally:
            runner.close()


_WORTH_A_POOL = 24
"""Fewer tasks are done sooner by threads than processes start, which takes seconds."""


class _Processes:
    """A pool that starts when there is enough to do."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool: Any = None

    def run(self, task: Task, arguments: Sequence[Any]) -> Iterator[Any]:
        from concurrent.futures import ThreadPoolExecutor, as_completed, wait
        from concurrent.futures.process import BrokenProcessPool

        task = functools.partial(_tidily, task)
        if self._workers == 1 or len(arguments) == 1:
            yield from map(task, arguments)
            return
        if self._pool is None and len(arguments) < _WORTH_A_POOL:
            with ThreadPoolExecutor(self._workers) as threads:
                futures = [threads.submit(task, argument) for argument in arguments]
                try:
                    for future in as_completed(futures):
                        yield future.result()
                finally:
                    threads.shutdown(cancel_futures=True)
            return

        self._pool = self._pool or _pool(self._workers)
        futures = [self._pool.submit(task, argument) for argument in arguments]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise Interrupted(
                "a worker process was killed, probably for lack of memory. Run the same command again to go on, with a "
                "smaller --memory-mb or fewer --workers. (A script of your own needs an `if __name__ == '__main__':`.)"
            ) from error
        finally:  # whoever hears of a mistake may remove what the other tasks still write to
            wait([future for future in futures if not future.cancel()])

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _pool(workers: int) -> Any:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # Forked from a clean server, not from here: the threads of TensorStore and jax do not survive a fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["data_pipelines.ingestion.runs", "data_pipelines.ingestion.shards"])
    return ProcessPoolExecutor(workers, mp_context=context)


@dataclasses.dataclass(frozen=True)
class DaskCluster:
    """The workers of a Dask scheduler that is already there; they must see the same paths as this process."""

    address: str
    """As `dask scheduler` prints it: tcp://HOST:8786."""

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[Runner, int]]:
        with self._client() as client:
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            yield _Cluster(client, self.address), max(1, *(int(worker["nthreads"]) for worker in workers))

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            from distributed import Client
        except ImportError:
            raise InputError(
                "--dask needs dask.distributed. Install it with: pip install 'lingshu-jax[ingest]'"
            ) from None
        try:
            self._knock()  # a client that finds nobody takes long to go away, and complains
            client = Client(self.address, timeout=10, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(
                f"no Dask scheduler answers at {self.address} ({str(error).splitlines()[0]}). Start one with "
                "`dask scheduler`, and pass the tcp:// address it prints."
            ) from error
        with client:
            if not client.scheduler_info(n_workers=-1)["workers"]:
                raise InputError(f"the scheduler {self.address} has no workers. Start some: dask worker {self.address}")
            yield client

    def _knock(self) -> None:
        from distributed.comm import get_address_host_port

        if self.address.startswith("inproc:"):
            return
        with socket.create_connection(get_address_host_port(self.address), timeout=10):
            pass


@dataclasses.dataclass(frozen=True)
class _Cluster:
    client: Any
    address: str

    def run(self, task: Task, arguments: Sequence[Any]) -> Iterator[Any]:
        from distributed import KilledWorker, as_completed

        futures = self.client.map(functools.partial(_tidily, task), arguments, pure=False)
        try:
            for future in as_completed(futures, loop=self.client.loop):
                yield future.result()
        except KilledWorker as error:
            raise Interrupted(
                f"workers of {self.address} died over one task, probably for lack of memory. Run the same command "
                "again to go on, with a smaller --memory-mb."
            ) from error
        finally:
            self.client.cancel(futures)
