//go:build linux

package fleet

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/test/lab"
	"github.com/rhizome-dev/rhizome/test/lab/repository"
	"github.com/rhizome-dev/rhizome/test/machine"
)

// realParts is what machines of QEMU need: `make build` has to have run.
type realParts struct {
	names   []string // the machines that are of QEMU
	release repository.Release
	system  lab.OSImage
	// bootFiles, operator and bootstrapper are what is shipped.
	bootFiles, operator, bootstrapper string
}

// medium is a file of the internet.
type medium struct{ Name, SHA256 string }

func newRealParts(t testing.TB, machines ...string) *realParts {
	t.Helper()
	dist, err := filepath.Abs("../../dist")
	if err != nil {
		t.Fatal(err)
	}
	p := &realParts{
		names: machines, bootFiles: filepath.Join(dist, "boot"),
		operator: filepath.Join(dist, "rhizome-operator.oci.tar"), bootstrapper: filepath.Join(dist, "bootstrapper"),
	}
	for _, path := range []string{p.bootFiles, p.operator, p.bootstrapper} {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("%v: run `make build` first", err)
		}
	}
	if p.release, err = repository.StandIn(t.Context(), "../k3s/build.sh"); err != nil {
		t.Fatal(err)
	}
	if p.system, err = lab.BuildImage(t.Context(), t.Output()); err != nil {
		t.Fatal(err)
	}
	return p
}

// with declares what machines of QEMU need, and has it on the internet.
func (d *declaration) with(w *world, p *realParts) {
	w.t.Helper()
	publish := func(from, name, digest string) medium {
		if err := os.Symlink(strings.TrimPrefix(from, "file://"), filepath.Join(w.dir, "media", name)); err != nil {
			w.t.Fatal(err)
		}
		return medium{name, digest}
	}
	d.K3s = publish(p.release.Binary.URL, "k3s", p.release.Binary.SHA256).SHA256
	for _, image := range p.release.Images {
		d.Images = append(d.Images, publish(image.URL, filepath.Base(image.URL), image.SHA256))
	}
	system := publish(p.system.Path, filepath.Base(p.system.Path), p.system.SHA256)
	d.System = &system
	if slices.Contains(p.names, first) {
		d.FirstOperatingSystem = realSystem
	}
	w.built.programs.Boot, w.built.bootstrapper = p.bootFiles, p.bootstrapper
}

// realSystem is the OperatingSystem of machines of QEMU.
const realSystem = "debian"

// plugInReal adds a machine of QEMU with UEFI firmware: off and blank, with a card that
// magic packets wake.
func (w *world) plugInReal(name string, role v1alpha1.Role, address netip.Addr) {
	w.t.Helper()
	config := lab.MachineConfig{Name: name, MAC: macOf(address), Memory: 2048, CPUs: 1}
	if role == v1alpha1.ControlPlane {
		config.Memory, config.CPUs = 4096, 2
	}
	m, err := w.lab.Machine(config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.real[name] = m
	w.declared[name] = &v1alpha1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.NodeSpec{
			Role: role, MAC: v1alpha1.MAC(config.MAC.String()), Address: v1alpha1.Address(address.String()), OperatingSystem: realSystem,
		},
	}
}

// emulated are the operator's values where a server is an emulated machine.
const emulated = "extraArgs: [--lease=4m]\n"

// A worker and the machine that was seeded first, both of QEMU with real firmware, lose
// their power and what is on their disks, and come back as members without a person: the
// worker by magic packets, the first by its board. The other servers are simulated
// machines, whose control planes are real: three emulated ones at once are too much for a
// small host.
func TestMachinesOfRealFirmwareAreHealed(t *testing.T) {
	worker := workerName(0)
	parts := newRealParts(t, first, worker)
	w := newWorld(t, options{
		servers: 2, workers: 1, pxe: "{pods: Always}", real: parts,
		// All servers judge by the times of the slowest.
		prepare: func(m *machine.Machine) { m.ServerArgs = nil },
	})
	board := w.giveBoards(func(string, bool) {}, first)
	// The manifests of the seed name no board: nobody has the Secret yet.
	power := w.declared[first].Spec.Power
	w.seedWithin(25*time.Minute, "--operator-image="+parts.operator, "--values="+w.write("values.yaml", []byte(emulated)))
	w.bringBoardSecret(board)
	w.insist("say that the first machine has a board", func(ctx context.Context) error {
		n := &v1alpha1.Node{}
		if err := w.api.Get(ctx, client.ObjectKey{Name: first}, n); err != nil {
			return err
		}
		n.Spec.Power = power
		return w.api.Update(ctx, n)
	})
	w.declare(w.names("")[1:]...)
	w.awaitMembers(40*time.Minute, w.names("")...)
	w.awaitCondition(first, v1alpha1.ConditionAdopted, metav1.ConditionTrue, v1alpha1.ReasonConfigRewritten, 10*time.Minute)
	w.insist("turn healing on, with the schema's least times", func(ctx context.Context) error {
		const patch = `{"spec":{"healing":{"mode":"Enabled","unhealthyAfter":"1m","coolDown":"1m","power":{"tries":1,"timeout":"2m"}}}}`
		return w.api.Patch(ctx, &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "home"}}, client.RawPatch("application/merge-patch+json", []byte(patch)))
	})

	t.Logf("on %s are: %s", worker, w.ours(worker))
	w.isHealedAfterWipe(worker)
	if told := board.Resets(); len(told) > 0 {
		t.Errorf("the board of the first machine was told %q while the worker was healed", told)
	}
	if n := w.real[worker].PowerOns(); n < 2 {
		t.Errorf("%s was powered on %d times", worker, n)
	}

	carried := w.ours(first)
	t.Logf("on %s are: %s", first, carried)
	if !slices.ContainsFunc(carried, func(pod string) bool { return strings.HasPrefix(pod, "rhizome-operator-") }) {
		t.Fatalf("the operator left %s by itself: its loss would prove less than it is to", first)
	}
	w.isHealedAfterWipe(first)
	if !slices.Contains(board.Resets(), first+" On") {
		t.Errorf("the board of %s was told %q, and never to turn it on", first, board.Resets())
	}
	w.awaitMembers(5*time.Minute, w.names("")...)
	for _, name := range parts.names {
		if n := w.claimsOf(name); n < 2 {
			t.Errorf("%s was installed twice, and had %d claims", name, n)
		}
	}
}

