"""Connections that the children of a prefork pool inherit and must not use together."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pytest_celerypool.agent import family
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.holders import made_at, walk
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

_DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"

#: Methods by which a program reads from a socket, and writes to one.
_READS = ("recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "read")
_WRITES = ("send", "sendall", "sendmsg", "write")

#: Where ``struct tcp_info`` of Linux has the bytes that the peer has acknowledged, and those received.
_BYTES = slice(120, 136)


SHARED = Kind("shared-connection", "fail", "a task uses a connection that was opened before the fork")


class Inherited(NamedTuple):
    """A descriptor that a child has from before the fork.

    :ivar inode: tells the open socket or file from a later one of the same number.
    :ivar text: what it is, for people.
    """

    fd: int
    inode: int
    text: str


def descriptors() -> Iterator[tuple[int, os.stat_result]]:
    """Yield the open descriptors of this process, and what the system says of each."""
    for name in os.listdir(_DESCRIPTORS):
        try:
            yield int(name), os.fstat(int(name))
        except (OSError, ValueError):  # that of the listing itself
            continue


def is_same(inherited: Inherited) -> bool:
    """Whether the number still means what it meant at the fork."""
    try:
        return os.fstat(inherited.fd).st_ino == inherited.inode
    except OSError:
        return False


def holders_of(link: str) -> list[int]:
    """Return the other processes of this worker that have something open: the parent and its children.

    Where the system does not tell, the parent is taken to have it.

    :param link: what the system says of a descriptor of it: ``socket:[INODE]``, ``pipe:[INODE]``, the path of a file.
    """
    try:
        members = family.members()
    except OSError:
        return [family.main_pid()]
    found = []
    for pid in members:
        if pid == os.getpid():
            continue
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
        except OSError:  # it has ended
            continue
        if link in links:
            found.append(pid)
    return found


class Connections(Detector):
    """Sees a task that uses a connection from before the fork.

    A child that only has one is innocent: clients that notice the fork open their own. So the methods of sockets are
    watched, in children that inherited any; and of sockets that no Python object stands for, those of a driver in C,
    the system's counters.
    """

    kinds: ClassVar[Sequence[Kind]] = (SHARED,)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._streams: dict[int, Inherited] = {}
        self._packets: dict[int, Inherited] = {}
        self._drivers: dict[int, Inherited] = {}
        self._added: list[tuple[Any, str]] = []
        self._suspected: set[int] = set()
        self._seen: set[int] = set()
        self._idle: dict[int, bytes] = {}

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether the pool forks."""
        return watch.pool.forks

    def forked(self) -> None:
        """Look what sockets there are in this new child."""
        self._streams, self._packets, self._drivers = {}, {}, {}
        objects = {one.fileno() for one in _socket_objects()}
        for fd, status in descriptors():
            if stat.S_ISSOCK(status.st_mode):
                self._sort(fd, status.st_ino, fd in objects)
        if self._streams or self._packets:
            self._watch_methods()
        if not self._drivers:
            self.rest("started", "ended")

    def _sort(self, fd: int, inode: int, has_object: bool) -> None:
        made = socket.socket(fileno=fd)
        try:
            kind = made.type
            peer, own = made.getpeername(), made.getsockname()
        except OSError:  # it is not connected: a server's, which several may accept from
            return
        finally:
            made.detach()
        if not peer and not own:  # a pair: of an event loop, or between processes on purpose
            return
        inherited = Inherited(fd, inode, f"to {peer or own}")
        if kind == socket.SOCK_DGRAM:
            self._packets[fd] = inherited
        elif has_object:
            self._streams[fd] = inherited
        elif hasattr(socket, "TCP_INFO") and made.family != socket.AF_UNIX:
            self._drivers[fd] = inherited

    # -- sockets of Python

    def _watch_methods(self) -> None:
        classes: list[Any] = [socket.socket]
        if "ssl" in sys.modules:
            classes.append(sys.modules["ssl"].SSLSocket)
        for cls in classes:
            for name in (*_READS, *_WRITES):
                if hasattr(cls, name):
                    self._watch_method(cls, name, secure=cls is not socket.socket)

    def _watch_method(self, cls: Any, name: str, *, secure: bool) -> None:
        original = getattr(cls, name)
        told = self.watch.guarded(self, self._used)
        streams, packets, reads = self._streams, self._packets, name in _READS

        def method(made: Any, *args: Any, **kwargs: Any) -> Any:
            fd = made.fileno()
            if fd in streams or (reads and fd in packets):
                told(fd, reads or secure)
            return original(made, *args, **kwargs)

        method.__name__ = name
        if name not in vars(cls):
            self._added.append((cls, name))
            setattr(cls, name, method)
        else:
            self.patch(cls, name, method)

    def remove(self) -> None:
        """End."""
        for cls, name in self._added:
            delattr(cls, name)
        self._added.clear()
        super().remove()

    def _used(self, fd: int, sure: bool) -> None:
        """A socket is read from (or, encrypted, used at all): whoever only writes lines to a log harms nobody."""
        run = self.watch.current()
        inherited = self._streams.get(fd) or self._packets[fd]
        if run is None or fd in self._seen:
            return
        if not is_same(inherited):  # closed and opened anew
            self._streams.pop(fd, None)
            self._packets.pop(fd, None)
            return
        frames = self.watch.frames
        frame = frames.user_frame(sys._getframe())
        places: list[str] = run.marks.setdefault("shared-connection", [])
        if frames.place(frame) not in places:
            places += [frames.place(frame), *(f"  called from {line}" for line in frames.stack(frame)[1:])]
        if sure and frame is not None:
            self._report(run, inherited, places, "")

    def _report(self, run: Run, inherited: Inherited, places: list[str], counted: str) -> None:
        self._seen.add(inherited.fd)
        others = holders_of(f"socket:[{inherited.inode}]")
        if not others:  # the parent has closed it: it is this child's alone
            return
        parent = family.main_pid()
        names = [f"{pid} (the parent)" if pid == parent else str(pid) for pid in others]
        self.watch.report(
            "shared-connection",
            run,
            f"child {os.getpid()} uses a connection {inherited.text} that was opened before the fork, and so have "
            f"{len(others)} other {'process' if len(others) == 1 else 'processes'}: under prefork each may get the "
            "answer to what another asked, or half of it",
            [
                *places,
                f"socket inode {inherited.inode}, descriptor {inherited.fd}, open in the processes {os.getpid()} "
                f"(this child), {', '.join(names)}",
                *filter(None, [counted]),
                *_held(self.watch, inherited.fd),
            ],
            "open the connection in each child: on first use, or in a receiver of worker_process_init",
            key=f"{places[0] if places else ''} {inherited.text}",
        )

    # -- drivers in C

    def started(self, run: Run) -> None:
        """Note the counters."""
        run.marks["shared-connection-bytes"] = self._counters()

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Compare them."""
        before = run.marks.get("shared-connection-bytes", {})
        after = self._counters()
        for fd, value in after.items():
            # Others have it too, so it is this child only if nothing moves while it has no task.
            quiet = self._idle.get(fd, before.get(fd)) == before.get(fd)
            if value != before.get(fd) and quiet and fd not in self._seen:
                if fd in self._suspected:
                    sent = int.from_bytes(value[:8], sys.byteorder) - int.from_bytes(before[fd][:8], sys.byteorder)
                    got = int.from_bytes(value[8:], sys.byteorder) - int.from_bytes(before[fd][8:], sys.byteorder)
                    counted = f"{sent} bytes were sent and {got} received on it during the task, and during one before"
                    self._report(run, self._drivers[fd], [], counted)
                self._suspected.add(fd)
        self._idle = after
        if not self._drivers:
            self.rest("started", "ended")

    def _counters(self) -> dict[int, bytes]:
        values = {}
        for fd, inherited in list(self._drivers.items()):
            if not is_same(inherited):
                del self._drivers[fd]
                continue
            made = socket.socket(fileno=fd)
            try:
                values[fd] = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)[_BYTES]
            except OSError:
                continue
            finally:
                made.detach()
        return values


def _socket_objects() -> list[Any]:
    import gc

    return [one for one in gc.get_objects() if issubclass(type(one), socket.socket)]


def _held(watch: Watch, fd: int) -> list[str]:
    """Return the line that opened a connection, if a global of the user's holds it."""
    for reached in walk(watch.frames, lambda value: issubclass(type(value), socket.socket), depth=5):
        if reached.value.fileno() == fd:
            return [f"held by {reached.path}", *made_at(watch.frames, reached)]
    return []
