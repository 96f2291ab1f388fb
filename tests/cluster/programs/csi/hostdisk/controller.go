package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func (d *driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: []*csi.ControllerServiceCapability{{
		Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME}}}}}, nil
}

// path refuses identifiers that are not plain file names.
func (d *driver) path(id string) (string, error) {
	if id == "" {
		return "", status.Error(codes.InvalidArgument, "volume id missing")
	}
	if id != filepath.Base(id) || strings.HasPrefix(id, ".") {
		return "", status.Errorf(codes.NotFound, "no volume %q", id)
	}
	return filepath.Join(d.dir, id), nil
}

func (d *driver) existing(id string) (string, error) {
	p, err := d.path(id)
	if err == nil {
		if _, e := os.Stat(p); e != nil {
			err = status.Errorf(codes.NotFound, "no volume %q", id)
		}
	}
	return p, err
}

func supported(caps []*csi.VolumeCapability) error {
	if len(caps) == 0 {
		return status.Error(codes.InvalidArgument, "volume capabilities missing")
	}
	for _, c := range caps {
		switch m := c.GetAccessMode().GetMode(); m {
		case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
			csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:
		default:
			return status.Errorf(codes.InvalidArgument, "access mode %v not supported", m)
		}
	}
	return nil
}

func (d *driver) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if r.GetName() == "" {
		return nil, status.Error(codes.InvalidArgument, "name missing")
	}
	if err := supported(r.GetVolumeCapabilities()); err != nil {
		return nil, err
	}
	if r.GetVolumeContentSource() != nil {
		return nil, status.Error(codes.InvalidArgument, "content sources are not supported")
	}
	required, limit := r.GetCapacityRange().GetRequiredBytes(), r.GetCapacityRange().GetLimitBytes()
	size := (max(required, mib) + mib - 1) / mib * mib
	if size > maxVolume || (limit > 0 && size > limit) {
		return nil, status.Errorf(codes.OutOfRange, "size %d outside limits", size)
	}
	faults, err := parseFaults(r.GetParameters())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	id := strings.ReplaceAll(r.GetName(), "/", "-")
	p, err := d.path(id)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, faults.createDelay); err != nil {
		return nil, err
	}
	if err := d.room(faults, size); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if fi, err := os.Stat(p); err == nil {
		if fi.Size() < required || (limit > 0 && fi.Size() > limit) {
			return nil, status.Errorf(codes.AlreadyExists, "volume %q has %d bytes", id, fi.Size())
		}
		size = fi.Size()
	} else {
		f, err := os.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		if faults.fill {
			err = fill(f, size, 0xff)
		} else {
			err = f.Truncate(size)
		}
		err = errors.Join(err, f.Close())
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: id, CapacityBytes: size, VolumeContext: r.GetParameters(),
		AccessibleTopology: []*csi.Topology{{Segments: map[string]string{topology: d.node}}}}}, nil
}

func (d *driver) DeleteVolume(_ context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	p, err := d.path(r.GetVolumeId())
	if status.Code(err) == codes.InvalidArgument {
		return nil, err
	}
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		if dev, _ := loopOf(p); dev != "" {
			return nil, status.Errorf(codes.FailedPrecondition, "volume is attached as %s", dev)
		}
		if err := os.Remove(p); err != nil && !os.IsNotExist(err) {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	return &csi.DeleteVolumeResponse{}, nil
}

func (d *driver) ValidateVolumeCapabilities(_ context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if r.GetVolumeId() == "" || len(r.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "volume id or capabilities missing")
	}
	if _, err := d.existing(r.GetVolumeId()); err != nil {
		return nil, err
	}
	if err := supported(r.GetVolumeCapabilities()); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: r.GetVolumeCapabilities()}}, nil
}