// isHealedAfterWipe takes a machine its power and what is on its disk, and waits until
// the cluster has made it a member again. It tells what was seen on the way.
func (w *world) isHealedAfterWipe(name string) {
	w.t.Helper()
	var before types.UID
	w.await(name+" in order", 10*time.Minute, func(ctx context.Context) []string {
		n, core, err := w.look(ctx, name)
		switch {
		case err != nil:
			return []string{err.Error()}
		case n == nil || core == nil || !isReady(core) || n.Status.Repair != nil && n.Status.Repair.Action != "":
			return []string{phase(n)}
		}
		before = core.UID
		return nil
	})
	if err := w.real[name].Wipe(); err != nil {
		w.t.Fatal(err)
	}
	at, said := time.Now(), ""
	tell := func(now string) {
		if now != said {
			said = now
			w.t.Logf("%s, %4s after it was wiped: %s", name, time.Since(at).Round(time.Second), now)
		}
	}
	w.await(name+" healed", 60*time.Minute, func(ctx context.Context) []string {
		n, core, err := w.look(ctx, name)
		if err != nil {
			return []string{err.Error()}
		}
		if n == nil {
			w.t.Fatalf("the Node %s is gone", name)
		}
		if r := n.Status.Repair; r != nil && r.Quarantined != nil {
			w.t.Fatalf("%s was given up: %s", name, r.Message)
		}
		state := string(n.Status.Phase)
		if r := n.Status.Repair; r != nil && r.Action != "" {
			state += ", " + string(r.Action)
		}
		tell(state)
		if core == nil || core.UID == before || !isReady(core) || n.Status.Phase != v1alpha1.PhaseReady || n.Status.Repair != nil && n.Status.Repair.Action != "" {
			return []string{phase(n)}
		}
		for _, r := range n.Status.Repairs {
			if r.Action == v1alpha1.RepairReinstall && r.Result == v1alpha1.ResultHealed && r.At.After(at) {
				return nil
			}
		}
		return []string{"no reinstallation is on record that healed it"}
	})
	if n, _, err := w.look(w.t.Context(), name); err == nil && n != nil {
		for _, r := range n.Status.Repairs {
			w.t.Logf("%s: its record: %s %s %s: %s", name, r.At.UTC().Format(time.TimeOnly), r.Action, r.Result, r.Message)
		}
	}
}

// look reads a Node and its core Node; nil: it is not there.
func (w *world) look(ctx context.Context, name string) (*v1alpha1.Node, *corev1.Node, error) {
	n, core := &v1alpha1.Node{}, &corev1.Node{}
	if err := w.api.Get(ctx, client.ObjectKey{Name: name}, n); apierrors.IsNotFound(err) {
		n = nil
	} else if err != nil {
		return nil, nil, err
	}
	if err := w.api.Get(ctx, client.ObjectKey{Name: name}, core); apierrors.IsNotFound(err) {
		core = nil
	} else if err != nil {
		return nil, nil, err
	}
	return n, core, nil
}

// ours are the operator's and the PXE pods that run on a machine.
func (w *world) ours(name string) []string {
	w.t.Helper()
	var out []string
	w.insist("list the pods on "+name, func(ctx context.Context) error {
		out = nil
		for _, namespace := range []string{names.SystemNamespace, names.DefaultPXENamespace} {
			pods, err := w.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + name})
			if err != nil {
				return err
			}
			for _, p := range pods.Items {
				out = append(out, p.Name)
			}
		}
		return nil
	})
	return out
}
