//go:build linux

package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/power"
	"github.com/rhizome-dev/rhizome/test/bmc"
	"github.com/rhizome-dev/rhizome/test/machine"
)

// Machines that take a second where others take minutes need an operator and a
// Kubernetes of as little patience: else most of a test is waiting. Nothing that
// decides is changed, but times.

// The times of a hasty cluster.
const (
	heartbeat      = 2 * time.Second
	notReadyAfter  = 10 * time.Second // of the controller manager
	unhealthyAfter = 5 * time.Second
	coolDown       = 12 * time.Second
	rebootTimeout  = 40 * time.Second
	powerTimeout   = 30 * time.Second
	reinstallBegin = 40 * time.Second
)

// hastyMachine gives a machine's kubelet and controllers short times.
func hastyMachine(m *machine.Machine) {
	m.Heartbeat = heartbeat
	m.ServerArgs = []string{
		"--kube-controller-manager-arg=leader-elect-lease-duration=15s", "--kube-controller-manager-arg=leader-elect-renew-deadline=10s",
		"--kube-controller-manager-arg=leader-elect-retry-period=2s",
		"--kube-scheduler-arg=leader-elect-lease-duration=15s", "--kube-scheduler-arg=leader-elect-renew-deadline=10s",
		"--kube-scheduler-arg=leader-elect-retry-period=2s",
		"--kube-controller-manager-arg=node-monitor-grace-period=" + notReadyAfter.String(), "--kube-controller-manager-arg=node-monitor-period=1s",
	}
}

// hastyArgs are the operator's, as the chart's extraArgs gives them.
var hastyArgs = []string{
	"--lease=8s", "--healing-interval=1s", "--healing-settle=2s", "--healing-back-off=1s",
	"--reach-interval=2s", "--silent-patience=5s", "--etcd-settle=3s",
}

// hasten gives the operator short times, and turns healing on. The schema's least
// times are for people, and are taken down in this cluster.
func (w *world) hasten() {
	w.t.Helper()
	w.insist("take the schema's least times down", func(ctx context.Context) error {
		crd := &unstructured.Unstructured{}
		crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
		if err := w.api.Get(ctx, client.ObjectKey{Name: "clusters.rhizome.dev"}, crd); err != nil {
			return err
		}
		content, err := crd.MarshalJSON()
		if err != nil {
			return err
		}
		const least, now = `duration('1m')`, `duration('1s')`
		if !bytes.Contains(content, []byte(least)) {
			return nil // it was done, or what follows is refused
		}
		if err := json.Unmarshal(bytes.ReplaceAll(content, []byte(least), []byte(now)), &crd.Object); err != nil {
			return err
		}
		return w.api.Update(ctx, crd)
	})
	w.insist("turn healing on", func(ctx context.Context) error {
		step := func(timeout time.Duration) string { return fmt.Sprintf(`{"tries":1,"timeout":%q}`, timeout) }
		patch := fmt.Sprintf(`{"spec":{"healing":{"mode":"Enabled","unhealthyAfter":%q,"coolDown":%q,"maxReinstallsPerDay":100,"reboot":%s,"power":%s,"reinstall":%s}}}`,
			unhealthyAfter, coolDown, step(rebootTimeout), step(powerTimeout), step(reinstallBegin))
		return w.api.Patch(ctx, &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "home"}}, client.RawPatch("application/merge-patch+json", []byte(patch)))
	})
	w.insist("give the operator short times", func(ctx context.Context) error {
		d, err := w.kube.AppsV1().Deployments(names.SystemNamespace).Get(ctx, names.LeaseName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		spec := &d.Spec.Template.Spec
		spec.Containers[0].Args = append(spec.Containers[0].Args, hastyArgs...)
		soon := int64(3)
		for i := range spec.Tolerations {
			if spec.Tolerations[i].TolerationSeconds != nil {
				spec.Tolerations[i].TolerationSeconds = &soon
			}
		}
		_, err = w.kube.AppsV1().Deployments(names.SystemNamespace).Update(ctx, d, metav1.UpdateOptions{})
		return err
	})
}

// boardSecret holds the password of the virtual board.
const boardSecret = "boards"

// giveBoards puts machines behind one virtual board, of which each is a system.
func (w *world) giveBoards(told func(name string, off bool), machines ...string) *bmc.Controller {
	w.t.Helper()
	board := bmc.New("admin", "correct horse battery staple")
	board.Habits.MaxSessions = 64
	const at = "10.77.0.4"
	host, err := w.lab.Network.Attach("board", netip.MustParsePrefix(at+"/24"), netip.Addr{})
	if err != nil {
		w.t.Fatal(err)
	}
	listener, err := host.Listen("tcp4", at+":443")
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- board.Serve(ctx, listener) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
	der, err := board.Certificate()
	if err != nil {
		w.t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	pin := v1alpha1.SHA256(hex.EncodeToString(sum[:]))
	for _, name := range machines {
		board.Add(name, overheard{w.driven(name), func(off bool) { told(name, off) }})
		w.declared[name].Spec.Power = &v1alpha1.PowerSpec{Redfish: &v1alpha1.RedfishSpec{
			Endpoint: "https://" + at, SystemID: name, Credentials: v1alpha1.SecretReference{Name: boardSecret}, Fingerprint: &pin,
		}}
	}
	return board
}

// bringBoardSecret makes the Secret that the boards' password is in.
func (w *world) bringBoardSecret(board *bmc.Controller) {
	w.t.Helper()
	w.insist("make the boards' Secret", func(ctx context.Context) error {
		return client.IgnoreAlreadyExists(w.api.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: names.SystemNamespace, Name: boardSecret},
			Data:       map[string][]byte{power.KeyUsername: []byte(board.Username), power.KeyPassword: []byte(board.Password)},
		}))
	})
}

// overheard is a machine whose power orders are told.
type overheard struct {
	bmc.Machine
	told func(off bool)
}

func (o overheard) PowerOn(ctx context.Context) error { o.told(false); return o.Machine.PowerOn(ctx) }

func (o overheard) PowerOff() { o.told(true); o.Machine.PowerOff() }

func (o overheard) Reset(ctx context.Context) error { o.told(true); return o.Machine.Reset(ctx) }

func (o overheard) Shutdown(ctx context.Context) error { o.told(true); return o.Machine.Shutdown(ctx) }
