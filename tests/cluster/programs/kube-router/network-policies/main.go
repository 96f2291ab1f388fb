// network-policies enforces the NetworkPolicies on the one node of the test cluster. It is kube-router's controller of policies
// without kube-router's routes and service proxy, for which the cluster has a bridge and kube-proxy. It changes the table `filter` and
// the ipsets of the network namespace that it runs in, and removes its rules from there when a signal ends it.
package main

import (
	"flag"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "path of the configuration of an account that may list nodes, namespaces, pods and policies")
	node := flag.String("node", "", "node name")
	services := flag.String("service-cidr", "", "network of the services' addresses")
	flag.Parse()
	if err := run(*kubeconfig, *node, *services); err != nil {
		log.Fatal(err)
	}
}

func run(kubeconfig, node, services string) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)

	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	settings := options.NewKubeRouterConfig()
	settings.EnableIPv4 = true
	settings.HostnameOverride = node
	settings.ClusterIPCIDRs = []string{services}

	stop := make(chan struct{})
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(stop)
	factory.WaitForCacheSync(stop)

	var mutex sync.Mutex
	create := func() (*netpol.NetworkPolicyController, error) {
		tables, sets, err := netpol.NewIPTablesHandlers(settings)
		if err != nil {
			return nil, err
		}
		return netpol.NewNetworkPolicyController(client, settings, pods, policies, namespaces, &mutex, tables, sets)
	}
	controller, err := create()
	if err != nil {
		return err
	}
	for _, watched := range []struct {
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{pods, controller.PodEventHandler},
		{namespaces, controller.NamespaceEventHandler},
		{policies, controller.NetworkPolicyEventHandler},
	} {
		if _, err := watched.informer.AddEventHandler(watched.handler); err != nil {
			return err
		}
	}
	// The controller sends a beat with each pass, and waits until it is read.
	beats := make(chan *healthcheck.ControllerHeartbeat)
	go func() {
		for range beats {
		}
	}()
	var running sync.WaitGroup
	running.Add(1)
	go controller.Run(beats, stop, &running)
	<-ended
	close(stop)
	running.Wait()

	// Another one, because the first one's copy of the table has the rules of its last pass.
	last, err := create()
	if err != nil {
		return err
	}
	last.Cleanup()
	return nil
}
