"""A disk exported by qemu-nbd, with the options that vdsm uses."""

import json
import os
import subprocess
import time


class Export:
    def __init__(self, socket, disk):
        self.socket, self.disk, self.process = socket, disk, None

    @property
    def url(self):
        return "nbd:unix:" + self.socket

    def start(self):
        """False when qemu-nbd does not come up."""
        image_format = disk_format(self.disk)
        image = {"driver": image_format, "file": {"driver": "file", "filename": self.disk["path"]}}
        options = ["--allocation-depth"] if image_format == "qcow2" else []
        if rate := self.disk.get("bytes_per_second"):
            options += ["--object", f"throttle-group,id=slow,x-bps-total={rate}"]
            image = {"driver": "throttle", "throttle-group": "slow", "file": image}
        self.process = subprocess.Popen(
            ["qemu-nbd", "--socket", self.socket, "--persistent", "--shared=8", "--export-name=",
             "--read-only", "--cache=none", "--aio=native", "--discard=unmap", "--detect-zeroes=unmap",
             *options, "json:" + json.dumps(image)]
        )
        deadline = time.monotonic() + 20
        while not os.path.exists(self.socket):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                return False
            time.sleep(0.01)
        return True

    def stop(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


def disk_format(disk):
    return "qcow2" if disk.get("format") == "cow" else "raw"


def virtual_size(disk):
    """Size of the disk as its virtual machine sees it."""
    if "virtual_size" not in disk:
        info = subprocess.check_output(
            ["qemu-img", "info", "-U", "--output", "json", "-f", disk_format(disk), disk["path"]]
        )
        disk["virtual_size"] = json.loads(info)["virtual-size"]
    return disk["virtual_size"]
