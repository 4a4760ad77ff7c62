package kube

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// As returns a configuration with the token of a service account and nothing else:
// what is refused to it is refused to the pods of that account. The account is made
// unless it is there; its rights are the caller's to grant.
func As(t testing.TB, admin *rest.Config, namespace, account string) *rest.Config {
	t.Helper()
	core, err := kubernetes.NewForConfig(admin)
	if err != nil {
		t.Fatal(err)
	}
	accounts := core.CoreV1().ServiceAccounts(namespace)
	made := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}
	if _, err := accounts.Create(t.Context(), made, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	token, err := accounts.CreateToken(t.Context(), account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(admin)
	config.BearerToken = token.Status.Token
	return config
}
