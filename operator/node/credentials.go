package node

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/claims"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// The tokens that workers join with, and the passwords by which k3s knows removed
// machines: k3s names both by the machine, so that no rule can name them.
//
// +kubebuilder:rbac:groups="",resources=secrets,verbs=list;create;delete,namespace=kube-system

// The cluster's tokens, and the claims.
//
// +kubebuilder:rbac:groups="",resources=secrets,resourceNames=rhizome-founding,verbs=get;list;watch,namespace=release
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;update;delete,namespace=pxe

// tokenLife is how long a bootstrap token joins. It is made anew when half of it
// is over, so that a machine always has half of it left.
const tokenLife = 15 * time.Minute

// annotationOpened on a bootstrap token's Secret is when the claim that it is for
// was opened: another attempt has another token.
const annotationOpened = "rhizome.dev/claim-opened"

// readFounding is the default of Options.Founding: the Secret that the seed leaves
// behind.
func readFounding(ctx context.Context, reader client.Reader, namespace string) (provision.JoinSecrets, error) {
	var s corev1.Secret
	key := types.NamespacedName{Namespace: namespace, Name: names.FoundingSecret}
	if err := reader.Get(ctx, key, &s); err != nil {
		if apierrors.IsNotFound(err) {
			return provision.JoinSecrets{}, fmt.Errorf("there is no Secret %s: run 'bootstrapper seed' again, which hands it over", key)
		}
		return provision.JoinSecrets{}, fmt.Errorf("cannot read the Secret %s: %w", key, err)
	}
	secrets := provision.JoinSecrets{
		ServerToken: string(s.Data[names.KeyServerToken]), AgentToken: string(s.Data[names.KeyAgentToken]),
		NodeKey: s.Data[names.KeyNodeKey], ServerCA: s.Data[names.KeyServerAuthority],
	}
	if err := secrets.Check(); err != nil {
		return provision.JoinSecrets{}, fmt.Errorf("the Secret %s cannot be used: %w", key, err)
	}
	return secrets, nil
}

// lacking says why no credentials can be made; empty: they can.
func (r *reconciler) lacking(ctx context.Context) string {
	if _, err := r.Founding(ctx); err != nil {
		return err.Error()
	}
	return ""
}

// token is a bootstrap token with the name of its Secret.
type token struct {
	k3s.BootstrapToken
	secret string
}

// chooseToken finds among the tokens of a machine one that the claim may still be
// exchanged for: its own, with half of its life left. The others are to go.
func chooseToken(secrets []corev1.Secret, opened time.Time, now time.Time) (keep *token, drop []string) {
	for _, s := range secrets {
		expires, err := time.Parse(time.RFC3339, string(s.Data["expiration"]))
		mine := s.Annotations[annotationOpened] == opened.UTC().Format(time.RFC3339Nano)
		if err != nil || !mine || expires.Sub(now) <= tokenLife/2 || keep != nil && !expires.After(keep.Expires) {
			drop = append(drop, s.Name)
			continue
		}
		if keep != nil {
			drop = append(drop, keep.secret)
		}
		keep = &token{k3s.BootstrapToken{ID: string(s.Data["token-id"]), Secret: string(s.Data["token-secret"]), Expires: expires}, s.Name}
	}
	slices.Sort(drop)
	return keep, drop
}

// offered is what was put under a claim, to do nothing when nothing changed.
type offered struct {
	claim, via string
	generation int64
	founded    *v1alpha1.Cluster
	until      time.Time
}

// offer makes the credentials of this attempt and puts them under its claim. It
// returns when they are to be made anew; zero: never.
func (r *reconciler) offer(ctx context.Context, m *machine, f *fleet) (time.Time, error) {
	via, ok := f.serverFor(m)
	if !ok || f.noCredentials != "" || f.cluster == nil {
		return f.now.Add(15 * time.Second), nil // the machine asks again and again
	}
	name := m.node.Name
	if last := r.offers[name]; last.claim == m.claim.ID && last.via == via.String() && last.generation == m.node.Generation &&
		last.founded.Generation == f.cluster.Generation && (last.until.IsZero() || f.now.Before(last.until)) {
		return last.until, nil
	}
	secrets, err := r.Founding(ctx)
	if err != nil {
		return time.Time{}, err
	}
	r.traces[name] = true
	if m.isControlPlane() {
		files, err := provision.JoinServer(f.inventory(), m.node, secrets, via)
		if err != nil {
			return time.Time{}, err
		}
		if err := r.put(ctx, m, files); err != nil {
			return time.Time{}, err
		}
		r.offers[name] = offered{claim: m.claim.ID, via: via.String(), generation: m.node.Generation, founded: f.cluster}
		return time.Time{}, nil
	}
	have, err := r.tokens(ctx, name)
	if err != nil {
		return time.Time{}, err
	}
	keep, drop := chooseToken(have, m.claim.Opened, f.now)
	if keep == nil {
		if keep, err = r.mint(ctx, m, f.now); err != nil {
			return time.Time{}, err
		}
	}
	files, err := provision.JoinAgent(f.inventory(), m.node, secrets, keep.BootstrapToken, via)
	if err != nil {
		return time.Time{}, err
	}
	if err := r.put(ctx, m, files); err != nil {
		return time.Time{}, err
	}
	// Only now: what the machine may have fetched joins until the new one is there.
	for _, secret := range drop {
		if err := r.deleteSecret(ctx, secret); err != nil {
			return time.Time{}, err
		}
	}
	until := keep.Expires.Add(-tokenLife / 2)
	r.offers[name] = offered{claim: m.claim.ID, via: via.String(), generation: m.node.Generation, founded: f.cluster, until: until}
	return until, nil
}

