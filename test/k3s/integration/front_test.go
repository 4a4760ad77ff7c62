// Package integration runs the stand-in's control plane and holds it to what
// k3s documents.
package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func admin(t *testing.T, w *world) kubernetes.Interface {
	t.Helper()
	return kubernetes.NewForConfigOrDie(w.config(t, w.clientCA.client(t, "rhizome:admin", "system:masters")))
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func whoAmI(t *testing.T, c kubernetes.Interface) (authenticationv1.UserInfo, error) {
	t.Helper()
	r, err := c.AuthenticationV1().SelfSubjectReviews().Create(within(t), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return authenticationv1.UserInfo{}, err
	}
	return r.Status.UserInfo, nil
}

func request(t *testing.T, w *world, cert *tls.Certificate, path string, header http.Header) (int, []byte) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.serverCA.pem)
	conf := &tls.Config{RootCAs: roots}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, api+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	transport := &http.Transport{TLSClientConfig: conf}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, b
}

func TestTheCustomCAIsServedByteForByte(t *testing.T) {
	w := server(t)
	status, got := request(t, w, nil, "/cacerts", nil)
	if status != http.StatusOK || !bytes.Equal(got, w.serverCA.pem) {
		t.Errorf("status %d, body:\n%s", status, got)
	}
}

func TestPingNeedsNoCredentialsAndTheAPIDoes(t *testing.T) {
	w := server(t)
	if status, body := request(t, w, nil, "/ping", nil); status != http.StatusOK || string(body) != "pong" {
		t.Errorf("ping: status %d, body %q", status, body)
	}
	if status, _ := request(t, w, nil, "/readyz", nil); status != http.StatusUnauthorized {
		t.Errorf("readyz: status %d", status)
	}
}

func TestACertificateOfTheCustomClientCAIsAnIdentity(t *testing.T) {
	w := server(t)
	c := kubernetes.NewForConfigOrDie(w.config(t, w.clientCA.client(t, "alice", "system:masters", "friends")))
	got, err := whoAmI(t, c)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got.Groups)
	if d := cmp.Diff([]string{"alice", "friends", "system:authenticated", "system:masters"}, append([]string{got.Username}, got.Groups...)); d != "" {
		t.Error(d)
	}
	if _, err := c.CoreV1().Secrets("kube-system").List(within(t), metav1.ListOptions{}); err != nil {
		t.Errorf("a cluster administrator cannot list secrets: %v", err)
	}
}

func TestACertificateWithoutGroupsMayLittle(t *testing.T) {
	w := server(t)
	c := kubernetes.NewForConfigOrDie(w.config(t, w.clientCA.client(t, "bob")))
	if _, err := c.CoreV1().Secrets("kube-system").List(within(t), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("got %v, want forbidden", err)
	}
}

func TestACertificateOfAnotherAuthorityIsNoIdentity(t *testing.T) {
	w := server(t)
	other, err := newAuthority("client-ca")
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]authority{"a foreign one": other, "the server's": w.serverCA} {
		cert := a.client(t, "mallory", "system:masters")
		if status, _ := request(t, w, &cert, "/api", nil); status != http.StatusUnauthorized {
			t.Errorf("%s: status %d", name, status)
		}
	}
}

func TestIdentityHeadersOfAClientAreIgnored(t *testing.T) {
	w := server(t)
	header := http.Header{"X-Remote-User": {"system:admin"}, "X-Remote-Group": {"system:masters"}, "x-remote-extra-a": {"b"}}
	if status, _ := request(t, w, nil, "/api", header); status != http.StatusUnauthorized {
		t.Errorf("without a certificate: status %d", status)
	}
	bob := w.clientCA.client(t, "bob")
	if status, _ := request(t, w, &bob, "/api/v1/namespaces/kube-system/secrets", header); status != http.StatusForbidden {
		t.Errorf("with a certificate of someone else: status %d", status)
	}
	header = http.Header{"X-Remote-Group": {"system:masters"}, "Connection": {"X-Remote-User"}}
	if status, _ := request(t, w, &bob, "/api/v1/namespaces/kube-system/secrets", header); status != http.StatusForbidden {
		t.Errorf("with a Connection header: status %d", status)
	}
}

func TestAServiceAccountTokenIsAnIdentity(t *testing.T) {
	w := server(t)
	c := admin(t, w)
	accounts := c.CoreV1().ServiceAccounts("default")
	if _, err := accounts.Create(within(t), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	tok, err := accounts.CreateToken(within(t), "robot", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := whoAmI(t, kubernetes.NewForConfigOrDie(&rest.Config{
		Host: api, BearerToken: tok.Status.Token, TLSClientConfig: rest.TLSClientConfig{CAData: w.serverCA.pem},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got.Username != "system:serviceaccount:default:robot" {
		t.Errorf("user %q", got.Username)
	}
}

func TestAWatchStreamsThroughTheFront(t *testing.T) {
	w := server(t)
	maps := admin(t, w).CoreV1().ConfigMaps("default")
	watch, err := maps.Watch(within(t), metav1.ListOptions{FieldSelector: "metadata.name=watched"})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	if _, err := maps.Create(within(t), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "watched"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(within(t), "watched", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for event := range watch.ResultChan() {
		if got = append(got, string(event.Type)); len(got) == 2 {
			break
		}
	}
	if d := cmp.Diff([]string{"ADDED", "DELETED"}, got); d != "" {
		t.Error(d)
	}
}

func TestTheWrittenKubeconfigIsTheAdministrators(t *testing.T) {
	w := server(t)
	info, err := os.Stat(w.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	conf, err := clientcmd.BuildConfigFromFlags("", w.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if conf.Host != "https://127.0.0.1:6443" {
		t.Errorf("server %s", conf.Host)
	}
	got, err := whoAmI(t, kubernetes.NewForConfigOrDie(conf))
	if err != nil {
		t.Fatal(err)
	}
	if got.Username != "system:admin" {
		t.Errorf("user %q", got.Username)
	}
}

func TestTheTokenFilesHoldTheGivenToken(t *testing.T) {
	w := server(t)
	for _, name := range []string{"token", "node-token"} {
		b, err := os.ReadFile(filepath.Join(w.dir, "server", name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(string(b)) != w.token {
			t.Errorf("%s is not the token that was given", name)
		}
	}
}

func TestManifestsAreAppliedAlsoWhenTheyComeLater(t *testing.T) {
	w := server(t)
	manifest := `
apiVersion: example.test/v1
kind: Late
metadata: {name: one}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: from-manifest, namespace: kube-system}
data: {a: b}
`
	crd := `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: lates.example.test}
spec:
  group: example.test
  scope: Cluster
  names: {kind: Late, plural: lates}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
`
	dir := filepath.Join(w.dir, "server", "manifests")
	for name, text := range map[string]string{"a-late.yaml": manifest, "z-crd.yaml": crd, "no.yaml": "kind: ConfigMap", "no.yaml.skip": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := admin(t, w)
	eventually(t, "the objects of the manifests", func() error {
		if _, err := c.CoreV1().ConfigMaps("kube-system").Get(within(t), "from-manifest", metav1.GetOptions{}); err != nil {
			return err
		}
		return c.Discovery().RESTClient().Get().AbsPath("/apis/example.test/v1/lates/one").Do(within(t)).Error()
	})
}

// eventually fails the test when what is not so after minutes.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for range 600 {
		if err = check(); err == nil {
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
	t.Fatalf("%s: %v", what, err)
}
