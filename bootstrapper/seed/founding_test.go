package seed

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestAClusterIsFoundedOnlyWhereNothingAnswers(t *testing.T) {
	one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	claim := func(change func(*provision.Claim)) *provision.Claim {
		c := &provision.Claim{Node: "alpha", Opened: at.Add(-time.Hour), Expires: at.Add(time.Hour)}
		change(c)
		return c
	}
	consumed := claim(func(c *provision.Claim) { c.ConsumedAt = at })
	for _, c := range []struct {
		name    string
		seen    []answer
		claim   *provision.Claim
		ended   time.Time // when a seed came to its end
		want    plan
		refused string // part of the error
	}{
		{name: "nothing anywhere, never installed", seen: []answer{nothing, nothing}, want: found},
		{name: "nothing anywhere, an open claim", seen: []answer{nothing, nothing}, claim: claim(func(*provision.Claim) {}), want: found},
		{name: "nothing anywhere, the installation failed", seen: []answer{nothing, nothing},
			claim: claim(func(c *provision.Claim) { c.ConsumedAt, c.FailedAt = at, at }), want: found},
		{name: "nothing anywhere, being installed", seen: []answer{nothing, nothing}, claim: consumed, want: finish},
		{name: "nothing anywhere, has its credentials", seen: []answer{nothing, nothing},
			claim: claim(func(c *provision.Claim) { c.ConsumedAt, c.ExchangedAt = at, at }), want: finish},
		{name: "a finished cluster that is off", seen: []answer{nothing, nothing}, ended: at,
			claim: claim(func(c *provision.Claim) { c.ConsumedAt, c.ExchangedAt = at, at }), want: finish},
		{name: "a finished cluster that is off, the first node is another by now", seen: []answer{nothing, nothing}, ended: at, refused: "finished at"},
		{name: "a finished cluster that is off, its node has an unused claim", seen: []answer{nothing, nothing}, ended: at,
			claim: claim(func(*provision.Claim) {}), refused: "finished at"},
		{name: "a finished cluster that answers", seen: []answer{nothing, ours}, ended: at, want: goOnLiving},
		{name: "ours answers", seen: []answer{ours, nothing}, claim: consumed, want: goOnLiving},
		{name: "ours answers, the claims were lost", seen: []answer{nothing, ours}, want: goOnLiving},
		{name: "another cluster at one address", seen: []answer{nothing, foreign}, refused: "10.0.0.2"},
		{name: "ours at one address, another at the other", seen: []answer{ours, foreign}, claim: consumed, refused: "10.0.0.2"},
		{name: "somebody unclear", seen: []answer{unclear, nothing}, refused: "10.0.0.1"},
		{name: "somebody unclear while ours is installed", seen: []answer{unclear, nothing}, claim: consumed, refused: "10.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := judge([]sighting{{one, c.seen[0], "that"}, {two, c.seen[1], "that"}}, c.claim, c.ended)
			if c.refused != "" {
				var fix fixable
				if err == nil || !strings.Contains(err.Error(), c.refused) || !errors.As(err, &fix) {
					t.Fatalf("error = %v, want a refusal that names %s and says what to do", err, c.refused)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("judge = %v, %v; want %v", got, err, c.want)
			}
		})
	}
}

func TestWhoWasNotWaitedForMayBeThere(t *testing.T) {
	over, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, ctx := range map[string]context.Context{"the phase's time is over": over, "interrupted": gone} {
		if got := lookAt(ctx, netip.MustParseAddrPort("127.0.0.1:1"), nil); got.answer != unclear {
			t.Errorf("%s: lookAt = %+v, want unclear: a cluster must not be founded on it", name, got)
		}
	}
}

func TestEveryControlPlaneAddressIsLookedAt(t *testing.T) {
	vip := v1alpha1.Address("10.0.0.9")
	node := func(role v1alpha1.Role, address v1alpha1.Address) v1alpha1.Node {
		return v1alpha1.Node{Spec: v1alpha1.NodeSpec{Role: role, Address: address}}
	}
	got := endpoints(inventory.Inventory{
		Clusters: []v1alpha1.Cluster{{Spec: v1alpha1.ClusterSpec{ControlPlane: v1alpha1.ControlPlaneSpec{VirtualIP: &vip}}}},
		Nodes: []v1alpha1.Node{node(v1alpha1.ControlPlane, "10.0.0.1"), node(v1alpha1.Worker, "10.0.0.2"),
			node(v1alpha1.ControlPlane, "10.0.0.3"), node(v1alpha1.ControlPlane, "10.0.0.1")},
	})
	if want := "[10.0.0.9 10.0.0.1 10.0.0.3]"; want != sprint(got) {
		t.Errorf("endpoints = %v, want %s", got, want)
	}
}

