package boot

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC)

func after(d time.Duration) time.Time { return t0.Add(d) }

func stamp(d time.Duration) metav1.Time { return metav1.NewTime(t0.Add(d)).Rfc3339Copy() }

func stamped(d time.Duration) *metav1.Time { t := stamp(d); return &t }

func TestWhoIsWoken(t *testing.T) {
	wake := &v1alpha1.RepairStatus{Action: v1alpha1.RepairWake, Acted: stamped(0)}
	paused := map[string]string{v1alpha1.AnnotationPaused: ""}
	for _, c := range []struct {
		reason string
		change func(*v1alpha1.Node, *v1alpha1.Cluster)
		want   bool
	}{
		{"a member", func(*v1alpha1.Node, *v1alpha1.Cluster) {}, false},
		{"it is to be installed", func(n *v1alpha1.Node, _ *v1alpha1.Cluster) { n.Status.Phase = v1alpha1.PhaseWaking }, true},
		{"healing wakes it", func(n *v1alpha1.Node, _ *v1alpha1.Cluster) { n.Status.Repair = wake }, true},
		{"healing is about to wake it", func(n *v1alpha1.Node, _ *v1alpha1.Cluster) {
			n.Status.Repair = &v1alpha1.RepairStatus{Action: v1alpha1.RepairWake}
		}, false},
		{"it has a board", func(n *v1alpha1.Node, _ *v1alpha1.Cluster) {
			n.Status.Phase, n.Spec.Power = v1alpha1.PhaseWaking, &v1alpha1.PowerSpec{Redfish: &v1alpha1.RedfishSpec{}}
		}, false},
		{"it is deleted", func(n *v1alpha1.Node, _ *v1alpha1.Cluster) {
			n.Status.Phase, n.DeletionTimestamp = v1alpha1.PhaseWaking, stamped(0)
		}, false},
		{"the Node was paused meanwhile", func(n *v1alpha1.Node, _ *v1alpha1.Cluster) { n.Status.Repair, n.Annotations = wake, paused }, false},
		{"the Cluster was paused meanwhile", func(n *v1alpha1.Node, c *v1alpha1.Cluster) {
			n.Status.Phase, c.Annotations = v1alpha1.PhaseWaking, paused
		}, false},
	} {
		n, cluster := v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: "beta"}}, v1alpha1.Cluster{}
		c.change(&n, &cluster)
		s, err := newSnapshot([]v1alpha1.Cluster{cluster}, nil, []v1alpha1.Node{n}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := asleep(s)["beta"] != nil; got != c.want {
			t.Errorf("%s: woken %t, want %t", c.reason, got, c.want)
		}
	}
	if got := asleep(nil); len(got) != 0 {
		t.Errorf("before anything was read: %v", got)
	}
}

