package seed

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// answer is what was found at an address where a control plane would be.
type answer int

const (
	nothing answer = iota // nobody listens, or nobody is there
	ours                  // our own cluster: its authority is the one that we made
	foreign               // a control plane, or anything with TLS, that is not ours
	unclear               // somebody is there, or we could not look
)

// sighting is one address and what was found there.
type sighting struct {
	address netip.Addr
	answer  answer
	detail  string // for people
}

// apiPort is where k3s serves the API and /cacerts.
const apiPort = 6443

// endpoints are the addresses at which the cluster answers if it exists: the
// virtual IP and every declared control-plane node. Addresses that cannot be
// read were refused before.
func endpoints(inv inventory.Inventory) []netip.Addr {
	var out []netip.Addr
	seen := map[netip.Addr]bool{}
	add := func(s string) {
		if a, err := netip.ParseAddr(s); err == nil && !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	for _, c := range inv.Clusters {
		if ip := c.Spec.ControlPlane.VirtualIP; ip != nil {
			add(string(*ip))
		}
	}
	for _, n := range inv.Nodes {
		if n.Spec.Role == v1alpha1.ControlPlane {
			add(string(n.Spec.Address))
		}
	}
	return out
}

// plan is what a seed does about the cluster.
type plan int

const (
	// found: nothing answers and nothing was installed: a new cluster.
	found plan = iota
	// finish: nothing answers, and the first node was installed by us.
	finish
	// goOnLiving: our own cluster answers.
	goOnLiving
)

// judge decides whether a cluster may be founded. claim is the first node's, nil
// if it never had one; finished is when a seed of this cluster first came to its
// end, zero before. In doubt it refuses: a second cluster, or a wiped member,
// cannot be undone.
func judge(sightings []sighting, claim *provision.Claim, finished time.Time) (plan, error) {
	living := false
	for _, s := range sightings {
		switch s.answer {
		case foreign:
			return 0, withFix(fmt.Errorf("%s answers at %s, so no cluster is founded", s.detail, s.address),
				"if it is your cluster, use the --state directory that it was seeded with; if the address is another machine's, correct spec.address of the Node or spec.controlPlane.virtualIP of the Cluster; if it is an old cluster, turn it off first")
		case unclear:
			return 0, withFix(fmt.Errorf("cannot tell whether a cluster answers at %s (%s), so none is founded", s.address, s.detail),
				"see what is at that address and whether this machine's network works, then %s", goOn)
		case ours:
			living = true
		}
	}
	switch {
	case living:
		return goOnLiving, nil
	case claim != nil && !claim.ConsumedAt.IsZero() && claim.FailedAt.IsZero():
		return finish, nil
	case !finished.IsZero():
		return 0, withFix(fmt.Errorf("this cluster was finished at %s and nothing of it answers, so none is founded in its place", finished.Local().Format(time.DateTime)),
			"turn its machines on, then %s; to begin anew, with nothing of it alive, name another directory with --state", goOn)
	}
	return found, nil
}

// look finds out what is at the addresses, all at once.
func look(ctx context.Context, addresses []netip.Addr, ca []byte) []sighting {
	out := make([]sighting, len(addresses))
	done := make(chan struct{})
	for i, a := range addresses {
		go func() {
			out[i] = lookAt(ctx, netip.AddrPortFrom(a, apiPort), ca)
			done <- struct{}{}
		}()
	}
	for range addresses {
		<-done
	}
	return out
}

// lookTimeout is long beside a handshake on a local network.
const lookTimeout = 5 * time.Second

// lookAt finds out what listens at one address. ca is our own server authority in
// PEM.
func lookAt(ctx context.Context, at netip.AddrPort, ca []byte) sighting {
	s := sighting{address: at.Addr()}
	asked := ctx
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", at.String())
	if err != nil {
		s.answer, s.detail = dialled(err), err.Error()
		// Who was not waited for may be there all the same.
		if asked.Err() != nil {
			s.answer = unclear
		}
		return s
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	// Who it is shall be found out, whoever vouches for it.
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: at.Addr().String()})
	if err := secure.HandshakeContext(ctx); err != nil {
		var record tls.RecordHeaderError
		s.answer, s.detail = unclear, "it listens and says nothing that can be understood: "+err.Error()
		if errors.As(err, &record) {
			s.answer, s.detail = foreign, fmt.Sprintf("something that is no API server (it speaks no TLS on port %d)", at.Port())
		}
		return s
	}
	switch served, err := cacerts(ctx, secure); {
	case err == nil && bytes.Equal(bytes.TrimSpace(served), bytes.TrimSpace(ca)):
		s.answer, s.detail = ours, "our own cluster"
	case vouches(ca, secure.ConnectionState().PeerCertificates):
		// k3s does not answer /cacerts in its first moments.
		s.answer, s.detail = ours, "our own cluster, starting"
	case err == nil && bytes.Contains(served, []byte("BEGIN CERTIFICATE")):
		s.answer, s.detail = foreign, "another cluster (its authority is not ours)"
	default:
		s.answer, s.detail = foreign, "something that is not our cluster"
	}
	return s
}

// dialled says what a failed connection means. Only what a machine that is off,
// or has no API server, brings about means that nothing is there.
func dialled(err error) answer {
	var timeout net.Error
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.EHOSTDOWN) ||
		errors.As(err, &timeout) && timeout.Timeout() {
		return nothing
	}
	return unclear
}

// cacerts asks k3s for its authorities over a connection that stands.
func cacerts(ctx context.Context, conn net.Conn) ([]byte, error) {
	client := &http.Client{Transport: &http.Transport{
		DialTLSContext:    func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives: true,
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://cluster/cacerts", nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("/cacerts: %s", answer.Status)
	}
	return body, err
}

// vouches says whether our authority signed the certificate that was shown.
func vouches(ca []byte, shown []*x509.Certificate) bool {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) || len(shown) == 0 {
		return false
	}
	_, err := shown[0].Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err == nil
}

// describe lists sightings for people.
func describe(sightings []sighting) string {
	var out []string
	for _, s := range sightings {
		what := "nothing answers"
		if s.answer != nothing {
			what = s.detail
		}
		out = append(out, fmt.Sprintf("%s: %s", s.address, what))
	}
	return strings.Join(out, ", ")
}
