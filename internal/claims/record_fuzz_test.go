package claims

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
)

// Whatever stands in a Secret, it is the claim of the Node that the Secret is named
// for, with all that a claim has, or no claim.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"id":"x","node":"alpha","mac":"52:54:00:00:00:01","opened":"2026-01-01T00:00:00Z","expires":"2026-01-01T01:00:00Z"}`))
	f.Add([]byte(`{"id":"x","node":"beta","mac":"52:54:00:00:00:01","opened":"2026-01-01T00:00:00Z","expires":"2026-01-01T01:00:00Z"}`))
	f.Add([]byte(`{"id":"","consumedBy":"192.168.1.300"}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, text []byte) {
		const node = "alpha"
		c, err := decode(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: names.ClaimSecret(node), Labels: map[string]string{v1alpha1.LabelClaim: node}},
			Type:       names.ClaimType,
			Data:       map[string][]byte{names.KeyClaim: text},
		})
		if err != nil {
			return
		}
		if c.Node != node || c.ID == "" || len(c.MAC) != len("52:54:00:00:00:01") || c.Opened.IsZero() || c.Expires.IsZero() {
			t.Errorf("%s is taken for the claim %+v", text, c)
		}
	})
}
