"""Counts the requests that a client makes, from what the servers log."""

import os
import re
import time
import urllib.request
from dataclasses import dataclass

SETTLE_SECONDS = 10


@dataclass
class Counts:
    """`requests` at the front end, `data` of them for bytes of the disk, `validations` of a token at Keystone
    (None where no token is)."""

    requests: int
    data: int
    validations: int | None


class Failed(Exception):
    pass


class Glance:
    """The access log of the server in front of Glance, and Keystone's log."""

    def __init__(self, status_url, access_log):
        self.status_url = status_url
        self.access, self.keystone = Tail(access_log), Tail(os.environ["KEYSTONE_REQUESTS"])

    def begin(self):
        self.access.skip()
        self.keystone.skip()

    def end(self):
        settle(self.idle)
        requests = self.access.lines()
        return Counts(
            len(requests), sum(line.split()[1].endswith("/file") for line in requests),
            sum(line.startswith("GET /v3/auth/tokens") for line in self.keystone.lines()))

    def idle(self):
        """A request is in the log when its connection has ended; the one that asks is left."""
        with urllib.request.urlopen(self.status_url, timeout=SETTLE_SECONDS) as answer:
            return answer.read().startswith(b"Active connections: 1 ")


class Imageio:
    """The daemon's log, which has a summary of each connection that has ended."""

    def __init__(self):
        self.log = Tail(os.environ["IMAGEIO_LOG"])

    def begin(self):
        self.log.skip()

    def end(self):
        seen = []

        def idle():
            seen.extend(line for line in self.log.lines() if "client=local" not in line)
            return count(seen, "OPEN connection") == count(seen, "CLOSE connection")

        settle(idle)
        return Counts(operations(seen, "dispatch"), operations(seen, "read"), None)


class Tail:
    """The lines that are added to a log."""

    def __init__(self, path):
        self.path, self.at = path, 0

    def skip(self):
        self.at = os.path.getsize(self.path)

    def lines(self):
        with open(self.path) as file:
            file.seek(self.at)
            lines = file.readlines()
        if lines and not lines[-1].endswith("\n"):
            lines.pop()
        self.at += sum(len(line.encode()) for line in lines)
        return lines


def settle(idle):
    """Returns once the servers have ended the connections of clients that are gone."""
    end = time.monotonic() + SETTLE_SECONDS
    while not idle():
        if time.monotonic() > end:
            raise Failed(f"a connection is open {SETTLE_SECONDS} s after its client ended")
        time.sleep(0.01)


def count(lines, text):
    return sum(text in line for line in lines)


def operations(lines, name):
    pattern = re.compile(rf"\[{name} (\d+) ops")
    return sum(int(found.group(1)) for line in lines if (found := pattern.search(line)))
