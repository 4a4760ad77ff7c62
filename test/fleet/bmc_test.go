//go:build linux

package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/power"
	"github.com/rhizome-dev/rhizome/test/bmc"
	"github.com/rhizome-dev/rhizome/test/machine"
)

// wired is a simulated machine as a controller drives it: by its power alone.
type wired struct{ *machine.Machine }

func (w wired) Running() bool { return w.On() }

func (w wired) PowerOn(context.Context) error { w.PressPower(); return nil }

func (w wired) PowerOff() { w.Cut() }

func (w wired) Shutdown(context.Context) error { w.Cut(); return nil }

func (w wired) Reset(context.Context) error { w.Cut(); w.PressPower(); return nil }

// driven is a machine as a controller drives it.
func (w *world) driven(name string) bmc.Machine {
	if m := w.real[name]; m != nil {
		return m
	}
	return wired{w.machines[name]}
}

// A worker that no magic packet wakes is turned on through its controller by the
// operator, beside one that the PXE pods wake.
func TestAWorkerWithAControllerIsTurnedOnByTheOperator(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{workers: 2})
	name := workerName(0)
	const password = "correct horse battery staple"
	board := bmc.New("admin", password)
	board.Add("1", wired{w.machines[name]})
	host, err := w.lab.Network.Attach("board", netip.MustParsePrefix("10.77.0.4/24"), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := host.Listen("tcp4", "10.77.0.4:443")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- board.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	der, err := board.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	pin := v1alpha1.SHA256(hex.EncodeToString(sum[:]))
	w.declared[name].Spec.Power = &v1alpha1.PowerSpec{Redfish: &v1alpha1.RedfishSpec{
		Endpoint: "https://10.77.0.4", Credentials: v1alpha1.SecretReference{Name: "worker-bmc"}, Fingerprint: &pin,
	}}
	w.seed()
	if err := w.api.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: names.SystemNamespace, Name: "worker-bmc"},
		Data:       map[string][]byte{power.KeyUsername: []byte("admin"), power.KeyPassword: []byte(password)},
	}); err != nil {
		t.Fatal(err)
	}
	w.declare(w.names(v1alpha1.Worker)...)
	w.awaitMembers(8*time.Minute, w.names("")...)
	if diff := cmp.Diff([]string{"1 On"}, board.Resets()); diff != "" {
		t.Errorf("what its controller was asked (-want +got):\n%s", diff)
	}
	// A visit may just be going on.
	w.insist("see every session ended", func(context.Context) error {
		if open, ever := board.Sessions(); open != 0 || ever == 0 {
			return fmt.Errorf("%d of %d sessions are open", open, ever)
		}
		return nil
	})
	if got := w.wipesOf(name); got != 1 {
		t.Errorf("it was wiped %d times, want once", got)
	}
	w.settle()
}
