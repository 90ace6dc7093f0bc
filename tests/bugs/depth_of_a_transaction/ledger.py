import threading


class State(threading.local):
    depth = 0


STATE = State()


class atomic:
    """Transactions that nest: only the outermost one commits."""

    def __enter__(self):
        STATE.depth += 1
        self.committed = False
        return self

    def __exit__(self, kind, error, traceback):
        if kind is not None:
            return False  # rolled back
        STATE.depth -= 1
        self.committed = STATE.depth == 0
