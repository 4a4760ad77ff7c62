//go:build linux

package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/test/machine"
)

// Whoever holds another machine's claim gets nothing for it: not before that
// machine has used it, nor after; and a claim that has expired installs nothing.
func TestReplayedStolenAndExpiredClaimsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{workers: 2, pxe: "{claimTTL: 1m}"})
	w.seed()
	host, err := w.lab.Network.Attach("thief", netip.MustParsePrefix("10.77.0.66/24"), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	thief := &machine.Machine{Name: "thief", Host: host}
	const victim, late = "worker01", "worker02"

	// Without their cables both machines cannot use their claims.
	w.cut(victim, true)
	w.cut(late, true)
	w.declare(victim, late)
	stolen := w.openClaim(victim)
	old := w.openClaim(late)
	service, ca := w.service()

	w.refused(thief, ca, service+"/v1/credentials", stolen.ID, "a stolen claim that was not used yet")
	w.told(victim, "10.77.0.66")
	w.refused(thief, ca, service+"/v1/credentials", "a-guess", "a guessed claim")
	w.refusedReport(thief, ca, service+"/v1/report", stolen.ID)

	w.cut(victim, false)
	w.awaitMembers(4*time.Minute, first, victim)
	w.refused(thief, ca, service+"/v1/credentials", stolen.ID, "a stolen claim that was used")
	// Until the operator closes it, the machine itself may ask again for a short grace.
	w.await("the claim to be closed", time.Minute, func(context.Context) []string {
		if c, ok := w.claim(victim); ok {
			return []string{string(c.State(time.Now()))}
		}
		return nil
	})
	w.refused(w.machines[victim], ca, service+"/v1/credentials", stolen.ID, "a claim that is exchanged again by its machine")
	if got := w.wipesOf(victim); got != 1 {
		t.Errorf("%s was wiped %d times, want once", victim, got)
	}

	w.await("the other claim to expire", 3*time.Minute, func(ctx context.Context) []string {
		if time.Now().Before(old.Expires) {
			return []string{"until " + old.Expires.String()}
		}
		return nil
	})
	if now, ok := w.claim(late); ok && now.ID != old.ID {
		t.Fatal("a new claim was opened at once, so that nothing can be said of the old one")
	}
	w.cut(late, false)
	w.machines[late].PressPower()
	w.await("the machine to have booted twice", time.Minute, func(context.Context) []string {
		if n := w.machines[late].Boots(); n < 2 {
			return []string{fmt.Sprintf("%d boots", n)}
		}
		return nil
	})
	if got := w.wipesOf(late); got != 0 {
		t.Errorf("%s was wiped %d times under a claim that had expired", late, got)
	}
	// The machine is blank and has no address: somebody takes the one that the claim
	// is for.
	if host, err = w.lab.Network.Attach("impostor", w.machines[late].Address, netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	w.refused(&machine.Machine{Name: "impostor", Host: host}, ca, service+"/v1/credentials", old.ID, "an expired claim")
	w.told(late, provision.RuleClaimExpired)
	w.settle()
}

// told waits until a refusal of which this is said stands in the Node's status, and is
// an event of it.
func (w *world) told(name, what string) {
	w.t.Helper()
	w.await("the refusal to be told of: "+what, time.Minute, func(ctx context.Context) (lack []string) {
		nodes, err := w.nodes(ctx)
		if err != nil {
			return []string{err.Error()}
		}
		b := nodes[name].Status.Boot
		if b == nil || !slices.ContainsFunc(b.Stages, func(s v1alpha1.BootStage) bool {
			return s.Stage == string(pxe.StageRefused) && strings.Contains(s.Message, what)
		}) {
			lack = append(lack, fmt.Sprintf("the status says %+v", b))
		}
		events, err := w.kube.CoreV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{FieldSelector: "reason=Refused,involvedObject.name=" + name})
		if err != nil {
			return append(lack, err.Error())
		}
		if !slices.ContainsFunc(events.Items, func(e corev1.Event) bool { return strings.Contains(e.Message, what) }) {
			lack = append(lack, fmt.Sprintf("no event of %d says so", len(events.Items)))
		}
		return lack
	})
}

// claim is a machine's current claim.
func (w *world) claim(name string) (provision.Claim, bool) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	secret, err := w.kube.CoreV1().Secrets(names.DefaultPXENamespace).Get(ctx, names.ClaimSecret(name), metav1.GetOptions{})
	if err != nil {
		return provision.Claim{}, false
	}
	return claimOf(secret)
}

// openClaim waits for a machine's claim.
func (w *world) openClaim(name string) (out provision.Claim) {
	w.t.Helper()
	w.await("an open claim of "+name, 3*time.Minute, func(ctx context.Context) []string {
		c, ok := w.claim(name)
		if !ok || c.State(time.Now()) != provision.StateOpen {
			return []string{"there is none"}
		}
		out = c
		return nil
	})
	return out
}

// service is where a PXE pod serves HTTPS, and the authority that vouches for it.
func (w *world) service() (url, ca string) {
	w.t.Helper()
	w.await("a PXE pod that is ready", 3*time.Minute, func(ctx context.Context) []string {
		var clusters v1alpha1.ClusterList
		if err := w.api.List(ctx, &clusters); err != nil {
			return []string{err.Error()}
		}
		for _, p := range clusters.Items[0].Status.PXE {
			if p.Ready {
				url = fmt.Sprintf("https://%s:%d", p.Address, names.HTTPSPort)
			}
		}
		secret, err := w.kube.CoreV1().Secrets(names.DefaultPXENamespace).Get(ctx, names.ServingSecret, metav1.GetOptions{})
		if err != nil {
			return []string{err.Error()}
		}
		ca = string(secret.Data[names.KeyAuthority])
		if url == "" {
			return []string{"none is ready"}
		}
		return nil
	})
	return url, ca
}

// refused asks for credentials and wants 403 with no secret in it.
func (w *world) refused(from *machine.Machine, ca, url, claim, what string) {
	w.t.Helper()
	answer, err := machine.Call(w.t.Context(), from.Client(ca), "POST", url, claim, nil)
	var refusal *machine.Refusal
	if !errors.As(err, &refusal) || !strings.HasPrefix(refusal.Status, "403") {
		w.t.Errorf("%s: answered %d bytes, %v; want 403", what, len(answer), err)
		return
	}
	if strings.Contains(refusal.Body, claim) && len(claim) > 20 || strings.Contains(refusal.Body, "K10") {
		w.t.Errorf("%s: the refusal holds a secret: %s", what, refusal.Body)
	}
	w.t.Logf("%s: %s", what, strings.TrimSpace(refusal.Body))
}

func (w *world) refusedReport(from *machine.Machine, ca, url, claim string) {
	w.t.Helper()
	body, err := json.Marshal(map[string]string{"stage": "Installed"})
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = machine.Call(w.t.Context(), from.Client(ca), "POST", url, claim, body)
	var refusal *machine.Refusal
	if !errors.As(err, &refusal) || !strings.HasPrefix(refusal.Status, "403") {
		w.t.Errorf("a report under a claim that was not consumed: %v, want 403", err)
	}
}
