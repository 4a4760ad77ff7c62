//go:build linux

package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/manifests"
	"github.com/rhizome-dev/rhizome/test/lab"
	"github.com/rhizome-dev/rhizome/test/lab/repository"
)

// machinesOf are a lab's machines with these roles: S a server, W a worker.
func machinesOf(roles string) []machineState {
	var all []machineState
	for i := range len(roles) {
		config, role := keepOptions{firmware: "UEFI", machines: len(roles), servers: strings.Count(roles, "S")}.machine(i + 1)
		all = append(all, machineState{Name: config.Name, Role: role, Firmware: string(config.Firmware)})
	}
	return all
}

func TestWhoIsWiped(t *testing.T) {
	tests := []struct {
		roles, woken, withBoard string
		note                    bool
	}{
		{"SSSW", "node4", "node1", false},
		{"SSSWW", "node4", "node1", false},
		{"SWW", "node2", "node3", true},
		{"SW", "", "", false},
		{"SSS", "", "", false},
		{"S", "", "", false},
	}
	for _, tc := range tests {
		patients, note, err := choose(machinesOf(tc.roles))
		if tc.woken == "" {
			if err == nil || !strings.Contains(err.Error(), "--servers 3") {
				t.Errorf("%s: %v, %v, want an error that says how many it takes", tc.roles, patients, err)
			}
			continue
		}
		if err != nil || len(patients) != 2 || patients[0].Name != tc.woken || patients[0].board || patients[1].Name != tc.withBoard || !patients[1].board || (note != "") != tc.note {
			t.Errorf("%s: %+v, %q, %v", tc.roles, patients, note, err)
			continue
		}
		if patients[0].Firmware != string(lab.UEFI) {
			t.Errorf("%s: %s is woken, and its firmware is %s: one that is woken before it is to be installed must go on asking", tc.roles, tc.woken, patients[0].Firmware)
		}
	}
}

// What heal commits passes the checks, and leaves what was there.
func TestWhatHealDeclares(t *testing.T) {
	dir := t.TempDir()
	s := state{
		LAN: "10.77.0.0/24", Gateway: "10.77.0.1",
		Machines: []machineState{{Name: "node1", Role: "ControlPlane", MAC: "52:54:00:01:02:03", Address: "10.77.0.10", Disk: "node1-disk0"}},
	}
	digest := strings.Repeat("ab", 32)
	if err := s.writeRepository(dir, repository.Options{
		Release: repository.Release{Version: "v1.33.13+standin", Binary: repository.File{URL: "file:///cache/k3s", SHA256: digest}},
		Image:   lab.OSImage{Path: "/cache/os.raw.zst", SHA256: digest},
	}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "cluster.yaml")
	for range 2 { // a second time it changes nothing
		for path, of := range map[string]struct {
			kind   string
			fields map[string]any
		}{
			file: {"Cluster", map[string]any{
				"spec.healing":  map[string]any{"mode": "Enabled", "unhealthyAfter": "1m", "power": map[string]any{"tries": 1, "timeout": "2m"}},
				"spec.pxe.pods": "Always",
			}},
			filepath.Join(dir, repository.NodeFile("node1")): {"Node", map[string]any{"spec.power": map[string]any{"redfish": map[string]any{
				"endpoint": "https://10.77.0.3", "systemID": "node1", "fingerprint": digest, "credentials": map[string]any{"name": boardSecret},
			}}}},
		} {
			if err := set(path, of.kind, of.fields); err != nil {
				t.Fatal(err)
			}
		}
	}
	inv, findings, err := manifests.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range append(findings, inventory.Check(inv)...) {
		t.Errorf("%+v", finding)
	}
	c, err := inv.Cluster()
	if err != nil {
		t.Fatal(err)
	}
	if c.Spec.Healing.Mode != v1alpha1.HealingEnabled || *c.Spec.Healing.Power.Tries != 1 || c.Spec.PXE.Pods != v1alpha1.PXEAlways || c.Spec.PXE.Loader != "Auto" {
		t.Errorf("the Cluster says %+v, %+v", c.Spec.Healing, c.Spec.PXE)
	}
	if p := inv.Nodes[0].Spec.Power; p == nil || p.Redfish == nil || p.Redfish.SystemID != "node1" {
		t.Errorf("the Node says %+v", p)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(content), "# What the lab declares.") || strings.Count(string(content), "healing:") != 1 || len(inv.OperatingSystems) != 1 {
		t.Errorf("it became\n%s", content)
	}
	for path, kind := range map[string]string{file: "Bridge", filepath.Join(dir, "none.yaml"): "Cluster"} {
		if err := set(path, kind, nil); err == nil {
			t.Errorf("a %s in %s could be set", kind, path)
		}
	}
}

