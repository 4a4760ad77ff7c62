package install

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rhizome-dev/rhizome/internal/names"
)

// The names that everything of ours in a cluster has.
const (
	// Namespace of the operator.
	Namespace = names.SystemNamespace
	// Release is the name of the chart's Helm release.
	Release = "rhizome"
	// FieldManager owns the fields that the bootstrapper applies.
	FieldManager = "rhizome-bootstrapper"
)

// Client speaks to one cluster. Its methods may be called from many goroutines at
// once.
type Client struct {
	config    *rest.Config
	loader    clientcmd.ClientConfig
	core      kubernetes.Interface
	dynamic   dynamic.Interface
	discovery discovery.CachedDiscoveryInterface
	mapper    meta.ResettableRESTMapper
}

// NewClient makes a client from the content of a kubeconfig. It connects to
// nothing yet.
func NewClient(kubeconfig []byte) (*Client, error) {
	parsed, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("cannot read the kubeconfig: %w", err)
	}
	overrides := &clientcmd.ConfigOverrides{}
	overrides.Context.Namespace = Namespace
	c := &Client{loader: clientcmd.NewDefaultClientConfig(*parsed, overrides)}
	if c.config, err = c.loader.ClientConfig(); err != nil {
		return nil, fmt.Errorf("cannot use the kubeconfig: %w", err)
	}
	// A seed is one client of an idle cluster: it need not be throttled.
	c.config.QPS, c.config.Burst = 100, 200
	c.config.UserAgent = FieldManager
	if c.core, err = kubernetes.NewForConfig(c.config); err != nil {
		return nil, fmt.Errorf("cannot make a client: %w", err)
	}
	if c.dynamic, err = dynamic.NewForConfig(c.config); err != nil {
		return nil, fmt.Errorf("cannot make a client: %w", err)
	}
	c.discovery = memory.NewMemCacheClient(c.core.Discovery())
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapper(c.discovery)
	return c, nil
}

// getter hands a Client to Helm: it implements its RESTClientGetter.
type getter struct{ *Client }

func (g getter) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(g.config), nil }

func (g getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return g.discovery, nil
}

func (g getter) ToRESTMapper() (meta.RESTMapper, error) { return g.mapper, nil }

func (g getter) ToRawKubeConfigLoader() clientcmd.ClientConfig { return g.loader }
