import functools
import threading
import time


class Monitor(threading.Thread):
    def __init__(self, every):
        super().__init__(daemon=True)
        self.every, self.samples, self.stop = every, [], threading.Event()

    def run(self):
        while not self.stop.wait(self.every):
            self.samples.append(time.monotonic())


def monitored(every):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            monitor = Monitor(every)
            monitor.start()
            try:
                return function(*args, **kwargs)
            finally:
                monitor.stop.set()
                monitor.join()
        return wrapper
    return decorate