func TestWhatTwoPodsSawIsMergedByStage(t *testing.T) {
	dhcp := pxe.Observation{Time: t0, Stage: pxe.StageDHCP, Message: "UEFI amd64: told to load snponly.efi",
		Machine: pxe.Machine{UUID: "4c4c4544-0033-3510-8054-b4c04f4d3132", Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFI}}
	installing := pxe.Observation{Time: after(time.Minute), Stage: pxe.StageInstalling, Message: "image", Done: 10, Total: 100}
	saw := func(all ...pxe.Observation) sighting {
		var s sighting
		for _, o := range all {
			s = s.with(o)
		}
		return s
	}
	stage := func(s pxe.Stage, d time.Duration, message string) v1alpha1.BootStage {
		return v1alpha1.BootStage{Stage: string(s), At: stamp(d), Message: message}
	}
	first := &v1alpha1.BootObservation{
		Stage: "DHCP", Message: dhcp.Message, Firmware: "UEFI", Architecture: "amd64", UUID: dhcp.Machine.UUID,
		LastSeen: stamped(0), Stages: []v1alpha1.BootStage{stage(pxe.StageDHCP, 0, dhcp.Message)},
	}
	both := first.DeepCopy()
	both.Stage, both.Message, both.LastSeen, both.Done, both.Total = "Installing", "image", stamped(time.Minute), 10, 100
	both.Stages = append(both.Stages, stage(pxe.StageInstalling, time.Minute, "image"))
	for _, c := range []struct {
		reason  string
		current *v1alpha1.BootObservation
		seen    sighting
		want    *v1alpha1.BootObservation
		changed bool
	}{
		{"nothing", nil, sighting{}, &v1alpha1.BootObservation{}, false},
		{"the first packet", nil, saw(dhcp), first, true},
		{"the same again", first, saw(dhcp), first, false},
		{"what another pod saw stays", first, saw(installing), both, true},
		{"what another pod saw later stays", both, saw(dhcp), both, false},
		{"the same moment, in fractions of a second", both, saw(pxe.Observation{Time: after(time.Minute + 200*time.Millisecond), Stage: pxe.StageInstalling, Message: "later"}), both, false},
		{"an old part of the image does not turn it back", both,
			saw(pxe.Observation{Time: after(30 * time.Second), Stage: pxe.StageInstalling, Message: "image", Done: 5, Total: 100}), both, false},
		{"a packet that tells less takes nothing away", both, saw(pxe.Observation{Time: after(2 * time.Minute), Stage: pxe.StageDHCP, Message: "no more"}),
			func() *v1alpha1.BootObservation {
				b := both.DeepCopy()
				b.Stage, b.Message, b.LastSeen = "DHCP", "no more", stamped(2*time.Minute)
				b.Stages = []v1alpha1.BootStage{stage(pxe.StageInstalling, time.Minute, "image"), stage(pxe.StageDHCP, 2*time.Minute, "no more")}
				return b
			}(), true},
		{"a system's request tells nothing of the firmware", nil, saw(pxe.Observation{Time: t0, Stage: pxe.StageMedia, Message: "k3s", Machine: pxe.Machine{Arch: pxe.ARM64}}),
			&v1alpha1.BootObservation{Stage: "Media", Message: "k3s", LastSeen: stamped(0), Stages: []v1alpha1.BootStage{stage(pxe.StageMedia, 0, "k3s")}}, true},
		{"texts are bounded", nil, saw(pxe.Observation{Time: t0, Stage: pxe.StageFailed, Message: strings.Repeat("ä", 5000), Machine: pxe.Machine{UUID: strings.Repeat("1", 100)}}),
			&v1alpha1.BootObservation{Stage: "Failed", Message: strings.Repeat("ä", 1023) + "…", LastSeen: stamped(0),
				Stages: []v1alpha1.BootStage{stage(pxe.StageFailed, 0, strings.Repeat("ä", 1023)+"…")}}, true},
	} {
		t.Run(c.reason, func(t *testing.T) {
			before := c.current.DeepCopy()
			got, changed := merge(c.current, c.seen)
			if diff := cmp.Diff(c.want, got); diff != "" || changed != c.changed {
				t.Errorf("changed: %v, want %v (-want +got):\n%s", changed, c.changed, diff)
			}
			if diff := cmp.Diff(before, c.current); diff != "" {
				t.Errorf("the current one was changed:\n%s", diff)
			}
			if again, changed := merge(got, c.seen); changed {
				t.Errorf("merging twice changes again:\n%s", cmp.Diff(got, again))
			}
		})
	}
}

