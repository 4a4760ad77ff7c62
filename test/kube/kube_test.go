package kube_test

import (
	"context"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"

	"github.com/rhizome-dev/rhizome/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

func TestTheAPIServerIsRealAndHasTheCRDs(t *testing.T) {
	config := kube.Start(t)
	resources, err := discovery.NewDiscoveryClientForConfigOrDie(config).ServerResourcesForGroupVersion("rhizome.dev/v1alpha1")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, r := range resources.APIResources {
		kinds[r.Kind] = true
	}
	for _, kind := range []string{"Cluster", "OperatingSystem", "Node", "GitOps"} {
		if !kinds[kind] {
			t.Errorf("the API server does not know the kind %s", kind)
		}
	}
}

func TestASecondStartSharesTheFirst(t *testing.T) {
	ctx := context.Background()
	one, two := kubernetes.NewForConfigOrDie(kube.Start(t)), kubernetes.NewForConfigOrDie(kube.Start(t))
	if _, err := one.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shared"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := two.CoreV1().Namespaces().Get(ctx, "shared", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

func TestAServiceAccountMayDoNothingThatItWasNotGranted(t *testing.T) {
	admin := kube.Start(t)
	as := kubernetes.NewForConfigOrDie(kube.As(t, admin, "default", "nobody"))
	who, err := as.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil || who.Status.UserInfo.Username != "system:serviceaccount:default:nobody" {
		t.Fatalf("it is %v, %v", who, err)
	}
	if _, err := as.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("it asked for Secrets: %v, want it to be forbidden", err)
	}
	kube.As(t, admin, "default", "nobody") // that is there
}
