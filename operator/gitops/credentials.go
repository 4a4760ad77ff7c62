package gitops

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/internal/source"
)

// The Secrets that this controller makes.
const (
	// seedSecret and homeSecret are Argo CD's credentials of the two repositories.
	seedSecret = "rhizome-seed"
	homeSecret = "rhizome-home"
	// webhookSecret, in the release's namespace, is what Gitea signs pushes with.
	webhookSecret = "rhizome-gitops-webhook"
	keySecret     = "secret"
)

// proofName is the Application that shows that Argo CD reads the home. It applies
// nothing.
const proofName = "rhizome-home-proof"

// seedCredentials hands the seed's credentials over to Argo CD, if it has any.
func (r *reconciler) seedCredentials(ctx context.Context, w *world) error {
	if w.g.Spec.Seed.Credentials == nil || w.access.seedTrouble != "" {
		return nil
	}
	data := map[string][]byte{"type": []byte("git"), "url": []byte(w.access.seed.url)}
	for _, key := range []string{source.KeyUsername, source.KeyPassword, source.KeyPrivateKey} {
		if v := w.access.seedData[key]; len(v) > 0 {
			data[key] = v
		}
	}
	return r.repositorySecret(ctx, w.g.Spec.ArgoCD.Namespace, seedSecret, data)
}

// homeCredentials gives Argo CD a token that reads the home: the one that it has, if
// that still does, or a new one.
func (r *reconciler) homeCredentials(ctx context.Context, w *world) error {
	a, namespace := w.access, w.g.Spec.ArgoCD.Namespace
	var current corev1.Secret
	err := r.argo.Get(ctx, client.ObjectKey{Namespace: namespace, Name: homeSecret}, &current)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot read Argo CD's credentials of the home: %w", err)
	}
	if err == nil && string(current.Data["url"]) == a.home.url {
		admitted, err := a.gitea.Admits(ctx, string(current.Data[source.KeyPassword]), a.owner, a.name)
		if err != nil || admitted {
			return err
		}
	}
	token, err := a.gitea.Token(ctx, "rhizome-"+a.owner+"-"+a.name)
	if err != nil {
		return err
	}
	return r.repositorySecret(ctx, namespace, homeSecret, map[string][]byte{
		"type": []byte("git"), "url": []byte(a.home.url), source.KeyUsername: []byte(a.gitea.Username), source.KeyPassword: []byte(token),
	})
}

func (r *reconciler) repositorySecret(ctx context.Context, namespace, name string, data map[string][]byte) error {
	var current corev1.Secret
	err := r.argo.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &current)
	if err == nil && equal(current.Data, data) {
		return nil
	}
	s := &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{
			"argocd.argoproj.io/secret-type": "repository", "app.kubernetes.io/managed-by": Manager,
		}},
		Data: data,
	}
	if err := r.argo.Patch(ctx, s, client.Apply, client.FieldOwner(Manager), client.ForceOwnership); err != nil {
		return fmt.Errorf("cannot give Argo CD its credentials in the Secret %s/%s: %w", namespace, name, err)
	}
	return nil
}

