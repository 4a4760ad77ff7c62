//go:build linux

package gitops

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/bootstrapper/install"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// The chart, as it is without any values, lets the operator install Argo CD and look
// after GitOps; and the operator itself may do none of what only Argo CD's
// installation needs.
func TestTheChartInstallsAnOperatorThatInstallsArgoCD(t *testing.T) {
	w := start(t)
	argo := w.follow(t, nil, "ARGOCD_RECONCILIATION_TIMEOUT=1h")
	w.awaitReady(t, v1alpha1.SourceSeed)
	argo.Await(t, w.first, "one", "two")

	t.Run("Argo CD has all rights, which the operator has not", func(t *testing.T) {
		var binding rbacv1.ClusterRoleBinding
		if err := w.Get(t.Context(), client.ObjectKey{Name: "argocd-application-controller"}, &binding); err != nil {
			t.Error(err)
		}
		var role rbacv1.ClusterRole
		if err := w.Get(t.Context(), client.ObjectKey{Name: binding.RoleRef.Name}, &role); err != nil || len(role.Rules) == 0 || role.Rules[0].Verbs[0] != "*" {
			t.Errorf("its role is %+v, %v", role.Rules, err)
		}
		w.mayNot(t)
	})

	t.Run("a push that carries the signature is heard of, and no other", func(t *testing.T) {
		second := w.clone.Commit(t, "second", map[string]string{"apps/two/config.yaml": configMap("two", "2")})
		body := fmt.Sprintf(`{"ref":"refs/heads/main","after":%q,"repository":{"full_name":"home/lab"}}`, second)
		if code := tell(t, w.push, body, []byte("guess")); code != http.StatusForbidden {
			t.Errorf("a push with a guessed key: %d", code)
		}
		var secret corev1.Secret
		if err := w.Get(t.Context(), client.ObjectKey{Namespace: install.Namespace, Name: "rhizome-gitops-webhook"}, &secret); err != nil {
			t.Fatal(err)
		}
		if code := tell(t, w.push, body, secret.Data["secret"]); code != http.StatusNoContent {
			t.Errorf("a push: %d", code)
		}
		argo.Await(t, second, "one", "two")
	})
}

// mayNot checks what the operator's account may not do in its own name, and in whose
// name it may do it.
func (w *world) mayNot(t *testing.T) {
	t.Helper()
	itself, scheme := w.itself, w.Scheme()
	all := func(config *rest.Config) client.Client {
		t.Helper()
		c, err := client.New(config, client.Options{Scheme: scheme})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	as := func(user string, groups ...string) client.Client {
		t.Helper()
		other := rest.CopyConfig(itself)
		other.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: groups}
		return all(other)
	}
	giveAway := func(c client.Client) error {
		return c.Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "all-rights"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
			Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "somebody"}},
		}, client.DryRunAll)
	}
	inSystem := "system:serviceaccount:" + install.Namespace + ":"
	if err := giveAway(as(inSystem + installer)); err != nil {
		t.Errorf("in the installer's name: %v", err)
	}
	for who, c := range map[string]client.Client{
		"the operator itself":                all(itself),
		"another account of its namespace":   as(inSystem + "default"),
		"an account of the same name":        as("system:serviceaccount:kube-system:" + installer),
		"a user":                             as("somebody"),
		"the installer, as an administrator": as(inSystem+installer, "system:masters"),
	} {
		if err := giveAway(c); !apierrors.IsForbidden(err) {
			t.Errorf("%s may give all rights away: %v", who, err)
		}
	}
	me := all(itself)
	for _, no := range []authorizationv1.ResourceAttributes{
		{Verb: "get", Resource: "secrets", Namespace: argoSpace},
		{Verb: "create", Resource: "secrets", Namespace: argoSpace},
		{Verb: "patch", Group: "apps", Resource: "deployments", Namespace: argoSpace},
		{Verb: "create", Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"},
		{Verb: "delete", Group: "argoproj.io", Resource: "applicationsets", Namespace: argoSpace},
		{Verb: "patch", Group: "argoproj.io", Resource: "appprojects", Namespace: argoSpace},
		{Verb: "get", Resource: "secrets", Namespace: "gitea"},
		{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: install.Namespace, Name: installer},
		{Verb: "impersonate", Resource: "users"},
		{Verb: "impersonate", Resource: "groups"},
		{Verb: "impersonate", Resource: "serviceaccounts", Namespace: install.Namespace},
	} {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &no}}
		if err := me.Create(t.Context(), review); err != nil {
			t.Fatal(err)
		}
		if review.Status.Allowed {
			t.Errorf("the operator may %+v", no)
		}
	}
}

// tell tells the operator of a push, as Gitea does, and returns what it answers.
func tell(t *testing.T, address, body string, key []byte) int {
	t.Helper()
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(body))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/v1/push", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Gitea-Signature", hex.EncodeToString(mac.Sum(nil)))
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	return answer.StatusCode
}