func sprint(addresses []netip.Addr) string {
	var out []string
	for _, a := range addresses {
		out = append(out, a.String())
	}
	return "[" + strings.Join(out, " ") + "]"
}

func TestWhatAFailedConnectionMeans(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", err)} }
	for _, c := range []struct {
		err  error
		want answer
	}{
		{dial(syscall.ECONNREFUSED), nothing}, // a machine without an API server
		{dial(syscall.EHOSTUNREACH), nothing}, // nobody answers ARP
		{dial(syscall.EHOSTDOWN), nothing},    // the same on macOS
		{dial(syscall.ETIMEDOUT), nothing},    // a machine that drops packets, or is off
		{context.DeadlineExceeded, nothing},
		{dial(syscall.ENETUNREACH), unclear}, // our own cable is out
		{dial(syscall.EACCES), unclear},      // our own firewall
		{errors.New("no idea"), unclear},
	} {
		if got := dialled(c.err); got != c.want {
			t.Errorf("%v means %v, want %v", c.err, got, c.want)
		}
	}
}

// serve runs a TLS server with a certificate of the authority that answers
// /cacerts as told.
func serve(t *testing.T, authority k3s.Authority, handler http.Handler) netip.AddrPort {
	t.Helper()
	certificate, key, err := authority.Sign(x509.Certificate{
		Subject: pkix.Name{CommonName: "k3s"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func TestWhoAnswersIsToldByItsAuthority(t *testing.T) {
	mine, err := k3s.NewAuthority("mine", at)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := k3s.NewAuthority("theirs", at)
	if err != nil {
		t.Fatal(err)
	}
	cacerts := func(content []byte) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/cacerts" {
				t.Errorf("asked for %s", r.URL.Path)
			}
			_, _ = w.Write(content)
		})
	}
	failing := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	raw := func(greeting string) netip.AddrPort {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte(greeting))
				conn.Close()
			}
		}()
		return netip.MustParseAddrPort(l.Addr().String())
	}
	closed := func() netip.AddrPort {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return netip.MustParseAddrPort(l.Addr().String())
	}
	for _, c := range []struct {
		name string
		at   netip.AddrPort
		want answer
	}{
		{"our authority at /cacerts", serve(t, mine, cacerts(mine.Certificate)), ours},
		{"our server that is not ready yet", serve(t, mine, failing), ours},
		{"another authority at /cacerts", serve(t, theirs, cacerts(theirs.Certificate)), foreign},
		{"another cluster that is not ready yet", serve(t, theirs, failing), foreign},
		{"a web server", serve(t, theirs, cacerts([]byte("<html>"))), foreign},
		{"no TLS", raw("SSH-2.0-OpenSSH_9.2\r\n"), foreign},
		{"a connection that is closed at once", raw(""), unclear},
		{"nobody", closed(), nothing},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := lookAt(t.Context(), c.at, mine.Certificate)
			if got.answer != c.want || (got.detail == "" && c.want != nothing) {
				t.Errorf("lookAt = %+v, want answer %v", got, c.want)
			}
		})
	}
}

func TestALivingClusterIsSpokenToWhereItAnswers(t *testing.T) {
	first, second := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for _, c := range []struct {
		name string
		seen []sighting
		want string
	}{
		{"nothing was looked at", nil, "10.0.0.1"},
		{"nothing answers yet", []sighting{{first, nothing, ""}, {second, nothing, ""}}, "10.0.0.1"},
		{"all answer", []sighting{{second, ours, ""}, {first, ours, ""}}, "10.0.0.1"},
		{"the first node is down", []sighting{{first, nothing, ""}, {second, ours, ""}}, "10.0.0.2"},
	} {
		f := &flow{sighted: c.seen, first: &v1alpha1.Node{Spec: v1alpha1.NodeSpec{Address: "10.0.0.1"}}}
		if got := f.speaker(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
