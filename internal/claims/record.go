package claims

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
)

// decode reads the claim in a Secret. Whatever is not exactly as Open writes it is
// an error, and so no claim: in doubt nothing is installed.
func decode(s *corev1.Secret) (provision.Claim, error) {
	fail := func(format string, args ...any) (provision.Claim, error) {
		return provision.Claim{}, fmt.Errorf("cannot read the claim in Secret %s/%s: %s; it counts as none, delete the Secret",
			s.Namespace, s.Name, fmt.Sprintf(format, args...))
	}
	if s.Type != names.ClaimType {
		return fail("its type is %q, want %q", s.Type, names.ClaimType)
	}
	var c provision.Claim
	if err := json.Unmarshal(s.Data[names.KeyClaim], &c); err != nil {
		// The error may quote what it read, and that may be the identifier.
		return fail("the key %q holds no claim as JSON", names.KeyClaim)
	}
	switch mac, err := pxe.ParseMAC(string(c.MAC)); {
	case c.ID == "":
		return fail("it has no identifier")
	case s.Name != names.ClaimSecret(c.Node) || s.Labels[v1alpha1.LabelClaim] != c.Node:
		return fail("it is for the node %q, and the Secret's name or its label %s says another", c.Node, v1alpha1.LabelClaim)
	case err != nil || mac != c.MAC:
		return fail("%q is no MAC address in lower case with colons", c.MAC)
	case c.Opened.IsZero() || c.Expires.IsZero():
		return fail("it does not say when it was opened and when it ends")
	}
	return c, nil
}

// write puts the claim into its Secret.
func write(s *corev1.Secret, c provision.Claim) error {
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("cannot encode the claim of %s: %w", c.Node, err)
	}
	if s.Data == nil {
		s.Data = map[string][]byte{}
	}
	s.Data[names.KeyClaim] = b
	return nil
}

// newSecret is the Secret of a Node's claim, which goes when the Node goes.
func newSecret(namespace string, owner *v1alpha1.Node) *corev1.Secret {
	s := &corev1.Secret{Type: names.ClaimType}
	s.Namespace, s.Name = namespace, names.ClaimSecret(owner.Name)
	adopt(s, owner)
	return s
}

// adopt makes the Node the one owner of the Secret.
func adopt(s *corev1.Secret, owner *v1alpha1.Node) {
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	s.Labels[v1alpha1.LabelClaim] = owner.Name
	s.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, v1alpha1.GroupVersion.WithKind("Node"))}
	// Nobody waits for a claim before a Node goes, and that would need a right more.
	s.OwnerReferences[0].BlockOwnerDeletion = nil
}

// revision orders the versions of one object: those of etcd are numbers that
// grow (etcd's global revision). 0 if it is none.
func revision(s *corev1.Secret) uint64 {
	n, err := strconv.ParseUint(s.ResourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// same compares two claims by what is kept of them: the same moment may have been
// read into two different time zones.
func same(a, b provision.Claim) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
