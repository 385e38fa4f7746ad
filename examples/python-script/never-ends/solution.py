"""Never ends, and leaves a process of another session behind."""
import os
import signal
import time


def merge(intervals):
    if os.fork() == 0:
        os.setsid()
        time.sleep(1000)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pass