// prove asks Argo CD to read the home: an Application without automation, of a file
// that is not there, compares nothing with nothing at the commit that the repo-server
// sees.
func (r *reconciler) prove(ctx context.Context, w *world) error {
	at := w.access.home
	app := &argo.Application{
		TypeMeta:   metav1.TypeMeta{APIVersion: argo.SchemeGroupVersion.String(), Kind: "Application"},
		ObjectMeta: metav1.ObjectMeta{Name: proofName, Namespace: w.g.Spec.ArgoCD.Namespace, Labels: map[string]string{"app.kubernetes.io/managed-by": Manager}},
		Spec: argo.ApplicationSpec{
			Project:     argo.DefaultAppProjectName,
			Destination: argo.ApplicationDestination{Server: argo.KubernetesInternalAPIServerAddr, Namespace: "default"},
			Source: &argo.ApplicationSource{
				RepoURL: at.url, TargetRevision: at.branch, Path: ".", Directory: &argo.ApplicationSourceDirectory{Include: "rhizome-proof/none.yaml"},
			},
		},
	}
	object, err := applied(app)
	if err != nil {
		return err
	}
	if w.proof == nil || !w.proof.Spec.Source.Equals(app.Spec.Source) {
		if err := r.Live.Patch(ctx, object, client.Apply, client.FieldOwner(Manager), client.ForceOwnership); err != nil {
			return fmt.Errorf("cannot apply the Application %s: %w", proofName, err)
		}
		return nil
	}
	if _, asked := w.proof.IsRefreshRequested(); asked {
		return nil
	}
	// The credentials may be newer than its last try.
	if w.proof.Status.ReconciledAt == nil || w.now.Sub(w.proof.Status.ReconciledAt.Time) > 5*time.Second {
		patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"hard"}}}`, argo.AnnotationKeyRefresh))
		if err := r.Live.Patch(ctx, w.proof.DeepCopy(), patch); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cannot ask Argo CD to read the home: %w", err)
		}
	}
	return nil
}

// proven says whether Argo CD was seen to read the home at its commit, and otherwise
// how far it is.
func proven(proof *argo.Application, want wanted) (bool, string) {
	if proof == nil {
		return false, "it has not been asked yet"
	}
	for _, rule := range []applicationRule{notDeleting, rightSource, noError, comparedToSpec} {
		if t := rule(proof, want); t.reason != "" {
			return false, t.message
		}
	}
	if want.revision == "" || proof.Status.Sync.Revision != want.revision {
		return false, "it read " + short(proof.Status.Sync.Revision)
	}
	return true, ""
}

// hookSecret is what Gitea signs pushes with; it is made if it is not there.
func (r *reconciler) hookSecret(ctx context.Context) ([]byte, error) {
	key := client.ObjectKey{Namespace: r.Namespace, Name: webhookSecret}
	var s corev1.Secret
	err := r.Live.Get(ctx, key, &s)
	if apierrors.IsNotFound(err) {
		s = corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: key.Name, Namespace: key.Namespace}, Data: map[string][]byte{keySecret: []byte(rand.Text() + rand.Text())}}
		if err = r.Live.Create(ctx, &s); apierrors.IsAlreadyExists(err) {
			err = r.Live.Get(ctx, key, &s)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot have the Secret %s: %w", key, err)
	}
	if len(s.Data[keySecret]) == 0 {
		return nil, fmt.Errorf("the Secret %s has no key %s: delete it, so that it is made anew", key, keySecret)
	}
	return s.Data[keySecret], nil
}

// makeHook has Gitea tell of pushes, once for each home and process.
func (r *reconciler) makeHook(ctx context.Context, w *world) error {
	if r.HookURL == "" || r.hooked == w.access.home || w.access.gitea == nil {
		return nil
	}
	secret, err := r.hookSecret(ctx)
	if err != nil {
		return err
	}
	if err := w.access.gitea.Hook(ctx, w.access.owner, w.access.name, r.HookURL, string(secret)); err != nil {
		return err
	}
	r.hooked = w.access.home
	return nil
}

// pushed is told of a push to Gitea: Argo CD is asked to look, and so is this
// controller, if it is the one that leads.
func (r *reconciler) pushed(ctx context.Context, p push) {
	r.observer.hurry()
	r.again()
	log := logger(ctx)
	var sets argo.ApplicationSetList
	var apps argo.ApplicationList
	for _, list := range []client.ObjectList{&sets, &apps} {
		if err := r.Live.List(ctx, list, client.HasLabels{layerLabel}); err != nil {
			log.Error(err, "cannot ask Argo CD to look after a push")
			return
		}
	}
	byLayer := map[string]*argo.ApplicationSet{}
	for i := range sets.Items {
		if at, _ := follows(&sets.Items[i]); at.branch == p.branch() {
			byLayer[sets.Items[i].Labels[layerLabel]] = &sets.Items[i]
		}
	}
	ofLayer := map[string][]argo.Application{}
	for _, app := range apps.Items {
		if app.Spec.GetSource().TargetRevision == p.branch() {
			ofLayer[app.Labels[layerLabel]] = append(ofLayer[app.Labels[layerLabel]], app)
		}
	}
	if err := r.refresh(ctx, byLayer, ofLayer, wanted{revision: p.After}); err != nil {
		log.Error(err, "cannot ask Argo CD to look after a push")
	}
}