func TestUndeclaredMachinesAreListed(t *testing.T) {
	machine := func(mac string, first, last time.Duration) v1alpha1.DiscoveredMachine {
		return v1alpha1.DiscoveredMachine{MAC: v1alpha1.MAC(mac), Architecture: "amd64", Firmware: "UEFI", FirstSeen: stamp(first), LastSeen: stamp(last)}
	}
	seen := func(mac string, first, last time.Duration) map[pxe.MAC]stranger {
		return map[pxe.MAC]stranger{pxe.MAC(mac): {pxe.Machine{MAC: pxe.MAC(mac), Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFI}, after(first), after(last)}}
	}
	const a, b = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
	none := func(pxe.MAC) bool { return false }
	var full []v1alpha1.DiscoveredMachine
	for i := range 64 {
		full = append(full, machine(fmt.Sprintf("52:54:00:00:01:%02x", i), 0, time.Duration(i)*time.Second))
	}
	for _, c := range []struct {
		reason   string
		current  []v1alpha1.DiscoveredMachine
		seen     map[pxe.MAC]stranger
		declared func(pxe.MAC) bool
		now      time.Duration
		want     []v1alpha1.DiscoveredMachine
		changed  bool
	}{
		{"nobody", nil, nil, none, 0, nil, false},
		{"a new one", nil, seen(a, 0, time.Second), none, 0, []v1alpha1.DiscoveredMachine{machine(a, 0, time.Second)}, true},
		{"in the order of their MACs", []v1alpha1.DiscoveredMachine{machine(b, 0, 0)}, seen(a, 0, 0), none, 0, []v1alpha1.DiscoveredMachine{machine(a, 0, 0), machine(b, 0, 0)}, true},
		{"again within five minutes", []v1alpha1.DiscoveredMachine{machine(a, 0, 0)}, seen(a, 0, 4*time.Minute), none, 0, []v1alpha1.DiscoveredMachine{machine(a, 0, 0)}, false},
		{"again after five minutes", []v1alpha1.DiscoveredMachine{machine(a, 0, 0)}, seen(a, 0, 5*time.Minute), none, 0, []v1alpha1.DiscoveredMachine{machine(a, 0, 5*time.Minute)}, true},
		{"seen earlier, by this pod, than another pod saw it", []v1alpha1.DiscoveredMachine{machine(a, 0, time.Hour)}, seen(a, 0, 0), none, 0, []v1alpha1.DiscoveredMachine{machine(a, 0, time.Hour)}, false},
		{"declared by now", []v1alpha1.DiscoveredMachine{machine(a, 0, 0), machine(b, 0, 0)}, seen(a, 0, time.Hour), func(m pxe.MAC) bool { return m == a }, 0, []v1alpha1.DiscoveredMachine{machine(b, 0, 0)}, true},
		{"silent for a month", []v1alpha1.DiscoveredMachine{machine(a, 0, 0)}, nil, none, keepDiscovered + time.Minute, nil, true},
		{"the one that asked longest ago makes room", full, seen(a, time.Hour, time.Hour), none, 0,
			append([]v1alpha1.DiscoveredMachine{machine(a, time.Hour, time.Hour)}, full[1:]...), true},
	} {
		t.Run(c.reason, func(t *testing.T) {
			got, changed := list(c.current, c.seen, c.declared, after(c.now))
			if diff := cmp.Diff(c.want, got, cmp.Transformer("empty", func(l []v1alpha1.DiscoveredMachine) map[v1alpha1.MAC]v1alpha1.DiscoveredMachine {
				m := map[v1alpha1.MAC]v1alpha1.DiscoveredMachine{}
				for _, d := range l {
					m[d.MAC] = d
				}
				return m
			})); diff != "" || changed != c.changed {
				t.Errorf("changed: %v, want %v (-want +got):\n%s", changed, c.changed, diff)
			}
			for i := 1; i < len(got); i++ {
				if got[i-1].MAC >= got[i].MAC {
					t.Errorf("%s comes before %s", got[i-1].MAC, got[i].MAC)
				}
			}
		})
	}
}

func TestOnlyMachinesAreListed(t *testing.T) {
	for mac, want := range map[pxe.MAC]bool{
		"52:54:00:12:34:56": true, "": false, "00:00:00:00:00:00": false, "53:54:00:12:34:56": false, "ff:ff:ff:ff:ff:ff": false,
	} {
		if got := listable(mac); got != want {
			t.Errorf("%q: %v", mac, got)
		}
	}
}

func TestAPodRegistersInThePlaceOfItsNodes(t *testing.T) {
	p := func(node, pod string, ready bool) v1alpha1.PXEPod {
		return v1alpha1.PXEPod{Node: node, Pod: pod, Address: "192.168.1.2", Ready: ready}
	}
	full := make([]v1alpha1.PXEPod, maxPods)
	for i := range full {
		full[i] = p(fmt.Sprintf("full-%02d", i), "p", true)
	}
	for _, c := range []struct {
		reason  string
		current []v1alpha1.PXEPod
		mine    v1alpha1.PXEPod
		want    []v1alpha1.PXEPod
		changed bool
	}{
		{"the first", nil, p("a", "1", false), []v1alpha1.PXEPod{p("a", "1", false)}, true},
		{"the same", []v1alpha1.PXEPod{p("a", "1", true)}, p("a", "1", true), []v1alpha1.PXEPod{p("a", "1", true)}, false},
		{"ready now", []v1alpha1.PXEPod{p("a", "1", false)}, p("a", "1", true), []v1alpha1.PXEPod{p("a", "1", true)}, true},
		{"another pod on the node", []v1alpha1.PXEPod{p("a", "1", true)}, p("a", "2", false), []v1alpha1.PXEPod{p("a", "2", false)}, true},
		{"beside another node's", []v1alpha1.PXEPod{p("b", "1", true)}, p("a", "2", true), []v1alpha1.PXEPod{p("a", "2", true), p("b", "1", true)}, true},
		{"no room", full, p("z", "1", true), full, false},
	} {
		if got, changed := register(c.current, c.mine); changed != c.changed || cmp.Diff(c.want, got) != "" {
			t.Errorf("%s: changed %v, %s", c.reason, changed, cmp.Diff(c.want, got))
		}
	}
	if got, changed := deregister([]v1alpha1.PXEPod{p("a", "2", true)}, "a", "1"); changed || len(got) != 1 {
		t.Error("a pod took its successor off the list")
	}
	if got, changed := deregister([]v1alpha1.PXEPod{p("a", "1", true), p("b", "2", true)}, "a", "1"); !changed || len(got) != 1 || got[0].Node != "b" {
		t.Errorf("a pod is still on the list: %v", got)
	}
}

