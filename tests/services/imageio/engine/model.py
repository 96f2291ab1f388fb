"""Disks, users and transfers of the stand-in engine, and the reasons to refuse a transfer."""

import os
import secrets
import threading
import uuid

from .control import Daemon
from .export import virtual_size
from .transfer import FINISHED, Transfer

API = "/ovirt-engine/api"
HOST_ID = "5c1a1e2e-0000-4000-8000-000000000001"
DOMAIN_ID = "5c1a1e2e-0000-4000-8000-000000000002"
NO = "[Cannot transfer Virtual Disk"


class Fault(Exception):
    """An engine's <fault>; a 404 without detail has no body at all."""

    def __init__(self, status, detail="", reason="Operation Failed"):
        super().__init__(detail)
        self.status, self.detail, self.reason = status, detail, reason


class Engine:
    def __init__(self, config):
        self.host, self.proxy = Daemon(**config["host"]), Daemon(**config["proxy"])
        self.nbd, self.users = config["nbd"], config["users"]
        self.disks, self.tokens, self.transfers, self.log = {}, {}, {}, []
        self.lock = threading.RLock()

    def login(self, user, password):
        """A token, or None."""
        account = self.users.get(user)
        if account is None or account["password"] != password:
            return None
        token = secrets.token_urlsafe(64)
        self.tokens[token] = user
        account["logins"] = account.get("logins", 0) + 1
        return token

    def expire_tokens(self, user):
        with self.lock:
            self.tokens = {token: owner for token, owner in self.tokens.items() if owner != user}

    def shutdown(self):
        for transfer in self.transfers.values():
            transfer.close()

    # API resources: each returns (status, name of the XML root, model).

    def disk(self, disk_id):
        disk = self._disk(disk_id)
        model = {
            "href": f"{API}/disks/{disk_id}", "id": disk_id, "name": disk["name"],
            "alias": disk["name"], "description": "", "backup": "none", "content_type": "data",
            "propagate_errors": False, "shareable": False, "wipe_after_delete": False,
            "storage_type": disk.get("storage_type", "image"), "status": disk.get("status", "ok"),
        }
        if model["storage_type"] == "lun":
            del model["status"]
            model["lun_storage"] = {"id": "3600140500000000"}
            return 200, "disk", model
        allocated = os.stat(disk["path"]).st_blocks * 512
        model |= {
            "format": disk.get("format", "raw"), "sparse": True, "qcow_version": "qcow2_v3",
            "image_id": str(uuid.uuid5(uuid.UUID(disk_id), "image")),
            "provisioned_size": virtual_size(disk), "actual_size": allocated, "total_size": allocated,
            "storage_domains": {"storage_domain": [
                {"href": f"{API}/storagedomains/{DOMAIN_ID}", "id": DOMAIN_ID}]},
        }
        return 200, "disk", model

    def storage_domain(self, domain_id):
        if domain_id != DOMAIN_ID:
            raise Fault(404)
        return 200, "storage_domain", {
            "href": f"{API}/storagedomains/{DOMAIN_ID}", "id": DOMAIN_ID, "name": "store",
            "status": "active", "type": "data"}

    def hypervisor(self, host_id):
        if host_id != HOST_ID:
            raise Fault(404)
        return 200, "host", {
            "href": f"{API}/hosts/{HOST_ID}", "id": HOST_ID, "name": "host", "address": "localhost",
            "status": "up"}

    def add_transfer(self, user, request):
        """The transfer, started as far as a POST starts it, and whether its answer gets lost."""
        disk_id = (request.get("disk") or request.get("image") or {}).get("id") or ""
        if not disk_id:
            raise Fault(400, "ImageTransfer [image.id|disk.id|snapshot.id] required for addForDisk",
                        "Incomplete parameters")
        with self.lock:
            disk = self.disks.get(disk_id)
            if disk is None:
                raise Fault(400, NO + ". The specified disk does not exist.]")
            disk["posts"] = disk.get("posts", 0) + 1
            self._validate(user, disk)
            transfer = Transfer(self, disk_id, user, request)
            self.transfers[transfer.id] = transfer
            disk["status"] = "locked"
            lost = disk.get("lose_post_answers", 0) > 0
            if lost:
                disk["lose_post_answers"] -= 1
        if not transfer.inside_post():
            raise Fault(400, "[]")
        return transfer, lost

    def transfer(self, transfer_id):
        transfer = self.transfers.get(transfer_id)
        if transfer is None or transfer.vanished():
            raise Fault(404)
        return 200, "image_transfer", self.transfer_model(transfer)

    def list_transfers(self):
        return 200, "image_transfers", {"image_transfer": [
            self.transfer_model(transfer) for transfer in list(self.transfers.values())
            if not transfer.vanished()]}

    def act(self, transfer_id, action):
        transfer = self.transfers.get(transfer_id)
        if action == "finalize" and transfer is not None and transfer.disk.get("late_finalize"):
            if not transfer.finishes_within(20):
                raise Fault(409, "[The engine has not finalized the transfer by itself.]")
        # An action on a transfer that is unknown or has ended is accepted and changes nothing.
        if transfer is not None and transfer.phase not in FINISHED:
            if action == "resume" and not transfer.phase.startswith("paused"):
                raise Fault(409, "[Cannot resume image transfer as it's not in a paused state.]")
            if action == "pause" and transfer.direction == "download":
                raise Fault(400, "[Cannot pause image download as it's handled by the client. Note "
                                 "that it can be canceled if you wish to stop it.]")
            phase = {"finalize": "finalizing_success", "cancel": "cancelled_user",
                     "pause": "paused_user", "resume": "resuming"}.get(action)
            if phase:  # "extend" changes nothing that matters to a recent daemon
                transfer.set(phase)
        return 200, "action", {"status": "complete"}

    def transfer_model(self, transfer):
        href = f"{API}/imagetransfers/{transfer.id}"
        model = {
            "href": href, "id": transfer.id,
            "actions": {"link": [{"href": f"{href}/{name}", "rel": name} for name in
                                 ("cancel", "extend", "finalize", "pause", "resume")]},
            "active": transfer.active, "direction": transfer.direction, "format": transfer.format,
            "inactivity_timeout": transfer.inactivity_timeout, "phase": transfer.phase,
            "shallow": transfer.shallow, "timeout_policy": transfer.timeout_policy,
            "transferred": transfer.transferred,
            "host": {"href": f"{API}/hosts/{HOST_ID}", "id": HOST_ID},
            "image": {"id": transfer.disk_id},
        }
        if transfer.ticketed:
            for key, daemon in (("proxy_url", self.proxy), ("transfer_url", self.host)):
                model[key] = f"{transfer.disk.get(key, daemon.url)}/{transfer.ticket_id}"
        return model

    def _disk(self, disk_id):
        if disk_id not in self.disks:
            raise Fault(404)
        return self.disks[disk_id]

    def _validate(self, user, disk):
        name = disk["name"]
        if not self.users.get(user, {}).get("may_transfer", True):
            raise Fault(403, "[User is not authorized to perform this action.]")
        if disk.get("storage_type", "image") != "image":
            raise Fault(400, NO + ". This operation is not supported for this storage type.]")
        if disk.get("domain_status", "Active") != "Active":
            raise Fault(409, f"{NO}. The relevant Storage Domain's status is {disk['domain_status']}.]")
        if not disk.get("host_up", True):
            raise Fault(409, NO + ". There is no active Host in the Data Center.]")
        if disk.get("plugged_to"):
            raise Fault(409, f"{NO}. The disk {name} is plugged to non-Down VMs: {disk['plugged_to']}]")
        if disk.get("status") == "illegal":
            raise Fault(500, f"{NO}. The following attached disks are in ILLEGAL status: {name} - "
                             "please remove them and try again.]")
        if disk.get("engine_lock") == "transfer":
            raise Fault(409, f"{NO}. Disk {name} is being transferred.]")
        if disk.get("engine_lock"):
            raise Fault(409, NO + ". Related operation is currently in progress. Please try again later.]")
        if disk.get("status") == "locked":
            raise Fault(409, f"{NO}: The following disks are locked: {name}. Please try again in a "
                             "few minutes.]")
