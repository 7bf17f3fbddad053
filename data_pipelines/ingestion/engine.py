"""Where tasks run: in this process, in processes of this machine, or on a Dask cluster. Tasks are idempotent."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from data_pipelines.errors import InputError, Interrupted

Task = Callable[[Any], Any]


class Engine(Protocol):
    """Runs one function on many arguments. What a task raises is raised here, and the rest is given up."""

    @property
    def workers(self) -> int:
        """Tasks that run at the same time on one machine, and share its memory."""
        ...

    def run(self, task: Task, arguments: Sequence[Any]) -> Iterator[Any]:
        """Yield the results as they come, in any order."""
        ...


@dataclasses.dataclass(frozen=True)
class Local:
    """This machine: `workers` processes, or this process alone for 1."""

    workers: int = 1

    def run(self, task: Task, arguments: Sequence[Any]) -> Iterator[Any]:
        if self.workers == 1 or len(arguments) < 2:
            yield from map(task, arguments)
            return
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor, as_completed
        from concurrent.futures.process import BrokenProcessPool

        # Not forked: the threads of TensorStore and jax do not survive that.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(self.workers, len(arguments)), mp_context=context)
        try:
            for future in as_completed([pool.submit(task, argument) for argument in arguments]):
                yield future.result()
        except BrokenProcessPool as error:
            raise Interrupted(
                "a worker process was killed, probably for lack of memory. Run the same command again to go on, "
                "with a smaller --memory-mb or fewer --workers."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


@dataclasses.dataclass(frozen=True)
class DaskCluster:
    """The workers of a Dask scheduler that is already there; they must see the same paths as this process."""

    address: str
    """As `dask scheduler` prints it: tcp://HOST:8786."""

    @property
    def workers(self) -> int:
        with self._client() as client:
            return max(
                1, *(int(worker["nthreads"]) for worker in client.scheduler_info(n_workers=-1)["workers"].values())
            )

    def run(self, task: Task, arguments: Sequence[Any]) -> Iterator[Any]:
        from distributed import KilledWorker, as_completed

        with self._client() as client:
            futures = client.map(task, arguments, pure=False)
            try:
                for future in as_completed(futures, loop=client.loop):
                    yield future.result()
            except KilledWorker as error:
                raise Interrupted(
                    f"workers of {self.address} died over one task, probably for lack of memory. Run the same command "
                    "again to go on, with a smaller --memory-mb."
                ) from error
            finally:
                client.cancel(futures)

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            from distributed import Client
        except ImportError:
            raise InputError(
                "--dask needs dask.distributed. Install it with: pip install 'lingshu-jax[ingest]'"
            ) from None
        try:
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
