"""A small event loop: descriptors, timers, children and coroutines, in one thread.

asyncio would do, but importing it costs more than the whole start of the supervisor. Children are noticed through a
signalfd on the blocked SIGCHLD: there is no handler that anybody could trigger, and a PID 1 gets blocked signals too.
"""

from __future__ import annotations

import heapq
import os
import select
import signal
import sys
import time
from collections import deque

from . import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from typing import Any, Optional

READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class Future:
    """A value that comes once (or an exception). Await it in a task, or let `then` call back."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: list[Callable[[], object]] = []
        self._error: Optional[BaseException] = None
        self._value: Any = None
        self.is_done = False

    def set(self, value: Any = None) -> None:
        """Give the value. A second time is a no-op, so that several causes may race."""
        self._settle(value, None)

    def fail(self, error: BaseException) -> None:
        self._settle(None, error)

    def then(self, callback: Callable[[], object]) -> None:
        if self.is_done:
            self._loop.soon(callback)
        else:
            self._waiting.append(callback)

    def _settle(self, value: Any, error: Optional[BaseException]) -> None:
        if self.is_done:
            return
        self.is_done, self._value, self._error = True, value, error
        for callback in self._waiting:
            self._loop.soon(callback)
        if error is not None and not self._waiting:
            sys.excepthook(type(error), error, error.__traceback__)
        self._waiting = []

    def value(self) -> Any:
        """What came; only when it is done."""
        if self._error is not None:
            raise self._error
        return self._value

    def __await__(self) -> Generator[Future, None, Any]:
        if not self.is_done:
            yield self
        return self.value()


class Timer:
    """A callback due at a time of the monotonic clock; `cancel` may come at any moment."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Optional[Callable[[], object]] = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    def __init__(self) -> None:
        self._poll = select.epoll()
        self._watched: dict[int, dict[int, Callable[[], object]]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_number = 0
        self._ready: deque[Callable[[], object]] = deque()
        self._children: dict[int, Future] = {}
        self._is_stopping = False

    # Tasks

    def future(self) -> Future:
        return Future(self)

    def soon(self, callback: Callable[[], object]) -> None:
        self._ready.append(callback)

    def task(self, coroutine: Coroutine[Future, None, Any]) -> Future:
        """Run a coroutine; the future is its result. An exception nobody awaits is printed, never lost."""
        done = Future(self)

        def advance() -> None:
            try:
                coroutine.send(None).then(advance)
            except StopIteration as stop:
                done.set(stop.value)
            except Exception as error:
                done.fail(error)

        self.soon(advance)
        return done

    # Time

    def later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        timer = Timer(callback)
        self._timer_number += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._timer_number, timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        woken = Future(self)
        self.later(seconds, woken.set)
        await woken

    async def within(self, future: Future, seconds: float) -> bool:
        """Wait for a future at most so long; whether it came. Its value or exception stays with it."""
        first = Future(self)
        future.then(first.set)
        timer = self.later(seconds, first.set)
        await first
        timer.cancel()
        return future.is_done

    # Descriptors

    def watch(self, fd: int, event: int, callback: Callable[[], object]) -> None:
        """Call back while `fd` is ready for `event` (READ or WRITE); a hangup counts as ready for both."""
        if fd in self._watched:
            self._watched[fd][event] = callback
            self._poll.modify(fd, sum(self._watched[fd]))
        else:
            self._watched[fd] = {event: callback}
            self._poll.register(fd, event)

    def unwatch(self, fd: int, event: int) -> None:
        callbacks = self._watched.get(fd, {})
        if callbacks.pop(event, None) is None:
            return
        if callbacks:
            self._poll.modify(fd, sum(callbacks))
        else:
            del self._watched[fd]
            self._poll.unregister(fd)

    async def until(self, fd: int, event: int) -> None:
        """Wait once until `fd` is ready for `event`."""
        ready = Future(self)
        self.watch(fd, event, ready.set)
        try:
            await ready
        finally:
            self.unwatch(fd, event)

    # Children

    def take_children(self) -> None:
        """From now on this loop reaps every child of this process, known or adopted."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        fd = kernel.signal_fd([signal.SIGCHLD])

        def woken() -> None:
            os.read(fd, 4096)
            self.reap()

        self.watch(fd, READ, woken)

    def child(self, pid: int) -> Future:
        """The wait status of a child, when it has ended and was reaped."""
        return self._children.setdefault(pid, Future(self))

    def reap(self) -> bool:
        """Reap all that has ended; whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            if pid in self._children:
                self._children.pop(pid).set(status)

    # Running

    def stop(self) -> None:
        self._is_stopping = True

    def run(self) -> None:
        """Until `stop`. An exception in a callback ends it: that is a defect, not an event."""
        while not self._is_stopping:
            self._run_due()
            for fd, events in self._poll.poll(self._patience()):
                if events & ~(READ | WRITE):  # hangup or error: whoever waits finds out by reading or writing
                    events |= READ | WRITE
                for event, callback in list(self._watched.get(fd, {}).items()):
                    if event & events:
                        callback()

    def _run_due(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                timer.callback()
        for _ in range(len(self._ready)):
            self._ready.popleft()()

    def _patience(self) -> float:
        """Seconds until there is something to do without any descriptor; -1: none."""
        if self._ready or self._is_stopping:
            return 0.0
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1.0
