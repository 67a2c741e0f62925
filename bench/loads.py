"""What else the machine does while a call is timed."""

from __future__ import annotations

import contextlib
import contextvars
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

#: spins on the CPUs that it is given; ends with its parent, however that ends
SPIN = """
import os, sys
parent = int(sys.argv[1])
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {int(sys.argv[2])})
while os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


@contextlib.contextmanager
def busy_cpus() -> Iterator[None]:
    """A spinning process on every CPU but the first."""
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = sorted(affinity(0)) if affinity else range(os.cpu_count() or 1)
    spinning = [
        subprocess.Popen([sys.executable, "-c", SPIN, str(os.getpid()), str(cpu)])
        for cpu in cpus[1:]
    ]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


class SecondCaller:
    """A thread that makes a call again and again, while it is let."""

    def __init__(self, run: Callable[[], Any], context: AbstractContextManager[Any]) -> None:
        self._run, self._context = run, context
        self._go, self._stop, self._idle = False, False, True
        self._changed = threading.Condition()
        # the backend that is in use belongs to the context of who starts the thread
        here = contextvars.copy_context()
        self._thread = threading.Thread(target=here.run, args=(self._work,), daemon=True)
        self._thread.start()

    def _work(self) -> None:
        with self._context:
            while True:
                with self._changed:
                    self._idle = True
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._go or self._stop)
                    self._idle = False
                    if self._stop:
                        return
                while self._go:
                    self._run()

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        with self._changed:
            self._go = True
            self._changed.notify_all()
        try:
            yield
        finally:
            self._go = False
            with self._changed:
                self._changed.wait_for(lambda: self._idle)

    def end(self) -> None:
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        self._thread.join()


BUSY, CALLER = "busy CPUs", "a second caller"
