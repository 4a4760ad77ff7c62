package install

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// OtherFoundingError says that the cluster holds the founding Secret of another
// state directory, or a changed one. It names keys, and no value.
type OtherFoundingError struct{ Keys []string }

// Error implements error.
func (e *OtherFoundingError) Error() string {
	return fmt.Sprintf("the Secret %s/%s is there with another %s than the state directory has: it is not changed",
		Namespace, names.FoundingSecret, strings.Join(e.Keys, ", "))
}

// Founding hands the operator what it needs to add members: the tokens, the key of
// the node passwords and the server's authority, in the Secret rhizome-founding. One
// that is there is never changed: if it holds something else, the error is an
// *OtherFoundingError.
func (c *Client) Founding(ctx context.Context, f provision.Founding) (Applied, error) {
	wanted, err := foundingSecret(f)
	if err != nil {
		return Applied{}, err
	}
	current, err := c.core.CoreV1().Secrets(Namespace).Get(ctx, names.FoundingSecret, metav1.GetOptions{})
	if err == nil {
		if other := otherKeys(current, wanted); len(other) > 0 {
			return Applied{}, &OtherFoundingError{other}
		}
		return Applied{Unchanged: 1}, nil
	}
	if !apierrors.IsNotFound(err) {
		return Applied{}, fmt.Errorf("cannot read the Secret %s/%s: %w", Namespace, names.FoundingSecret, err)
	}
	if err := c.ensureNamespace(ctx); err != nil {
		return Applied{}, err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(wanted)
	if err != nil {
		return Applied{}, fmt.Errorf("cannot convert the Secret %s: %w", names.FoundingSecret, err)
	}
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	return c.apply(ctx, corev1.SchemeGroupVersion.WithResource("secrets"), &unstructured.Unstructured{Object: content})
}

// ensureNamespace makes the release's namespace, which Helm would make later.
func (c *Client) ensureNamespace(ctx context.Context) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace, Labels: map[string]string{"name": Namespace}}}
	_, err := c.core.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{FieldManager: FieldManager})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("cannot make the namespace %s: %w", Namespace, err)
	}
	return nil
}

func foundingSecret(f provision.Founding) (*corev1.Secret, error) {
	server, err := f.ServerToken()
	if err != nil {
		return nil, err
	}
	agent, err := k3s.AgentToken(f.Authorities.Server.Certificate, f.AgentPassword)
	if err != nil {
		return nil, err
	}
	return &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: Namespace, Name: names.FoundingSecret, Labels: map[string]string{"app.kubernetes.io/name": "rhizome"},
		},
		Type:      names.FoundingType,
		Immutable: ptr.To(true),
		Data: map[string][]byte{
			names.KeyServerToken: []byte(server), names.KeyAgentToken: []byte(agent),
			names.KeyNodeKey: f.NodeKey, names.KeyServerAuthority: f.Authorities.Server.Certificate,
		},
	}, nil
}

// otherKeys are the keys of which two Secrets hold something else, sorted. What
// somebody added is no matter.
func otherKeys(current, wanted *corev1.Secret) []string {
	var other []string
	for key, value := range wanted.Data {
		if !bytes.Equal(current.Data[key], value) {
			other = append(other, key)
		}
	}
	slices.Sort(other)
	return other
}
