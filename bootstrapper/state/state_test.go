package state

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func open(t *testing.T, path string) *Directory {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func TestOnlyOneProcessHoldsAClustersState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "home")
	d := open(t, path)
	_, err := Open(path)
	var inUse *InUseError
	if !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
		t.Fatalf("a second Open gave %v, want an InUseError with process %d", err, os.Getpid())
	}
	d.Close()
	again, err := Open(path)
	if err != nil {
		t.Fatalf("after the first closed: %v", err)
	}
	again.Close()
}

// TestMain is also the process that holds a directory until it is killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("STATE_TEST_HOLD"); path != "" {
		if _, err := Open(path); err != nil {
			panic(err)
		}
		os.Stdout.WriteString("held\n")
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

func TestTheLockEndsWithItsProcessHoweverItEnds(t *testing.T) {
	path := t.TempDir()
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), "STATE_TEST_HOLD="+path)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	var inUse *InUseError
	if _, err := Open(path); !errors.As(err, &inUse) || inUse.PID != holder.Process.Pid {
		t.Errorf("while process %d holds it: %v", holder.Process.Pid, err)
	}
	_ = holder.Process.Kill()
	_ = holder.Wait()
	open(t, path)
}

func TestTheStateIsForItsOwnerOnly(t *testing.T) {
	path := t.TempDir()
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	d := open(t, path)
	if _, _, err := d.Secrets(now); err != nil {
		t.Fatal(err)
	}
	if err := d.SetIntent(Intent{Cluster: "home"}); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(path, func(name string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		want := os.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", name, got, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSecretsAreMadeOnceAndStay(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	first, made, err := d.Secrets(now)
	if err != nil || !made {
		t.Fatalf("Secrets = made %v, %v", made, err)
	}
	d.Close()
	second, made, err := open(t, path).Secrets(now.Add(time.Hour))
	if err != nil || made {
		t.Fatalf("the second time: made %v, %v", made, err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error("the secrets changed")
	}
}

func TestABrokenStateIsNeverReplacedByANewOne(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	for _, name := range []string{secretsFile, claimsFile, intentFile} {
		file := filepath.Join(path, name)
		if err := os.WriteFile(file, []byte("{\"authorities\": "), 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		switch name {
		case secretsFile:
			_, _, err = d.Secrets(now)
		case claimsFile:
			_, err = d.Claims()
		case intentFile:
			_, _, err = d.Intent()
		}
		if err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: error = %v, want one that names the file", name, err)
		}
	}
}

func TestWhatAnInterruptedWriteLeftIsRemoved(t *testing.T) {
	path := t.TempDir()
	left := filepath.Join(path, tempPrefix+"123")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

func TestThePXECertificateIsTrustedByMachinesWithOldClocks(t *testing.T) {
	secrets, err := newSecrets(now)
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddr("192.168.1.2")
	pair, err := secrets.PXECertificate(address, now)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secrets.PXE.Certificate)
	for _, at := range []time.Time{now, k3s.NotBefore.Add(time.Second)} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, DNSName: address.String()}); err != nil {
			t.Errorf("at %s: %v", at, err)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, DNSName: "192.168.1.3"}); err == nil {
		t.Error("the certificate is good for another address")
	}
}

func TestTheKubeconfigTrustsOnlyTheClustersAuthority(t *testing.T) {
	secrets, err := newSecrets(now)
	if err != nil {
		t.Fatal(err)
	}
	data, err := secrets.Kubeconfig("home", "https://192.168.1.10:6443", "admin", now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "https://192.168.1.10:6443" || !cmp.Equal(config.CAData, secrets.Founding.Authorities.Server.Certificate) || config.Insecure {
		t.Errorf("kubeconfig: host %s, insecure %v", config.Host, config.Insecure)
	}
	if _, err := tls.X509KeyPair(config.CertData, config.KeyData); err != nil {
		t.Error(err)
	}
}

func claim(mac pxe.MAC, node string) provision.Claim {
	return provision.Claim{ID: provision.NewClaimID(), Node: node, MAC: mac, Purpose: provision.Seed, Attempt: 1,
		Opened: now, Expires: now.Add(time.Hour)}
}

func TestClaimsSurviveTheProcess(t *testing.T) {
	ctx, path, mac := context.Background(), t.TempDir(), pxe.MAC("52:54:00:00:00:01")
	d := open(t, path)
	claims, err := d.Claims()
	if err != nil {
		t.Fatal(err)
	}
	if err := claims.Update(ctx, mac, func(*provision.Claim) error { return nil }); !errors.Is(err, pxe.ErrNotFound) {
		t.Errorf("Update without a claim = %v, want ErrNotFound", err)
	}
	if err := claims.Put(ctx, claim(mac, "alpha")); err != nil {
		t.Fatal(err)
	}
	from := netip.MustParseAddr("192.168.1.77")
	if err := claims.Update(ctx, mac, func(c *provision.Claim) error { return c.Consume(now, from) }); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("no")
	if err := claims.Update(ctx, mac, func(c *provision.Claim) error { c.Node = "beta"; return refused }); !errors.Is(err, refused) {
		t.Errorf("a refused change gave %v", err)
	}
	want, _ := claims.Get(mac)
	d.Close()

	claims, err = open(t, path).Claims()
	if err != nil {
		t.Fatal(err)
	}
	got, ok := claims.Get(mac)
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); !ok || diff != "" {
		t.Errorf("the claim after a restart (-want +got):\n%s", diff)
	}
	if got.Node != "alpha" || got.ConsumedBy != from {
		t.Errorf("claim = %+v", got)
	}
}

func TestAChangeThatCannotBeKeptIsNotShown(t *testing.T) {
	ctx, path, mac := context.Background(), t.TempDir(), pxe.MAC("52:54:00:00:00:01")
	claims, err := open(t, path).Claims()
	if err != nil {
		t.Fatal(err)
	}
	if err := claims.Put(ctx, claim(mac, "alpha")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	err = claims.Update(ctx, mac, func(c *provision.Claim) error { return c.Consume(now, netip.MustParseAddr("192.168.1.77")) })
	if err == nil {
		t.Fatal("the change was taken although it could not be written")
	}
	if c, _ := claims.Get(mac); !c.ConsumedAt.IsZero() {
		t.Error("the claim shows as consumed although that was not written")
	}
}

func TestOnlyOneOfManyConsumesAClaim(t *testing.T) {
	ctx, mac := context.Background(), pxe.MAC("52:54:00:00:00:01")
	claims, err := open(t, t.TempDir()).Claims()
	if err != nil {
		t.Fatal(err)
	}
	if err := claims.Put(ctx, claim(mac, "alpha")); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	won := make(chan netip.Addr, 16)
	for i := range 16 {
		wait.Go(func() {
			from := netip.AddrFrom4([4]byte{192, 168, 1, byte(10 + i)})
			if claims.Update(ctx, mac, func(c *provision.Claim) error { return c.Consume(now, from) }) == nil {
				won <- from
			}
		})
	}
	wait.Wait()
	if len(won) != 1 {
		t.Errorf("%d machines consumed one claim", len(won))
	}
}
