// hostdisk is a small CSI driver for one test node: every volume is a file,
// attached as a loop device, given out raw (Block) or with ext4 on it
// (Filesystem). It registers itself with the kubelet, so no registrar side-car
// is needed. Parameters of a storage class make its volumes misbehave: see
// faults.go. csi-sanity passes against it.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/mount-utils"
	utilexec "k8s.io/utils/exec"
)

const (
	driverName = "hostdisk.csi.test"
	topology   = driverName + "/node"
	mib        = int64(1) << 20
	maxVolume  = int64(1) << 44
)

type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer
	dir, node string
	mounter   *mount.SafeFormatAndMount
	mu        sync.Mutex     // one operation at a time: a test node has few volumes
	full      map[string]int // attempts that found no room, by the parameter fullFor
}

func main() {
	dir := flag.String("dir", "", "directory of the volume files")
	node := flag.String("node", "", "node name")
	endpoint := flag.String("endpoint", "", "path of the CSI socket")
	reg := flag.String("registration", "", "path of the kubelet registration socket; empty: none")
	flag.Parse()
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		log.Fatal(err)
	}
	d := &driver{dir: *dir, node: *node, mounter: mount.NewSafeFormatAndMount(mount.New(""), utilexec.New()), full: map[string]int{}}
	server := grpc.NewServer(grpc.UnaryInterceptor(logged))
	csi.RegisterIdentityServer(server, d)
	csi.RegisterControllerServer(server, d)
	csi.RegisterNodeServer(server, d)
	go serve(server, *endpoint)
	if *reg != "" {
		r := grpc.NewServer()
		registration.RegisterRegistrationServer(r, &registrar{endpoint: *endpoint})
		go serve(r, *reg)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	<-stop
	server.GracefulStop()
	os.Remove(*reg)
}

func serve(s *grpc.Server, path string) {
	os.Remove(path)
	l, err := net.Listen("unix", path)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(s.Serve(l))
}

func logged(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
	resp, err := h(ctx, req)
	if err != nil {
		log.Printf("%s %v: %v", info.FullMethod, req, err)
	}
	return resp, err
}

// registrar answers the kubelet's plugin watcher.
type registrar struct {
	registration.UnimplementedRegistrationServer
	endpoint string
}

func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: driverName, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

func (r *registrar) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !s.PluginRegistered {
		log.Printf("kubelet refused the driver: %s", s.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func (d *driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: driverName, VendorVersion: "1"}, nil
}

func (d *driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	var caps []*csi.PluginCapability
	for _, t := range []csi.PluginCapability_Service_Type{csi.PluginCapability_Service_CONTROLLER_SERVICE, csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS} {
		caps = append(caps, &csi.PluginCapability{Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: t}}})
	}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: caps}, nil
}

func (d *driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}
