package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
)

// +kubebuilder:rbac:urls=/readyz,verbs=get

// readyzTimeout bounds one question to the API server.
const readyzTimeout = 10 * time.Second

// readyz asks the API server whether it is ready, and returns what it says
// against it; empty: nothing.
func readyz(cfg *rest.Config) (func(context.Context) string, error) {
	client, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for the API server's readiness: %w", err)
	}
	return func(ctx context.Context) string {
		ctx, cancel := context.WithTimeout(ctx, readyzTimeout)
		defer cancel()
		body, err := client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err == nil {
			return ""
		}
		if failed := failedChecks(string(body)); failed != "" {
			return failed
		}
		return err.Error()
	}, nil
}

// failedChecks are the names in the lines that begin with [-] of what /readyz
// answers, such as "[-]etcd failed: reason withheld".
func failedChecks(body string) string {
	var failed []string
	for line := range strings.Lines(body) {
		if check, ok := strings.CutPrefix(strings.TrimSpace(line), "[-]"); ok {
			failed = append(failed, check)
		}
	}
	return strings.Join(failed, "; ")
}
