"""What a test may see and set. No real engine has these paths, and they need no credentials.

    PUT    /_fake/disks/ID         a new disk: {"name", "path", "format": "raw"|"cow", ...knobs}
    PATCH  /_fake/disks/ID         merges knobs into a disk
    GET    /_fake/disks/ID         the disk, its number of POSTs, its transfers
    PUT    /_fake/users/NAME       a new user: {"password", "may_transfer": true}
    PATCH  /_fake/users/NAME       merges; "fail_next": [503, ...] answers the next API requests so
    GET    /_fake/users/NAME       the user, the number of logins and of tokens that are still good
    DELETE /_fake/users/NAME/tokens     every token of the user expires
    PATCH  /_fake/transfers/ID     {"phase": ...}: the system pauses or cancels
    DELETE /_fake/transfers/ID/ticket   the host loses the ticket
    GET    /_fake/log              requests so far

Knobs of a disk:
    status                  "ok", "locked", "illegal"
    plugged_to, domain_status, host_up, storage_type, engine_lock    reasons to refuse a transfer
    fail_start              the host cannot start the transfer
    lose_post_answers       so many POSTs succeed, but the connection ends without an answer
    post_seconds            time that the POST itself takes
    initializing_seconds, finalizing_seconds    time spent in these phases
    poll_seconds            pace of the engine's scheduler, 0.2 unless set (1 to 10 in life)
    auto_finalize           false: a transfer that was read completely stays open
    late_finalize           a client's finalize waits until the engine has finalized by itself; a fault after 20 s
    inactivity_timeout      overrides what the transfer asked for, in the engine (not in the daemon)
    keep_finished_seconds   how long a finished transfer can be asked for; 0 as before 4.4.7
    transfer_url, proxy_url base of the URL to hand out
    bytes_per_second        speed of the disk
    events                  what happens when so many bytes were read (see Transfer._fire_events)
"""

import json


def handle(engine, method, path, data):
    """(status, object)."""
    message = json.loads(data) if data else {}
    with engine.lock:
        match (method, *path.split("/")[2:]):
            case ("GET", "log"):
                return 200, list(engine.log)
            case ("PUT", "disks", disk_id):
                engine.disks[disk_id] = message
            case ("PATCH", "disks", disk_id):
                engine.disks[disk_id].update(message)
            case ("GET", "disks", disk_id) if disk_id in engine.disks:
                disk = engine.disks[disk_id]
                return 200, {"status": "ok", "posts": 0} | disk | {"transfers": [
                    {"id": transfer.id, "phase": transfer.phase, "transferred": transfer.transferred,
                     "inactivity_timeout": transfer.inactivity_timeout,
                     "timeout_policy": transfer.timeout_policy, "user": transfer.user,
                     "ticket": transfer.ticket_id}
                    for transfer in engine.transfers.values() if transfer.disk_id == disk_id]}
            case ("PUT", "users", name):
                engine.users[name] = message
            case ("PATCH", "users", name):
                engine.users[name].update(message)
            case ("GET", "users", name) if name in engine.users:
                tokens = sum(owner == name for owner in engine.tokens.values())
                return 200, {"logins": 0} | engine.users[name] | {"tokens": tokens}
            case ("DELETE", "users", name, "tokens"):
                engine.expire_tokens(name)
            case ("PATCH", "transfers", transfer_id) if transfer_id in engine.transfers:
                engine.transfers[transfer_id].set(message["phase"])
            case ("DELETE", "transfers", transfer_id, "ticket") if transfer_id in engine.transfers:
                engine.transfers[transfer_id].lose_ticket()
            case _:
                return 404, {}
    return 200, {}
