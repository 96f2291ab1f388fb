package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/mount-utils"
)

func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.node, AccessibleTopology: &csi.Topology{Segments: map[string]string{topology: d.node}}}, nil
}

func (d *driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{Capabilities: []*csi.NodeServiceCapability{{
		Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME}}}}}, nil
}

func (d *driver) NodeStageVolume(ctx context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	if r.GetVolumeId() == "" || r.GetStagingTargetPath() == "" || r.GetVolumeCapability() == nil {
		return nil, status.Error(codes.InvalidArgument, "volume id, staging path or capability missing")
	}
	p, err := d.existing(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	faults, err := parseFaults(r.GetVolumeContext())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := faults.beforeStage(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	dev, err := attach(p)
	if err == nil && r.GetVolumeCapability().GetBlock() == nil {
		err = d.mountOnce(r.GetStagingTargetPath(), func() error {
			return d.mounter.FormatAndMount(dev, r.GetStagingTargetPath(), "ext4", r.GetVolumeCapability().GetMount().GetMountFlags())
		})
	}
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

func (d *driver) NodeUnstageVolume(_ context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if r.GetVolumeId() == "" || r.GetStagingTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume id or staging path missing")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := mount.CleanupMountPoint(r.GetStagingTargetPath(), d.mounter, true); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if p, err := d.path(r.GetVolumeId()); err == nil {
		if err := detach(p); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}

func (d *driver) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if r.GetVolumeId() == "" || r.GetTargetPath() == "" || r.GetVolumeCapability() == nil {
		return nil, status.Error(codes.InvalidArgument, "volume id, target path or capability missing")
	}
	p, err := d.existing(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	source, target := r.GetStagingTargetPath(), r.GetTargetPath()
	if r.GetVolumeCapability().GetBlock() != nil {
		if source, err = loopOf(p); err == nil {
			err = os.MkdirAll(filepath.Dir(target), 0o750)
		}
		if err == nil {
			var f *os.File
			if f, err = os.OpenFile(target, os.O_CREATE, 0o600); err == nil {
				f.Close()
			}
		}
	} else {
		err = os.MkdirAll(target, 0o750)
	}
	if err == nil && source == "" {
		return nil, status.Error(codes.FailedPrecondition, "volume is not staged")
	}
	options := []string{"bind"}
	if r.GetReadonly() {
		options = append(options, "ro")
	}
	if err == nil {
		err = d.mountOnce(target, func() error { return d.mounter.Mount(source, target, "", options) })
	}
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (d *driver) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if r.GetVolumeId() == "" || r.GetTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume id or target path missing")
	}
	if err := mount.CleanupMountPoint(r.GetTargetPath(), d.mounter, true); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// mountOnce makes a mount idempotent.
func (d *driver) mountOnce(target string, mountIt func() error) error {
	if mounted, err := d.mounter.IsMountPoint(target); err == nil && mounted {
		return nil
	} else if err != nil && !os.IsNotExist(err) {
		return err
	}
	return mountIt()
}
