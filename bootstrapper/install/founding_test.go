package install

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

func newFounding(t *testing.T) provision.Founding {
	t.Helper()
	f, err := provision.NewFounding(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestTheTokensAreHandedOverOnceAndNeverChanged(t *testing.T) {
	c, ctx, founding := connect(t), limited(t), newFounding(t)
	secrets := c.core.CoreV1().Secrets(Namespace)
	if handed, err := c.Founding(ctx, founding); err != nil || handed != (Applied{Created: 1}) {
		t.Fatalf("the first time: %v, %v", handed, err)
	}
	first, err := secrets.Get(ctx, names.FoundingSecret, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := founding.ServerToken()
	if err != nil {
		t.Fatal(err)
	}
	agent, err := k3s.AgentToken(founding.Authorities.Server.Certificate, founding.AgentPassword)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{"server-token": []byte(server), "agent-token": []byte(agent),
		"node-key": founding.NodeKey, "server-ca": founding.Authorities.Server.Certificate}
	if !cmp.Equal(want, first.Data) || first.Type != "rhizome.dev/founding" {
		t.Errorf("the Secret of type %s has other content", first.Type) // and it is not shown
	}
	if handed, err := c.Founding(ctx, founding); err != nil || handed != (Applied{Unchanged: 1}) {
		t.Errorf("the second time: %v, %v", handed, err)
	}

	_, err = c.Founding(ctx, newFounding(t))
	var other *OtherFoundingError
	if !errors.As(err, &other) || !slices.Equal(other.Keys, []string{"agent-token", "node-key", "server-ca", "server-token"}) {
		t.Fatalf("another cluster's tokens: %v", err)
	}
	for key, value := range want {
		if strings.Contains(err.Error(), string(value)) {
			t.Errorf("the error shows the %s", key)
		}
	}
	last, err := secrets.Get(ctx, names.FoundingSecret, metav1.GetOptions{})
	if err != nil || last.ResourceVersion != first.ResourceVersion {
		t.Errorf("the Secret was touched: version %s, was %s, %v", last.ResourceVersion, first.ResourceVersion, err)
	}

	// A person deletes it: it is handed over again.
	if err := secrets.Delete(ctx, names.FoundingSecret, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if handed, err := c.Founding(ctx, founding); err != nil || handed != (Applied{Created: 1}) {
		t.Errorf("after it was deleted: %v, %v", handed, err)
	}
}

func TestASeedDoesNotWaitForMachinesThatAreToCome(t *testing.T) {
	cluster := func(conditions ...metav1.Condition) *unstructured.Unstructured {
		var list []any
		for _, c := range conditions {
			list = append(list, map[string]any{"type": c.Type, "status": string(c.Status), "reason": c.Reason, "message": c.Message, "observedGeneration": int64(1)})
		}
		u := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"conditions": list}}}
		u.SetGeneration(1)
		return u
	}
	ready := func(status metav1.ConditionStatus, reason string) metav1.Condition {
		return metav1.Condition{Type: v1alpha1.ConditionReady, Status: status, Reason: reason, Message: "said"}
	}
	pxe := func(status metav1.ConditionStatus, reason string) metav1.Condition {
		return metav1.Condition{Type: v1alpha1.ConditionPXEReady, Status: status, Reason: reason, Message: "0 of 1"}
	}
	tests := []struct {
		reason  string
		cluster *unstructured.Unstructured
		why     string
		waiting string
	}{
		{"it is ready", cluster(ready("True", "ClusterReady"), pxe("True", "NotNeeded")), "", ""},
		{"PXE pods start for the machines to come", cluster(ready("False", "PodsStarting"), pxe("False", "PodsStarting")), "", "0 of 1"},
		{"the operator has no tokens", cluster(ready("False", "NotConfigured"), pxe("False", "NotConfigured")), "NotConfigured: said", ""},
		{"the API is not healthy", cluster(ready("False", "APINotReady"), pxe("False", "PodsStarting")), "APINotReady: said", ""},
		{"an operator that knows no PXE pods", cluster(ready("False", "NoNodeMatched")), "NoNodeMatched: said", ""},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			if why, waiting := clusterState(tc.cluster); why != tc.why || waiting != tc.waiting {
				t.Errorf("waits because %q, goes on beside %q; want %q, %q", why, waiting, tc.why, tc.waiting)
			}
		})
	}
}