func TestTheAddressInTheClustersNetworkIsFound(t *testing.T) {
	at := func(name string, addresses ...string) card {
		c := card{name: name, up: true}
		for _, a := range addresses {
			c.addresses = append(c.addresses, netip.MustParsePrefix(a))
		}
		return c
	}
	down := at("eth9", "192.168.1.9/24")
	down.up = false
	loopback := at("lo", "192.168.1.8/24")
	loopback.loopback = true
	for _, c := range []struct {
		reason      string
		cards       []card
		own, shared string
		want        string // interface and address, or a part of the error
	}{
		{"the only one", []card{at("eth0", "192.168.1.2/24"), at("cni0", "10.42.0.1/24"), down, loopback}, "", "", "eth0 192.168.1.2"},
		{"none", []card{at("eth0", "10.0.0.2/24")}, "", "", "it has: 10.0.0.2/24 on eth0"},
		{"no address at all", nil, "", "", "it has: none"},
		{"beside the virtual IP", []card{at("eth0", "192.168.1.2/24", "192.168.1.100/24")}, "", "192.168.1.100", "eth0 192.168.1.2"},
		{"beside a load balancer's", []card{at("eth0", "192.168.1.2/24", "192.168.1.230/32")}, "", "", "eth0 192.168.1.2"},
		{"two, one of them declared", []card{at("eth0", "192.168.1.2/24"), at("wlan0", "192.168.1.3/24")}, "192.168.1.3", "", "wlan0 192.168.1.3"},
		{"two, none of them declared", []card{at("eth0", "192.168.1.2/24"), at("wlan0", "192.168.1.3/24")}, "192.168.1.7", "", "several addresses"},
	} {
		w := linkWish{network: netip.MustParsePrefix("192.168.1.0/24")}
		if c.own != "" {
			w.own = netip.MustParseAddr(c.own)
		}
		if c.shared != "" {
			w.shared = netip.MustParseAddr(c.shared)
		}
		l, err := chooseLink(c.cards, w)
		got := fmt.Sprintf("%s %s", l.Interface, l.Address)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", c.reason, got, c.want)
		}
	}
}

func TestReadinessIsThatWaitingMachinesCanBeServed(t *testing.T) {
	image, binary := media.Source{Name: "image", SHA256: "1"}, media.Source{Name: "k3s", SHA256: "2"}
	two := wanted{
		files: []media.Source{image, binary},
		of:    map[string][]string{"a": {"1", "2"}, "b": {"2"}},
	}
	here := standing{here: true}
	gone := standing{hopeless: true, err: errors.New("cannot download image: 404")}
	for _, c := range []struct {
		reason string
		w      wanted
		files  map[string]standing
		ready  bool
		says   string
	}{
		{"nobody waits", wanted{}, nil, true, "no machine waits"},
		{"all is here", two, map[string]standing{"1": here, "2": here}, true, "serves all 2 files that 2 machines need"},
		{"one is on its way", two, map[string]standing{"1": {done: 120 << 20, total: 300<<20 - 5}, "2": here}, false, "fetching image: 120 of 300 MiB"},
		{"one has not begun", two, map[string]standing{"1": here}, false, "fetching k3s"},
		{"one failed for the moment", two, map[string]standing{"1": {err: errors.New("connection refused")}, "2": here}, false, "connection refused"},
		{"one is not to be had, and the other machine needs it not", two, map[string]standing{"1": gone, "2": here}, true, "404"},
		{"one is not to be had, and all need it", two, map[string]standing{"1": here, "2": gone}, false, "404"},
		{"a machine's declaration is wrong", wanted{problems: map[string]string{"c": "no medium for arm64"}}, nil, false, "no medium for arm64"},
		{"checksums are not read yet", wanted{files: two.files, of: two.of, sums: map[release]string{{}: "url"}}, map[string]standing{"1": here, "2": here}, false, ""},
	} {
		ready, message := verdict(c.w, c.files)
		if ready != c.ready || !strings.Contains(message, c.says) {
			t.Errorf("%s: %v, %q; want %v, %q", c.reason, ready, message, c.ready, c.says)
		}
	}
}
