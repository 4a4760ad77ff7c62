package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/names"
)

// deploymentVersion is what tells whether a Deployment still is what it was when
// this controller applied it, and whether it would apply the same again.
type deploymentVersion struct {
	uid        types.UID
	generation int64
	digest     string
}

// pxeState is what is so of the PXE pods, for the verdict.
type pxeState struct {
	plan pxePlan
	// missing says what the operator lacks, or what failed.
	missing string
	failure string
}

// runPXE does what plan says: the certificate first, then the pods that serve it.
// again is when to look again without an event; zero: not at all. After an error
// the state says as much as is known.
func (r *reconciler) runPXE(ctx context.Context, f facts) (s pxeState, again time.Duration, err error) {
	current, err := r.deployment(ctx)
	if err != nil {
		return pxeState{failure: err.Error(), plan: pxePlan{waiting: waiting(f.cluster, f.nodes)}}, 0, err
	}
	given := pxeFacts{cluster: f.cluster, nodes: f.nodes, cores: f.cores, now: f.now}
	if current != nil {
		given.running, given.idleSince = current.Spec.Replicas, idleSince(current)
	}
	if given.missing, err = r.missing(ctx, f); err != nil {
		return pxeState{failure: err.Error(), plan: plan(given)}, 0, err
	}
	s = pxeState{plan: plan(given), missing: given.missing}
	if s.plan.leave {
		return s, s.plan.again, nil
	}
	if s.plan.replicas > 0 {
		if s.missing, err = r.certify(ctx, f); s.missing != "" {
			return s, 0, nil
		}
	}
	if err == nil {
		err = r.applyDeployment(ctx, f.cluster, current, s.plan)
	}
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		// Somebody else was quicker, or the cache is behind what was written here.
		return s, time.Second, nil
	case err != nil:
		s.failure = err.Error()
		return s, 0, err
	}
	return s, s.plan.again, nil
}

// missing says what PXE pods need and the operator has not; empty: nothing.
func (r *reconciler) missing(ctx context.Context, f facts) (string, error) {
	if r.PXEImage == "" {
		return "the operator does not know the image of the PXE pods: start it with --pxe-image, as the chart does", nil
	}
	secret, err := r.secret(ctx, r.client, r.Namespace, names.FoundingSecret)
	if err != nil {
		return "", err
	}
	if why := notConfigured(r.Namespace, secret); why != "" {
		return why, nil
	}
	if len(f.cores) > 0 && len(serviceAddresses(f.cluster, f.cores)) == 0 {
		return fmt.Sprintf("no member has an InternalIP in spec.network.cidr %s, so that no machine could reach a PXE pod: correct the one or the other",
			f.cluster.Spec.Network.CIDR), nil
	}
	return "", nil
}

// deployment is the Deployment of the PXE pods, nil if there is none.
func (r *reconciler) deployment(ctx context.Context) (*appsv1.Deployment, error) {
	var d appsv1.Deployment
	key := client.ObjectKey{Namespace: r.PXENamespace, Name: names.PXEDeployment}
	if err := r.client.Get(ctx, key, &d); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("cannot read the Deployment %s: %w", key, err)
	}
	return &d, nil
}

// applyDeployment applies what the plan wants, unless it is so already.
func (r *reconciler) applyDeployment(ctx context.Context, c *v1alpha1.Cluster, current *appsv1.Deployment, p pxePlan) error {
	object, digest, err := applied(deployment(c, r.Options, p))
	if err != nil {
		return err
	}
	r.mu.Lock()
	wrote := r.wrote
	r.mu.Unlock()
	if current != nil && wrote == (deploymentVersion{current.UID, current.Generation, digest}) {
		return nil
	}
	if err := r.client.Patch(ctx, object, client.Apply, client.FieldOwner(Manager), client.ForceOwnership); err != nil {
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("cannot apply the Deployment %s/%s: %w; the chart makes the namespace", r.PXENamespace, names.PXEDeployment, err)
		}
		return fmt.Errorf("cannot apply the Deployment %s/%s: %w", r.PXENamespace, names.PXEDeployment, err)
	}
	r.mu.Lock()
	r.wrote = deploymentVersion{object.GetUID(), object.GetGeneration(), digest}
	r.mu.Unlock()
	before := int32(0)
	if current != nil && current.Spec.Replicas != nil {
		before = *current.Spec.Replicas
	}
	if before != p.replicas {
		ctrl.LoggerFrom(ctx).Info("PXE pods", "replicas", p.replicas, "before", before, "why", p.why)
	}
	switch {
	case before == 0 && p.replicas > 0:
		r.events.Eventf(c, corev1.EventTypeNormal, eventPXEStarted, "PXE pods: %d, %s", p.replicas, p.why)
	case before > 0 && p.replicas == 0:
		r.events.Eventf(c, corev1.EventTypeNormal, eventPXEStopped, "PXE pods: none; no machine has waited since %s", p.idleSince.UTC().Format(time.RFC3339))
	}
	return nil
}

