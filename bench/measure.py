"""Runs clients and measures their cost."""

import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field

TICK = os.sysconf("SC_CLK_TCK")
# Memory is sampled. The kernel keeps each process's peak, so only a peak in the last moments of a process is
# missed. The first samples follow each other faster, for runs that are short.
SAMPLE_SECONDS = 0.2
FIRST_SAMPLE_SECONDS = 0.02


@dataclass
class Command:
    """One process. `at` is (path, offset): standard output goes there."""

    argv: list
    env: dict = field(default_factory=dict)
    at: tuple | None = None


@dataclass
class Client:
    """A program that does the job of a case: steps in sequence, the commands of a step in parallel.

    With `piped`, the commands of the first step form a pipeline. `target` is where the bytes end up,
    None when they are kept nowhere.
    """

    name: str
    steps: list
    target: str | None = None
    piped: bool = False


@dataclass
class Sample:
    """Seconds of processor time (user and system) of the client and its children, seconds of wall
    clock, peak resident memory in bytes (processes that run side by side added up), and busy
    seconds of the whole machine's processors. `own` is what measuring cost: processor seconds of this program."""

    cpu: float
    wall: float
    rss: int
    machine: float
    own: float


class Failed(Exception):
    pass


def run(client, log):
    """A Sample of the client, whose output is added to the file `log`."""
    cpu, rss = 0.0, 0
    machine, own, start = busy(), time.process_time(), time.monotonic()
    for number, commands in enumerate(client.steps):
        step_cpu, step_rss = run_step(commands, client.piped and number == 0, log)
        cpu += step_cpu
        rss = max(rss, step_rss)
    wall = time.monotonic() - start
    return Sample(cpu, wall, rss, busy() - machine, time.process_time() - own)


def run_step(commands, piped, log):
    children, before = [], None
    with open(log, "ab") as output:
        for command in commands:
            last = command is commands[-1]
            stdout = output
            if command.at:
                stdout = os.open(command.at[0], os.O_WRONLY | os.O_CREAT, 0o660)
                os.lseek(stdout, command.at[1], os.SEEK_SET)
            elif piped and not last:
                stdout = subprocess.PIPE
            child = subprocess.Popen(
                command.argv, env=os.environ | command.env, stdin=before or subprocess.DEVNULL,
                stdout=stdout, stderr=output)
            if command.at:
                os.close(stdout)
            if before:
                before.close()
            before = child.stdout
            children.append(child)
    peaks = Peaks([child.pid for child in children])
    cpu, failed = 0.0, []
    try:
        for child, command in zip(children, commands):
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            cpu += usage.ru_utime + usage.ru_stime
            if child.returncode:
                failed.append(f"{command.argv[0]}: exit code {child.returncode}")
    finally:
        for child in children:
            if child.returncode is None:
                child.send_signal(signal.SIGKILL)
    rss = peaks.stop()
    if failed:
        with open(log, errors="replace") as text:
            raise Failed("; ".join(failed) + "\n" + "".join(text.readlines()[-20:]))
    return cpu, rss


class Peaks:
    """Samples the peak memory of processes and of all their children.

    wait4's figure for memory is of no use: it includes the process before exec, which is a copy of
    this program.
    """

    def __init__(self, pids):
        self.pids, self.peaks, self.ended = pids, {}, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        pause = FIRST_SAMPLE_SECONDS
        while not self.ended.wait(pause):
            pause = min(2 * pause, SAMPLE_SECONDS)
            for pid in with_children(self.pids):
                # The last value, not the largest: exec resets the peak.
                self.peaks[pid] = high_water(pid) or self.peaks.get(pid, 0)

    def stop(self):
        self.ended.set()
        self.thread.join()
        return sum(self.peaks.values())


def with_children(pids):
    """The processes, what their first threads started, and so on. Only ovirt-img starts others, from its first thread. A search
    through all processes would cost the more the busier the machine is, and every thread that is looked at under /proc
    costs this program up to a millisecond when the process ends."""
    found = list(pids)
    for pid in found:
        try:
            with open(f"/proc/{pid}/task/{pid}/children") as children:
                found += map(int, children.read().split())
        except OSError:
            pass  # it has ended
    return found


def high_water(pid):
    """Bytes; None for a process without memory, which has ended."""
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return None


def busy():
    """Seconds that all processors together were neither idle nor waiting for a disk."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, stat.readline().split()[1:])
    return (user + nice + system + irq + softirq) / TICK
