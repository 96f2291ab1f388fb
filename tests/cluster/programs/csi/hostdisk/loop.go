package main

import (
	"fmt"
	"os/exec"
	"strings"
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

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}
