package integration

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/rhizome-dev/rhizome/test/k3s/internal/join"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/token"
)

func (w *world) hash() string {
	sum := sha256.Sum256(w.serverCA.pem)
	return hex.EncodeToString(sum[:])
}

func nodeRequest(t *testing.T, name, password string) join.NodeRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return join.NodeRequest{Name: name, Password: password, Kubelet: csr, Serving: csr, KubeProxy: csr, Controller: csr}
}

func bootstrapToken(t *testing.T, w *world, id, group string, expires time.Duration) string {
	t.Helper()
	secret := strings.Repeat("a", 16)
	_, err := admin(t, w).CoreV1().Secrets("kube-system").Create(within(t), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id},
		Type:       corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{
			"token-id": id, "token-secret": secret, "usage-bootstrap-authentication": "true",
			"auth-extra-groups": group, "expiration": time.Now().Add(expires).UTC().Format(time.RFC3339),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return "K10" + w.hash() + "::" + id + "." + secret
}

func TestABootstrapTokenJoinsAgentsAndNotServers(t *testing.T) {
	w := server(t)
	tok := bootstrapToken(t, w, "good00", "system:bootstrappers:k3s:default-node-token", time.Hour)
	c, err := join.Dial(within(t), api, tok, token.Node)
	if err != nil {
		t.Fatal(err)
	}
	var reply join.NodeReply
	eventually(t, "the token to be known", func() error {
		reply, err = c.Node(within(t), nodeRequest(t, "worker", "p1"))
		return err
	})
	block, _ := pem.Decode(reply.Kubelet)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.CommonName != "system:node:worker" {
		t.Errorf("the kubelet is %q", cert.Subject.CommonName)
	}
	if err := cert.CheckSignatureFrom(w.clientCA.cert); err != nil {
		t.Error(err)
	}
	if _, err := c.Server(within(t)); !errors.Is(err, join.ErrRefused) {
		t.Errorf("as a server: %v", err)
	}
}

func TestBootstrapTokensThatAreExpiredOrOfAnotherGroupAreRefused(t *testing.T) {
	w := server(t)
	for id, tok := range map[string]string{
		"expired": bootstrapToken(t, w, "old000", "system:bootstrappers:k3s:default-node-token", -time.Hour),
		"group":   bootstrapToken(t, w, "group0", "system:bootstrappers:others", time.Hour),
	} {
		c, err := join.Dial(within(t), api, tok, token.Node)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Node(within(t), nodeRequest(t, "worker-"+id, "p")); !errors.Is(err, join.ErrRefused) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestTheNodePasswordGuardsTheName(t *testing.T) {
	w := server(t)
	c, err := join.Dial(within(t), api, w.token, token.Node)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Node(within(t), nodeRequest(t, "guarded", "right")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Node(within(t), nodeRequest(t, "guarded", "right")); err != nil {
		t.Errorf("the same password again: %v", err)
	}
	_, err = c.Node(within(t), nodeRequest(t, "guarded", "wrong"))
	if !errors.Is(err, join.ErrRefused) || !strings.Contains(err.Error(), "Node password rejected") {
		t.Errorf("another password: %v", err)
	}
	if err := admin(t, w).CoreV1().Secrets("kube-system").Delete(within(t), "guarded.node-password.k3s", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Node(within(t), nodeRequest(t, "guarded", "wrong")); err != nil {
		t.Errorf("after the Secret was deleted: %v", err)
	}
}

func TestATokenOfAnotherClusterIsRefusedBeforeItIsSent(t *testing.T) {
	server(t)
	_, err := join.Dial(within(t), api, token.Format(strings.Repeat("00", 32), token.Server, password), token.Server)
	if !errors.Is(err, join.ErrRefused) || strings.Contains(err.Error(), password) {
		t.Errorf("got %v", err)
	}
}

func TestAWrongPasswordIsRefused(t *testing.T) {
	w := server(t)
	c, err := join.Dial(within(t), api, token.Format(w.hash(), token.Server, "wrong"), token.Server)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Server(within(t)); !errors.Is(err, join.ErrRefused) {
		t.Errorf("got %v", err)
	}
}

// second starts another server in a network namespace of its own.
func second(t *testing.T, name, ip, more string) (dir string, log *bytes.Buffer, stop func()) {
	t.Helper()
	w := server(t)
	base, err := os.MkdirTemp("", "standin-")
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(base, "data")
	log, stop, err = start(dir, filepath.Join(base, "k3s.yaml"), name, ip, w.token, "server: "+api+"\n"+more,
		"sh", "-c", `until ip link show uplink >/dev/null 2>&1; do sleep 0.2; done
ip link set lo up; ip addr add `+ip+`/24 dev uplink; ip link set uplink up; exec "$@"`, "sh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	pid, _ := processes.Load(log)
	if err := plug(pid.(int), ip); err != nil {
		t.Fatal(err)
	}
	return dir, log, stop
}

func TestAServerWithOtherCriticalSettingsMayNotJoin(t *testing.T) {
	_, log, _ := second(t, "odd", "10.77.0.9", "cluster-cidr: 10.99.0.0/16\n")
	if err := waitFor(log); err == nil {
		t.Fatal("it joined")
	}
	if s := text(log); !strings.Contains(s, "critical configuration mismatched: cluster-cidr") {
		t.Errorf("the reason is not named:\n%s", tail(log))
	}
}

func TestASecondServerJoinsAndIsRemovedByAnnotation(t *testing.T) {
	w := server(t)
	dir, log, _ := second(t, "two", "10.77.0.2", "")
	if err := waitFor(log); err != nil {
		t.Fatalf("%v\n%s", err, tail(log))
	}
	for _, name := range []string{"server-ca.crt", "client-ca.key", "service.key", "etcd/peer-ca.key"} {
		ours, err := os.ReadFile(filepath.Join(w.dir, "server/tls", name))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := os.ReadFile(filepath.Join(dir, "server/tls", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(ours, theirs) {
			t.Errorf("%s differs between the servers", name)
		}
	}
	c := admin(t, w)
	// No kubelets run here, so their Node objects are made by hand.
	for _, name := range []string{"one", "two"} {
		if _, err := c.CoreV1().Nodes().Create(within(t), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"one", "two"} {
		eventually(t, name+" to be a voter", func() error { return voter(within(t), c, name) })
	}
	patch := []byte(`{"metadata":{"annotations":{"etcd.k3s.cattle.io/remove":"true"}}}`)
	if _, err := c.CoreV1().Nodes().Patch(within(t), "two", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the member to be removed", func() error {
		n, err := c.CoreV1().Nodes().Get(within(t), "two", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if got, want := n.Annotations["etcd.k3s.cattle.io/removed-node-name"], n.Annotations["etcd.k3s.cattle.io/node-name"]; got == "" || got != want {
			return fmt.Errorf("removed-node-name is %q, node-name %q", got, want)
		}
		return nil
	})
	eventually(t, "the removed server to end", func() error {
		if !strings.Contains(text(log), "k3s (stand-in): etcd:") {
			return errors.New(tail(log))
		}
		return nil
	})
	if _, err := os.Stat(filepath.Join(dir, "server/db/etcd/tombstone")); err != nil {
		t.Error(err)
	}
	if err := voter(within(t), c, "one"); err != nil {
		t.Errorf("the remaining server: %v", err)
	}
}

func voter(ctx context.Context, c kubernetes.Interface, name string) error {
	n, err := c.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, cond := range n.Status.Conditions {
		if cond.Type == "EtcdIsVoter" && cond.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("conditions: %v", n.Status.Conditions)
}