// certify sees to it that there is an authority and a certificate of it for all
// members' addresses. missing says why an authority that is there cannot be used.
func (r *reconciler) certify(ctx context.Context, f facts) (missing string, err error) {
	secret, err := r.secret(ctx, r.Live, r.Namespace, names.PXECASecret)
	if err != nil {
		return "", err
	}
	if secret == nil {
		if secret, err = r.makeAuthority(ctx, f.now); err != nil {
			return "", err
		}
		r.events.Event(f.cluster, corev1.EventTypeNormal, eventPXEAuthority, "made the certificate authority of the PXE service")
	}
	ca, err := authorityOf(secret, f.now)
	if err != nil {
		return err.Error(), nil //nolint:nilerr // a person has to look; until then it is a condition
	}
	serving, err := r.secret(ctx, r.client, r.PXENamespace, names.ServingSecret)
	if err != nil {
		return "", err
	}
	addresses := serviceAddresses(f.cluster, f.cores)
	why := renewal(serving, ca, addresses, f.now)
	if why == "" {
		return "", nil
	}
	if err := r.writeServing(ctx, serving, ca, f); err != nil {
		return "", err
	}
	r.events.Eventf(f.cluster, corev1.EventTypeNormal, eventPXECertificate, "made the PXE service's certificate for %d addresses: %s", len(addresses), why)
	return "", nil
}

func (r *reconciler) makeAuthority(ctx context.Context, now time.Time) (*corev1.Secret, error) {
	ca, err := k3s.NewAuthority(names.PXECASecret, now)
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: names.PXECASecret, Labels: map[string]string{"app.kubernetes.io/name": "rhizome"}},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: ca.Certificate, corev1.TLSPrivateKeyKey: ca.Key},
	}
	// Whoever else made one in between has made the authority.
	if err := r.Live.Create(ctx, secret); err != nil {
		return nil, fmt.Errorf("cannot keep the PXE service's authority: %w", err)
	}
	return secret, nil
}

// writeServing makes the certificate anew, unless the Secret has changed since it
// was read: then it is looked at again.
func (r *reconciler) writeServing(ctx context.Context, current *corev1.Secret, ca k3s.Authority, f facts) error {
	data, err := servingData(ca, serviceAddresses(f.cluster, f.cores), f.now)
	if err != nil {
		return err
	}
	if current == nil {
		err = r.Live.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: r.PXENamespace, Name: names.ServingSecret, Labels: selector},
			Type:       corev1.SecretTypeTLS, Data: data,
		})
	} else {
		next := current.DeepCopy()
		next.Data = data
		err = r.Live.Update(ctx, next)
	}
	if err != nil {
		return fmt.Errorf("cannot keep the PXE service's certificate: %w", err)
	}
	return nil
}

// secret reads a Secret; nil when there is none.
func (r *reconciler) secret(ctx context.Context, from client.Reader, namespace, name string) (*corev1.Secret, error) {
	var s corev1.Secret
	if err := from.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &s); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("cannot read the Secret %s/%s: %w", namespace, name, err)
	}
	return &s, nil
}

// dropGone drops the entries of status.pxe whose pods are gone. The Cluster is
// then as it was written.
func (r *reconciler) dropGone(ctx context.Context, f *facts) error {
	gone := stale(f.cluster.Status.PXE, f.pods, f.now)
	if len(gone) == 0 {
		return nil
	}
	next := f.cluster.DeepCopy()
	next.Status.PXE = without(next.Status.PXE, gone)
	patch := client.MergeFromWithOptions(f.cluster, client.MergeFromWithOptimisticLock{})
	if err := r.client.Status().Patch(ctx, next, patch, client.FieldOwner(Manager+"-pxe")); err != nil {
		return fmt.Errorf("cannot drop PXE pods that are gone from the status of Cluster %s: %w", f.cluster.Name, err)
	}
	f.cluster = next
	r.events.Eventf(f.cluster, corev1.EventTypeNormal, eventPXEPodGone, "the PXE pod on %s is gone", strings.Join(gone, ", "))
	return nil
}

func without(entries []v1alpha1.PXEPod, nodes []string) []v1alpha1.PXEPod {
	var kept []v1alpha1.PXEPod
	for _, e := range entries {
		gone := false
		for _, n := range nodes {
			gone = gone || e.Node == n
		}
		if !gone {
			kept = append(kept, e)
		}
	}
	return kept
}
