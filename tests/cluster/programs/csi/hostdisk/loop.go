package main

import (
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// loopOf returns the loop device of a volume file, or "".
func loopOf(file string) (string, error) {
	out, err := exec.Command("losetup", "-j", file, "-O", "NAME", "-n").Output()
	return strings.TrimSpace(strings.SplitN(string(out), "\n", 2)[0]), err
}

func attach(file string) (string, error) {
	if dev, err := loopOf(file); err != nil || dev != "" {
		return dev, err
	}
	out, err := exec.Command("losetup", "-f", "--show", file).Output()
	return strings.TrimSpace(string(out)), err
}

// detach returns when the file has no loop device any more. The kernel keeps a device that a process has open, if
// only to read its size, until that is closed. It is asked once: a moment later the device may be another file's.
func detach(file string) error {
	dev, err := loopOf(file)
	if err != nil || dev == "" {
		return err
	}
	if err := run("losetup", "-d", dev); err != nil {
		return err
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if left, err := loopOf(file); err != nil || left == "" {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s is still attached as %s", file, dev)
		}
	}
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}