// put offers files under the claim, unless they are there.
func (r *reconciler) put(ctx context.Context, m *machine, files []k3s.File) error {
	switch have, err := r.store.Credentials(ctx, m.node, *m.claim); {
	case err == nil && reflect.DeepEqual(have, files):
		return nil
	case err != nil && !errors.Is(err, claims.ErrNotReady):
		ctrl.LoggerFrom(ctx).Info("the credentials that were offered cannot be compared", "why", err.Error())
	}
	return r.store.Offer(ctx, m.node.Name, m.claim.ID, files)
}

// mint makes a new token in the cluster.
func (r *reconciler) mint(ctx context.Context, m *machine, now time.Time) (*token, error) {
	t := k3s.NewBootstrapToken(now.Add(tokenLife).Truncate(time.Second), "joins the worker "+m.node.Name+" (Rhizome)")
	s := t.SecretObject()
	s.Labels = map[string]string{v1alpha1.LabelToken: m.node.Name}
	s.Annotations = map[string]string{annotationOpened: m.claim.Opened.UTC().Format(time.RFC3339Nano)}
	if err := r.Live.Create(ctx, s); err != nil {
		return nil, fmt.Errorf("cannot make a bootstrap token for %s: %w", m.node.Name, err)
	}
	return &token{t, s.Name}, nil
}

func (r *reconciler) tokens(ctx context.Context, node string) ([]corev1.Secret, error) {
	var list corev1.SecretList
	if err := r.Live.List(ctx, &list, client.InNamespace(metav1.NamespaceSystem), client.MatchingLabels{v1alpha1.LabelToken: node}); err != nil {
		return nil, fmt.Errorf("cannot list the bootstrap tokens of %s: %w", node, err)
	}
	return list.Items, nil
}

// revoke takes back what a machine could join with, where there may be any.
func (r *reconciler) revoke(ctx context.Context, node string) error {
	if !r.traces[node] {
		return nil
	}
	have, err := r.tokens(ctx, node)
	if err != nil {
		return err
	}
	for i := range have {
		if err := r.deleteSecret(ctx, have[i].Name); err != nil {
			return err
		}
	}
	if err := r.store.Withdraw(ctx, node); err != nil {
		return err
	}
	delete(r.offers, node)
	delete(r.traces, node)
	return nil
}

// sweep looks, once in the operator's life, for what a former one left: tokens of
// machines that are gone go, the others are remembered.
func (r *reconciler) sweep(ctx context.Context) error {
	if r.swept {
		return nil
	}
	var list corev1.SecretList
	if err := r.Live.List(ctx, &list, client.InNamespace(metav1.NamespaceSystem), client.HasLabels{v1alpha1.LabelToken}); err != nil {
		return fmt.Errorf("cannot list the bootstrap tokens: %w", err)
	}
	for i := range list.Items {
		node := list.Items[i].Labels[v1alpha1.LabelToken]
		_, has, err := r.live.store.OfNode(ctx, node)
		if err == nil && !has {
			// It joins nobody any more.
			if err := r.deleteSecret(ctx, list.Items[i].Name); err != nil {
				return err
			}
			continue
		}
		r.traces[node] = true
	}
	var kept corev1.SecretList
	if err := r.Live.List(ctx, &kept, client.InNamespace(r.PXENamespace), client.HasLabels{v1alpha1.LabelClaim}); err != nil {
		return fmt.Errorf("cannot list the claims: %w", err)
	}
	for i := range kept.Items {
		r.traces[kept.Items[i].Labels[v1alpha1.LabelClaim]] = true
	}
	r.swept = true
	return nil
}

// deleteSecret deletes a Secret of kube-system; nil when it is gone.
func (r *reconciler) deleteSecret(ctx context.Context, name string) error {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: name}}
	if err := r.Live.Delete(ctx, s); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot delete the Secret %s of %s: %w", name, s.Namespace, err)
	}
	return nil
}