// The healing of a machine, from what the cluster shows at each stage.
func TestHowFarAHealingHasCome(t *testing.T) {
	w := wiped{At: time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC), UID: "old"}
	at := func(d time.Duration) metav1.Time { return metav1.NewTime(w.At.Add(d)) }
	record := func(when time.Duration, a v1alpha1.RepairAction, r v1alpha1.RepairResult) v1alpha1.RepairRecord {
		return v1alpha1.RepairRecord{At: at(when), Action: a, Result: r}
	}
	core := func(uid string, ready corev1.ConditionStatus) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}}}
	}
	const yes, unknown = corev1.ConditionTrue, corev1.ConditionUnknown
	acted := at(10 * time.Minute)
	earlier := []v1alpha1.RepairRecord{record(-time.Hour, v1alpha1.RepairReinstall, v1alpha1.ResultHealed)}
	vain := append(earlier, record(2*time.Minute, v1alpha1.RepairWake, v1alpha1.ResultTimedOut))
	healed := append(vain, record(10*time.Minute, v1alpha1.RepairReinstall, v1alpha1.ResultHealed))
	ready := []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}}
	tests := []struct {
		reason string
		status v1alpha1.NodeStatus
		core   *corev1.Node
		want   int
	}{
		{"nobody knows yet", v1alpha1.NodeStatus{Repairs: earlier, Conditions: ready}, core("old", yes), unseen},
		{"it is silent", v1alpha1.NodeStatus{Repairs: earlier}, core("old", unknown), seenSick},
		{"a step is written down", v1alpha1.NodeStatus{Repair: &v1alpha1.RepairStatus{Action: v1alpha1.RepairWake}}, core("old", unknown), firstStep},
		{"the step did not help", v1alpha1.NodeStatus{Repair: &v1alpha1.RepairStatus{}, Repairs: vain}, core("old", unknown), firstStep},
		{"it is to be installed, once etcd is saved", v1alpha1.NodeStatus{Repair: &v1alpha1.RepairStatus{Action: v1alpha1.RepairReinstall}, Repairs: vain}, core("old", unknown), firstStep},
		{"it is to be installed", v1alpha1.NodeStatus{Repair: &v1alpha1.RepairStatus{Action: v1alpha1.RepairReinstall, Acted: &acted}, Repairs: vain}, core("old", unknown), toInstall},
		{"its claim is open", v1alpha1.NodeStatus{Repair: &v1alpha1.RepairStatus{Action: v1alpha1.RepairReinstall, Acted: &acted}, Claim: &v1alpha1.ClaimStatus{State: "Open", Opened: acted}}, core("old", unknown), toInstall},
		{"its former claim says nothing", v1alpha1.NodeStatus{Claim: &v1alpha1.ClaimStatus{State: "Exchanged", Opened: at(-time.Hour)}}, core("old", unknown), seenSick},
		{"the installer has it", v1alpha1.NodeStatus{Repair: &v1alpha1.RepairStatus{Action: v1alpha1.RepairReinstall, Acted: &acted}, Claim: &v1alpha1.ClaimStatus{State: "Consumed", Opened: acted}}, nil, installs},
		{"it has joined", v1alpha1.NodeStatus{Repair: &v1alpha1.RepairStatus{Action: v1alpha1.RepairReinstall, Acted: &acted}}, core("new", unknown), installs},
		{"it is Ready, and that is not written down yet", v1alpha1.NodeStatus{Repair: &v1alpha1.RepairStatus{Action: v1alpha1.RepairReinstall, Acted: &acted}, Conditions: ready}, core("new", yes), installs},
		{"it is back", v1alpha1.NodeStatus{Repair: &v1alpha1.RepairStatus{}, Repairs: healed, Conditions: ready}, core("new", yes), isBack},
		{"it was back, and is sick again", v1alpha1.NodeStatus{Repair: &v1alpha1.RepairStatus{}, Repairs: healed}, core("new", unknown), installs},
		{"it is Ready without having been installed", v1alpha1.NodeStatus{Repairs: healed, Conditions: ready}, core("old", yes), installs},
	}
	for _, tc := range tests {
		n := &v1alpha1.Node{Status: tc.status}
		if got := w.stage(n, tc.core); got != tc.want {
			t.Errorf("%s: stage %d, want %d", tc.reason, got, tc.want)
		}
		if facts := w.chart("node4", n, tc.core); facts[0].ready != (tc.want == isBack) {
			t.Errorf("%s: it is waited for: %t", tc.reason, !facts[0].ready)
		}
	}
	if got := w.stage(nil, nil); got != unseen {
		t.Errorf("an undeclared machine: stage %d", got)
	}
}

