package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// faults are the parameters of a storage class that make its volumes misbehave. They
// travel with the volume as its context.
type faults struct {
	fill        bool          // fill: "ff": a new volume holds 0xff everywhere instead of zeroes
	createDelay time.Duration // createDelay: "5s": provisioning takes that long
	stageDelay  time.Duration // stageDelay: "5s": staging takes that long
	refuseStage bool          // refuseStage: "true": staging fails for ever
	fullTimes   int           // fullTimes: "2": provisioning finds no room so many times for each fullFor
	fullFor     string        // fullFor: "a test": whose attempts fullTimes counts
}

func parseFaults(params map[string]string) (faults, error) {
	var f faults
	for key, value := range params {
		// The provisioner adds keys of its own (csi.storage.k8s.io/...).
		if strings.Contains(key, "/") {
			continue
		}
		switch key {
		case "fill":
			if value != "ff" {
				return f, fmt.Errorf("parameter fill: %q is not ff", value)
			}
			f.fill = true
		case "createDelay", "stageDelay":
			delay, err := time.ParseDuration(value)
			if err != nil {
				return f, fmt.Errorf("parameter %s: %w", key, err)
			}
			if key == "createDelay" {
				f.createDelay = delay
			} else {
				f.stageDelay = delay
			}
		case "refuseStage":
			f.refuseStage = value == "true"
		case "fullTimes":
			times, err := strconv.Atoi(value)
			if err != nil {
				return f, fmt.Errorf("parameter fullTimes: %w", err)
			}
			f.fullTimes = times
		case "fullFor":
			f.fullFor = value
		default:
			return f, fmt.Errorf("unknown parameter %q", key)
		}
	}
	return f, nil
}

func (f faults) beforeStage(ctx context.Context) error {
	if f.refuseStage {
		return status.Error(codes.Internal, "staging refused: the storage class asks for it")
	}
	return pause(ctx, f.stageDelay)
}

// room fails as often as the storage class asks for, as storage without room does. The provisioner
// then takes back the choice of the node.
func (d *driver) room(f faults, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full[f.fullFor] >= f.fullTimes {
		return nil
	}
	d.full[f.fullFor]++
	return status.Errorf(codes.ResourceExhausted, "no room for %d bytes on node %s", size, d.node)
}

// pause waits as long as the storage class asks for, or until the caller gives up.
func pause(ctx context.Context, delay time.Duration) error {
	if delay == 0 {
		return nil
	}
	select {
	case <-time.After(delay):
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

func fill(w io.Writer, size int64, value byte) error {
	block := bytes.Repeat([]byte{value}, int(mib))
	for ; size > 0; size -= mib { // sizes are multiples of 1 MiB
		if _, err := w.Write(block); err != nil {
			return err
		}
	}
	return nil
}
