"""A stand-in for oVirt's engine and vdsm, for tests.

It keeps disks, users and image transfers in memory and drives real imageio daemons through their
control sockets, as vdsm does: each transfer exports its disk with qemu-nbd and installs a ticket.
Phases, refusals, time limits and texts are those of oVirt 4.5's engine; what a test may set, and what
a real engine does not have, is under /_fake/ (see knobs.py).
"""
