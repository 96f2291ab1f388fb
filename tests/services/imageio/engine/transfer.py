"""One image transfer: the phases of the engine's TransferDiskImageCommand.

A thread of its own moves a transfer from phase to phase, once per poll, as the engine's scheduler
does; a request only sets the phase that the next poll acts upon. Calls to a daemon are made without
holding the engine's lock, since removing a ticket waits for operations that still run on it.
"""

import os
import threading
import time
import uuid

from .export import Export, virtual_size

FINISHED = ("finished_success", "finished_failure")
TICKET_SECONDS = 300
# The engine asks for a longer life when less than this is left.
RENEW_SECONDS = 240
# Between two looks for an event that a test has scheduled.
EVENT_SECONDS = 0.02


class Transfer:
    def __init__(self, engine, disk_id, user, request):
        self.engine, self.disk_id, self.user = engine, disk_id, user
        self.disk = engine.disks[disk_id]
        self.id, self.ticket_id = str(uuid.uuid4()), str(uuid.uuid4())
        self.direction = request.get("direction", "upload")
        self.format = request.get("format", "raw")
        self.shallow = request.get("shallow", "false")
        self.timeout_policy = request.get("timeout_policy", "legacy")
        self.inactivity_timeout = int(request.get("inactivity_timeout", 60))
        self.phase, self.since = "initializing", time.monotonic()
        self.active, self.transferred = False, 0
        self.export, self.ticketed, self.expires = None, False, 0.0
        self.idle_polls, self.lost_polls = 0, 0
        self.events = [dict(event) for event in self.disk.get("events", [])]

    # -- what requests and tests do ------------------------------------------------------------

    def set(self, phase, expected=None):
        """Moves on, unless the transfer has ended or is not in the expected phase any more."""
        with self.engine.lock:
            if self.phase in FINISHED or (expected and self.phase != expected):
                return
            self.phase, self.since = phase, time.monotonic()
            if phase in FINISHED and self.disk.get("status") == "locked":
                self.disk["status"] = "ok"

    def lose_ticket(self):
        for daemon in self._daemons():
            daemon.delete(self.ticket_id)

    def age(self):
        """Seconds in the current phase."""
        return time.monotonic() - self.since

    def finishes_within(self, seconds):
        """Waits for the end; False when it does not come in time."""
        end = time.monotonic() + seconds
        while self.phase not in FINISHED and time.monotonic() < end:
            time.sleep(EVENT_SECONDS)
        return self.phase in FINISHED

    def vanished(self):
        """Whether the engine has forgotten this transfer: at once before 4.4.7, later since."""
        kept = self.disk.get("keep_finished_seconds", 900 if self.phase == "finished_success" else 1800)
        return self.phase in FINISHED and self.age() >= kept

    def inside_post(self):
        """What the engine does before it answers the POST of a download; False when it fails."""
        time.sleep(self.disk.get("post_seconds", 0))
        started = True
        if self.disk.get("initializing_seconds", 0) == 0:
            started = self._start()
            self.set("transferring" if started else "cancelled_system", "initializing")
        threading.Thread(target=self._run, daemon=True).start()
        return started

    def close(self):
        """Frees what the transfer holds, whatever its phase."""
        if self.export:
            self.export.stop()

    # -- the thread ---------------------------------------------------------------------------

    def _run(self):
        next_poll = 0.0
        while self.phase not in FINISHED:
            try:
                self._fire_events()
                if time.monotonic() >= next_poll:
                    self._poll()
                    next_poll = time.monotonic() + self.disk.get("poll_seconds", 0.2)
            except OSError as error:
                print("daemon:", error, flush=True)  # it is down: try again
            left = max(0.0, next_poll - time.monotonic())
            time.sleep(min(left, EVENT_SECONDS) if self.events else left)

    def _poll(self):
        match self.phase:
            case "initializing" if self.age() >= self.disk.get("initializing_seconds", 0):
                self.set("transferring" if self._start() else "cancelled_system", "initializing")
            case "resuming":
                self.set("transferring" if self._start() else "cancelled_system", "resuming")
            case "transferring":
                self._watch_ticket()
            case "paused_system" | "paused_user":
                self._stop()
            case "cancelled_user":
                self.set("finalizing_cleanup")
            case "cancelled_system":
                self.set("finalizing_failure")
            case "finalizing_success" if self._may_finish() and self._stop():
                self.set("finished_success")
            case "finalizing_failure" if self._may_finish() and self._stop():
                self.set("finished_failure")
            case "finalizing_cleanup" if self._may_finish() and self._stop():
                self.set("finished_cleanup")
            case "finished_cleanup":
                self.set("finished_failure")

    def _may_finish(self):
        return self.age() >= self.disk.get("finalizing_seconds", 0)

    def _watch_ticket(self):
        if time.monotonic() > self.expires - RENEW_SECONDS:
            self.engine.host.extend(self.ticket_id, TICKET_SECONDS)
            self.expires = time.monotonic() + TICKET_SECONDS
        ticket = self.engine.host.get(self.ticket_id)
        if ticket is None:
            self.lost_polls += 1
            if self.lost_polls >= 2:
                self.set("cancelled_system", "transferring")
            return
        self.lost_polls = 0
        self.active, self.transferred = ticket["active"], ticket.get("transferred") or 0
        timeout = self.disk.get("inactivity_timeout", self.inactivity_timeout)
        if 0 < timeout < ticket["idle_time"] and not self.active:
            paused = self.timeout_policy == "pause"
            self.set("paused_system" if paused else "cancelled_system", "transferring")
            return
        done = self.direction == "download" and self.transferred == ticket["size"] and not self.active
        self.idle_polls = self.idle_polls + 1 if done else 0
        if self.idle_polls >= 2 and self.disk.get("auto_finalize", True):
            self.set("finalizing_success", "transferring")

    def _start(self):
        """Exports the disk and installs the ticket; False when that fails."""
        if self.disk.get("fail_start"):
            return False
        if self.format == "raw":
            self.export = Export(os.path.join(self.engine.nbd, self.id[:8]), self.disk)
            if not self.export.start():
                return False
            url, size = self.export.url, virtual_size(self.disk)
        else:
            url, size = "file://" + self.disk["path"], os.path.getsize(self.disk["path"])
        ticket = {
            "uuid": self.ticket_id, "transfer_id": self.id, "url": url, "size": size,
            "timeout": TICKET_SECONDS, "inactivity_timeout": self.inactivity_timeout,
            "sparse": False, "dirty": False,
            "ops": ["read" if self.direction == "download" else "write"],
        }
        self.expires = time.monotonic() + TICKET_SECONDS
        proxied = {**ticket, "url": f"{self.engine.host.url}/{self.ticket_id}"}
        self.ticketed = self.engine.host.put(ticket) and self.engine.proxy.put(proxied)
        return self.ticketed

    def _stop(self):
        """Removes the ticket and ends the export; False while it is in use."""
        if not all(daemon.delete(self.ticket_id) for daemon in self._daemons()):
            return False
        self.close()
        self.export, self.ticketed = None, False
        return True

    def _daemons(self):
        return (self.engine.proxy, self.engine.host)

    def _fire_events(self):
        """Events of a test: {"at_bytes": N, "do": "pause" | "cancel" | "lose-ticket" | "expire-tokens"}."""
        if not self.events or self.phase != "transferring":
            return
        ticket = self.engine.host.get(self.ticket_id)
        if ticket is None or (ticket.get("transferred") or 0) < self.events[0]["at_bytes"]:
            return
        match self.events.pop(0)["do"]:
            case "pause":
                self.set("paused_system", "transferring")
            case "cancel":
                self.set("cancelled_system", "transferring")
            case "lose-ticket":
                self.lose_ticket()
            case "expire-tokens":
                self.engine.expire_tokens(self.user)
        # An event happens once per disk, not again in the next transfer.
        self.disk["events"] = self.events