func TestWhatIsPassedBetweenTwoLooksCountsAsReachedThen(t *testing.T) {
	start := time.Unix(0, 0)
	var reached timeline
	for minute, stage := range []int{unseen, seenSick, firstStep, firstStep, installs, firstStep, isBack} {
		reached.saw(stage, start.Add(time.Duration(minute)*time.Minute))
	}
	var got []string
	for _, line := range reached.lines(start) {
		fields := strings.Fields(line)
		got = append(got, fields[len(fields)-1])
	}
	if diff := cmp.Diff([]string{"1m0s", "1m0s", "2m0s", "0s", "2m0s", "6m0s"}, got); diff != "" {
		t.Errorf("how long each took (-want +got):\n%s", diff)
	}
}

func TestHowItWasTurnedOnIsHeldAgainstTheBoard(t *testing.T) {
	board, woken := patient{machineState: machineState{Name: "node1"}, board: true}, patient{machineState: machineState{Name: "node4"}}
	told := []string{"node1 ForceOff", "node1 On"}
	for _, tc := range []struct {
		p      patient
		resets []string
		bad    bool
	}{{board, told, false}, {board, nil, true}, {woken, told, false}, {woken, []string{"node4 On"}, true}} {
		if err := tc.p.checkPower(tc.resets); (err != nil) != tc.bad {
			t.Errorf("%s, %v: %v", tc.p.Name, tc.resets, err)
		}
	}
}

func TestWhichPodsMakeRoom(t *testing.T) {
	pod := func(name, component, on string, ready corev1.ConditionStatus) corev1.Pod {
		return corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{labelComponent: component}}, Spec: corev1.PodSpec{NodeName: on},
			Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
		}
	}
	all := ownPods{
		pod("operator", componentOperator, "node2", corev1.ConditionTrue),
		pod("pxe-1", componentPXE, "node1", corev1.ConditionTrue), pod("pxe-2", componentPXE, "node3", corev1.ConditionTrue),
	}
	moved := func(component string) (names []string) {
		for _, p := range all.misplaced(component, "node1") {
			names = append(names, p.Name)
		}
		return names
	}
	if got := moved(componentOperator); !slices.Equal(got, []string{"operator"}) {
		t.Errorf("of the operator %v are moved", got)
	}
	if got := moved(componentPXE); got != nil {
		t.Errorf("one is there, and %v are moved", got)
	}
	all[1] = pod("pxe-1", componentPXE, "node1", corev1.ConditionFalse)
	if got := moved(componentPXE); !slices.Equal(got, []string{"pxe-2"}) {
		t.Errorf("that one is not Ready, and %v are moved", got)
	}
	all[2] = pod("pxe-2", componentPXE, "", corev1.ConditionFalse)
	if got := moved(componentPXE); got != nil {
		t.Errorf("nobody runs elsewhere, and %v are moved", got)
	}
}

// disks stands for a machine.
type disks struct{ wiped, stuck bool }

func (d *disks) Wipe() error {
	if d.stuck {
		return errors.New("the disk is stuck")
	}
	d.wiped = true
	return nil
}

func TestTheKeeperIsAskedToWipe(t *testing.T) {
	good, bad := &disks{}, &disks{stuck: true}
	socket := filepath.Join(t.TempDir(), controlSocket)
	handler := control(map[string]wipeable{"node1": good, "node2": bad}, func() []string { return []string{"node1 On"} })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := serveControl(ctx, socket, handler); err != nil {
		t.Fatal(err)
	}
	k := keeper{socket}
	if err := k.wipe(ctx, "node1"); err != nil || !good.wiped {
		t.Errorf("wipe: %v, wiped: %t", err, good.wiped)
	}
	for name, want := range map[string]string{"node2": "the disk is stuck", "node3": "no machine of this name"} {
		if err := k.wipe(ctx, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wipe of %s: %v, want %q", name, err, want)
		}
	}
	if got, err := k.resets(ctx); err != nil || !slices.Equal(got, []string{"node1 On"}) {
		t.Errorf("resets: %v, %v", got, err)
	}
	cancel()
	if err := (keeper{filepath.Join(t.TempDir(), "none")}).wipe(t.Context(), "node1"); err == nil {
		t.Error("a lab that is gone was wiped")
	}
}

func TestWhicheverServerAnswersIsUsed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := dialAny(t.Context(), "tcp", []string{gone.Addr().String(), listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if conn.RemoteAddr().String() != listener.Addr().String() {
		t.Errorf("connected to %s", conn.RemoteAddr())
	}
	_ = conn.Close()
	if _, err := dialAny(t.Context(), "tcp", []string{gone.Addr().String()}); err == nil {
		t.Error("connected to nobody")
	}
	there, away := listener.Addr().String(), gone.Addr().String()
	for _, tc := range []struct {
		servers []string
		want    string
	}{{[]string{away, there}, there}, {[]string{there, away}, ""}, {[]string{away}, ""}, {[]string{there}, ""}, {[]string{away, away}, ""}} {
		if got := another(t.Context(), tc.servers); got != tc.want {
			t.Errorf("of the servers %v kubectl asks %q in place of the first, want %q", tc.servers, got, tc.want)
		}
	}
}
