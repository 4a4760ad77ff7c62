package provision

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

func TestBootDecision(t *testing.T) {
	pinned := openClaim()
	pinned.UUID = uuidA
	foreign := openClaim()
	foreign.Node = "gamma"
	uefi := pxe.Machine{MAC: alphaMAC, UUID: uuidA, Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFI}
	with := func(change func(*pxe.Machine)) pxe.Machine { m := uefi; change(&m); return m }
	for _, c := range []struct {
		reason  string
		change  func(*inventory.Inventory)
		machine pxe.Machine
		claim   Claim
		at      time.Duration
		want    pxe.Action
		says    string
	}{
		{"open claim", nil, uefi, openClaim(), 0, pxe.Install, "open until"},
		{"open claim, nothing known but the MAC", nil, pxe.Machine{MAC: alphaMAC}, openClaim(), 0, pxe.Install, "open until"},
		{"open claim for this UUID", nil, uefi, pinned, 0, pxe.Install, "open until"},
		{"undeclared", nil, with(func(m *pxe.Machine) { m.MAC = "52:54:00:00:00:99" }), openClaim(), 0, pxe.Ignore, RuleUndeclared},
		{"no MAC", nil, with(func(m *pxe.Machine) { m.MAC = "" }), openClaim(), 0, pxe.Ignore, RuleUndeclared},
		{"no claim", nil, uefi, Claim{}, 0, pxe.BootLocal, RuleNoClaim},
		{"a claim of a Node that had the MAC before", nil, uefi, foreign, 0, pxe.BootLocal, RuleNoClaim},
		{"expired", nil, uefi, openClaim(), time.Hour, pxe.BootLocal, RuleClaimExpired},
		{"consumed a second ago: the firmware must not install again", nil, uefi, consumed(), time.Minute + time.Second, pxe.BootLocal, RuleClaimConsumed},
		{"installed", nil, uefi, installed(), 11 * time.Minute, pxe.BootLocal, RuleClaimConsumed},
		{"exchanged", nil, uefi, exchanged(), 13 * time.Minute, pxe.BootLocal, RuleClaimConsumed},
		{"failed", nil, uefi, failedClaim(), 6 * time.Minute, pxe.BootLocal, RuleClaimFailed},
		{"another machine with this MAC", nil, with(func(m *pxe.Machine) { m.UUID = uuidB }), pinned, 0, pxe.BootLocal, RuleWrongMachine},
		{"another architecture", nil, with(func(m *pxe.Machine) { m.Arch = pxe.ARM64 }), openClaim(), 0, pxe.BootLocal, RuleWrongArch},
		{"no Cluster", func(i *inventory.Inventory) { i.Clusters = nil }, uefi, openClaim(), 0, pxe.BootLocal, "no Cluster"},
		{"two Clusters", func(i *inventory.Inventory) { i.Clusters = append(i.Clusters, i.Clusters[0]) }, uefi, openClaim(), 0, pxe.BootLocal, "2 Clusters"},
		{"an operating system that is not declared", func(i *inventory.Inventory) { i.OperatingSystems = nil }, uefi, openClaim(), 0, pxe.BootLocal, "debian"},
		{"an operating system without the architecture", func(i *inventory.Inventory) { i.Nodes[0].Spec.Architecture = v1alpha1.ARM64 },
			with(func(m *pxe.Machine) { m.Arch = pxe.ARM64 }), openClaim(), 0, pxe.BootLocal, "arm64"},
		{"an address outside the network", func(i *inventory.Inventory) { i.Nodes[0].Spec.Address = "10.0.0.1" }, uefi, openClaim(), 0, pxe.BootLocal, "spec.network.cidr"},
	} {
		inv := homelab()
		if c.change != nil {
			c.change(&inv)
		}
		var claim *Claim
		if c.claim.ID != "" {
			claim = &c.claim
		}
		d := Decide(inv, c.machine, claim, after(c.at))
		if d.Action != c.want || !strings.Contains(d.Reason, c.says) {
			t.Errorf("%s: action %d, %q; want %d, %q", c.reason, d.Action, d.Reason, c.want, c.says)
		}
		if (d.Kernel.Path != "") != (c.want == pxe.Install) {
			t.Errorf("%s: kernel %q with action %d", c.reason, d.Kernel.Path, d.Action)
		}
	}
}

func TestADecisionSaysHowToBoot(t *testing.T) {
	claim := openClaim()
	inv := homelab()
	got := Decide(inv, pxe.Machine{MAC: alphaMAC}, &claim, t0)
	want := pxe.Decision{
		Action: pxe.Install, Reason: "the claim of alpha is open until 2026-01-02T03:34:05Z", Arch: pxe.AMD64,
		Kernel: pxe.Kernel{
			Path: "/installer/amd64/vmlinuz", Initrds: []string{"/installer/amd64/initrd.img"},
			Args: []string{"rhizome.init=${base}/init/${mac}", "rhizome.mac=${mac}", "panic=60", "console=ttyS0"},
		},
	}
	equal := cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})
	if diff := cmp.Diff(want, got, equal); diff != "" {
		t.Errorf("(- want, + got):\n%s", diff)
	}
	got.Kernel.Args[0] = "changed"
	if again := Decide(inv, pxe.Machine{MAC: alphaMAC}, &claim, t0); again.Kernel.Args[0] == "changed" {
		t.Error("two decisions share their arguments")
	}

	inv.Clusters[0].Spec.Network.DHCP = v1alpha1.DHCPServer
	inv.Clusters[0].Spec.Network.Nameservers = []v1alpha1.Address{"9.9.9.9"}
	inv.Clusters[0].Spec.PXE.Loader = v1alpha1.LoaderGRUB
	inv.Nodes[1].Spec.Boot = &v1alpha1.BootSpec{Loader: v1alpha1.LoaderIPXE, Local: v1alpha1.LocalBootExit}
	got = Decide(inv, pxe.Machine{MAC: betaMAC}, nil, t0)
	want = pxe.Decision{
		Action: pxe.BootLocal, Reason: got.Reason, Arch: pxe.AMD64, Loader: pxe.LoaderIPXE, LocalBoot: pxe.LocalBootExit,
		Lease: &pxe.Lease{Address: netip.MustParsePrefix("192.168.1.11/24"), Gateway: addr("192.168.1.1"),
			Nameservers: []netip.Addr{addr("9.9.9.9")}, HostName: "beta"},
	}
	if diff := cmp.Diff(want, got, equal); diff != "" {
		t.Errorf("(- want, + got):\n%s", diff)
	}
	if got := Decide(inv, pxe.Machine{MAC: alphaMAC}, nil, t0).Loader; got != pxe.LoaderGRUB {
		t.Errorf("loader %q, want the cluster's", got)
	}
}

// A machine in a segment is told that segment's network.
func TestAMachineInASegmentIsToldItsNetwork(t *testing.T) {
	inv := homelab()
	inv.Clusters[0].Spec.Network.DHCP = v1alpha1.DHCPServer
	inv.Clusters[0].Spec.Network.Segments = []v1alpha1.NetworkSegment{{CIDR: "10.9.0.0/25", Gateway: "10.9.0.1"}}
	inv.Nodes[1].Spec.Address = "10.9.0.11"
	inv.Nodes[1].Spec.Boot = &v1alpha1.BootSpec{Loader: v1alpha1.LoaderSigned}
	got := Decide(inv, pxe.Machine{MAC: betaMAC}, nil, t0)
	want := &pxe.Lease{Address: netip.MustParsePrefix("10.9.0.11/25"), Gateway: addr("10.9.0.1"), Nameservers: []netip.Addr{addr("10.9.0.1")}, HostName: "beta"}
	if diff := cmp.Diff(want, got.Lease, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" || got.Loader != pxe.LoaderSigned {
		t.Errorf("loader %q, lease (- want, + got):\n%s", got.Loader, diff)
	}
	inv.Nodes[1].Spec.Address = "10.9.1.11"
	if got := Decide(inv, pxe.Machine{MAC: betaMAC}, nil, t0); got.Lease != nil || !strings.Contains(got.Reason, "10.9.1.11 is not in") {
		t.Errorf("outside of every network: %+v", got)
	}
}

// No address that is declared is ever handed out to a guest, whenever that was.
func TestGuestsGetNoDeclaredAddress(t *testing.T) {
	inv := homelab()
	cluster := &inv.Clusters[0]
	guests := v1alpha1.CIDR("192.168.1.8/30") // alpha and beta are in it
	cluster.Spec.Network.DHCPPool = &guests
	if pool, err := Guests(cluster, func() inventory.Inventory { return inv }); err != nil || pool != nil {
		t.Errorf("beside the router's DHCP server: %v, %v", pool, err)
	}
	cluster.Spec.Network.DHCP = v1alpha1.DHCPServer
	pool, err := Guests(cluster, func() inventory.Inventory { return inv })
	if err != nil {
		t.Fatal(err)
	}
	ask := func(n byte) netip.Addr {
		t.Helper()
		p, err := dhcpv4.NewDiscovery(net.HardwareAddr{0x52, 0x54, 0, 0, 0, n})
		if err != nil {
			t.Fatal(err)
		}
		l := pool.Lease(p, addr("192.168.1.2"), t0)
		if l == nil {
			return netip.Addr{}
		}
		return l.Address.Addr()
	}
	first := ask(1)
	if first != addr("192.168.1.8") && first != addr("192.168.1.9") {
		t.Errorf("a guest got %s", first)
	}
	inv.Nodes[1].Spec.Address = v1alpha1.Address(first.String()) // declared meanwhile
	if again := ask(1); again == first || again == addr("192.168.1.10") {
		t.Errorf("a guest got %s, which is declared", again)
	}
	bad := v1alpha1.CIDR("10.0.0.0/24")
	cluster.Spec.Network.DHCPPool = &bad
	if _, err := Guests(cluster, func() inventory.Inventory { return inv }); err == nil || !strings.Contains(err.Error(), "spec.network.dhcpPool") {
		t.Errorf("a pool elsewhere: %v", err)
	}
}

func TestTheInitConfigIsAnInstallPlan(t *testing.T) {
	s := newScene(t, openClaim())
	s.at(time.Minute)
	doc, err := s.InitConfig(t.Context(), alphaMAC, leased)
	if err != nil {
		t.Fatal(err)
	}
	var got plan.Plan
	if err := json.Unmarshal(doc.Body, &got); err != nil {
		t.Fatal(err)
	}
	seed := got.Seed
	got.Seed = nil
	want := plan.Plan{
		Node: "alpha", Claim: "id", CA: "-----BEGIN CERTIFICATE-----\n", ReportURL: "https://192.168.1.2:7443/v1/report",
		Image:   plan.Image{URL: "http://192.168.1.2:7480/media/" + string(digest('a')) + "/debian.raw.zst", SHA256: string(digest('a')), Compression: plan.Zstd},
		Disk:    plan.DiskHint{Serial: "S1", MinBytes: 100 << 30},
		Network: plan.Network{MAC: string(alphaMAC), Address: "192.168.1.10/24", Gateway: "192.168.1.1", Nameservers: []string{"192.168.1.1"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(- want, + got):\n%s", diff)
	}
	for name, holds := range map[string]string{
		"user-data":      "rhizome-join.service",
		"meta-data":      "instance-id: alpha-20260102T030405Z-1",
		"network-config": "192.168.1.10/24",
	} {
		if !strings.Contains(seed[name], holds) {
			t.Errorf("%s does not hold %q:\n%s", name, holds, seed[name])
		}
	}
	if got := s.state(alphaMAC); got != StateConsumed {
		t.Errorf("the claim is %s", got)
	}
	again, err := s.InitConfig(t.Context(), alphaMAC, leased)
	if err != nil || string(again.Body) != string(doc.Body) {
		t.Errorf("asked again within the grace: %v, the same: %v", err, string(again.Body) == string(doc.Body))
	}
}

func TestAnInitConfigIsRefusedAndSeenToBe(t *testing.T) {
	broken := func(i *inventory.Inventory) { i.Clusters[0].Spec.Kubernetes.Files = nil }
	for _, c := range []struct {
		reason string
		claims []Claim
		change func(*inventory.Inventory)
		mac    pxe.MAC
		at     time.Duration
		rule   string // or the text of an error that is no refusal
		seen   string
	}{
		{"undeclared", nil, nil, "52:54:00:00:00:99", 0, pxe.ErrNotFound.Error(), ""},
		{"no claim", nil, nil, alphaMAC, 0, RuleNoClaim, RuleNoClaim},
		{"expired", []Claim{openClaim()}, nil, alphaMAC, time.Hour, RuleClaimExpired, RuleClaimExpired},
		{"consumed", []Claim{consumed()}, nil, alphaMAC, time.Hour, RuleClaimConsumed, RuleClaimConsumed},
		{"failed", []Claim{failedClaim()}, nil, alphaMAC, time.Hour, RuleClaimFailed, RuleClaimFailed},
		{"nothing to install", []Claim{openClaim()}, broken, alphaMAC, 0, "spec.kubernetes.files", ""},
		{"no renderer", []Claim{openClaim()}, func(i *inventory.Inventory) { i.OperatingSystems[0].Spec.Format = "Floppy" },
			alphaMAC, 0, `OperatingSystem/debian: spec.format: there is no format "Floppy"`, ""},
		{"no digest", []Claim{openClaim()}, func(i *inventory.Inventory) { i.OperatingSystems[0].Spec.Media[0].SHA256 = "" },
			alphaMAC, 0, "OperatingSystem/debian: spec.media: the digest of https://example.org/debian.raw.zst?x=1 is not known", ""},
	} {
		s := newScene(t, c.claims...)
		if c.change != nil {
			c.change(&s.inventory)
		}
		s.at(c.at)
		before := s.ledger.All()
		doc, err := s.InitConfig(t.Context(), c.mac, stranger)
		if got := ruleOf(err); !strings.Contains(got, c.rule) || err == nil || doc.Body != nil {
			t.Errorf("%s: %q, want %q and no document", c.reason, got, c.rule)
		}
		if o := s.last(); !strings.HasPrefix(o.Message, c.seen) || (o.Stage == pxe.StageRefused) != (c.seen != "") {
			t.Errorf("%s: observed %q %q, want %q", c.reason, o.Stage, o.Message, c.seen)
		}
		if diff := cmp.Diff(before, s.ledger.All(), sameClaim...); diff != "" {
			t.Errorf("%s: the claim has changed:\n%s", c.reason, diff)
		}
	}
}

func TestOfManyAtOnceOneAddressGetsTheInitConfig(t *testing.T) {
	s := newScene(t, openClaim())
	var won atomic.Int32
	var group sync.WaitGroup
	for i := range 64 {
		group.Go(func() {
			_, err := s.InitConfig(context.Background(), alphaMAC, netip.AddrFrom4([4]byte{192, 168, 1, byte(100 + i)}))
			if err == nil {
				won.Add(1)
			} else if got := ruleOf(err); got != RuleWrongAddress {
				t.Errorf("%q", got)
			}
			s.Decide(pxe.Machine{MAC: alphaMAC})
		})
	}
	group.Wait()
	if won.Load() != 1 {
		t.Errorf("%d got it", won.Load())
	}
}

func TestReports(t *testing.T) {
	for _, c := range []struct {
		reason string
		claim  Claim
		id     string
		report pxe.Report
		want   string
		state  State
	}{
		{"progress", consumed(), "id", pxe.Report{Stage: pxe.StageInstalling, UUID: uuidA}, "", StateConsumed},
		{"done", consumed(), "id", pxe.Report{Stage: pxe.StageInstalled}, "", StateInstalled},
		{"failed", consumed(), "id", pxe.Report{Stage: pxe.StageFailed, Message: "no\ndisk\x1b[2J"}, "", StateFailed},
		{"another claim", consumed(), "ID", pxe.Report{Stage: pxe.StageInstalled}, RuleClaimUnknown, StateConsumed},
		{"no claim", consumed(), "", pxe.Report{Stage: pxe.StageInstalled}, RuleClaimUnknown, StateConsumed},
		{"a stage that is not the installer's", consumed(), "id", pxe.Report{Stage: pxe.StageCredentials}, RuleInvalidReport, StateConsumed},
		{"nothing was consumed", openClaim(), "id", pxe.Report{Stage: pxe.StageInstalled}, RuleClaimNotConsumed, StateOpen},
	} {
		s := newScene(t, c.claim)
		s.at(11 * time.Minute)
		err := s.Report(t.Context(), c.id, c.report, leased)
		if got := ruleOf(err); got != c.want {
			t.Errorf("%s: %q, want %q", c.reason, got, c.want)
		}
		if c.claim.ConsumedAt.IsZero() {
			s.at(0)
		}
		if got := s.state(alphaMAC); got != c.state {
			t.Errorf("%s: the claim is %s, want %s", c.reason, got, c.state)
		}
		o := s.last()
		if err != nil && (o.Stage != pxe.StageRefused || !strings.HasPrefix(o.Message, c.want)) {
			t.Errorf("%s: observed %q %q", c.reason, o.Stage, o.Message)
		}
		if err == nil && (o.Stage != c.report.Stage || o.Machine.MAC != alphaMAC || strings.ContainsAny(o.Message, "\n\x1b")) {
			t.Errorf("%s: observed %+v", c.reason, o)
		}
		if strings.Contains(o.Message, "ID") {
			t.Errorf("%s: the claim's identifier was shown", c.reason)
		}
	}
}

func TestAReportNeedNotBeReadableToBeHarmless(t *testing.T) {
	s := newScene(t, consumed())
	s.at(2 * time.Minute)
	long := strings.Repeat("é\x00\xff", 10000)
	if err := s.Report(t.Context(), "id", pxe.Report{Stage: pxe.StageFailed, Message: long, Step: long, Disk: long, UUID: long, Done: -1, Total: -1}, leased); err != nil {
		t.Fatal(err)
	}
	c, _ := s.ledger.Get(alphaMAC)
	if len(c.Failure) > maxReported || len(c.Failure) < maxReported-24 || strings.Trim(c.Failure, "é") != "" || c.UUID != "" {
		t.Errorf("kept %d bytes, UUID %q", len(c.Failure), c.UUID)
	}
	if o := s.last(); len(o.Message) > maxReported+512 || o.Done < 0 || o.Total < 0 {
		t.Errorf("observed %d bytes, %d of %d", len(o.Message), o.Done, o.Total)
	}
}

func TestCredentialsAreHandedOutOnce(t *testing.T) {
	s := newScene(t, installed())
	s.at(11 * time.Minute)
	for name, c := range map[string]struct {
		id   string
		from netip.Addr
		rule string
	}{
		"another claim":     {"other", home, RuleClaimUnknown},
		"another address":   {"id", stranger, RuleWrongAddress},
		"the installer's":   {"id", leased, RuleWrongAddress},
		"an empty claim":    {"", home, RuleClaimUnknown},
		"no address at all": {"id", netip.Addr{}, RuleWrongAddress},
	} {
		archive, err := s.Credentials(t.Context(), c.id, c.from)
		if ruleOf(err) != c.rule || archive != nil {
			t.Errorf("%s: %v, want %s", name, err, c.rule)
		}
		// Of a claim that nobody has, the address tells the machine.
		if o := s.last(); o.Stage != pxe.StageRefused || o.Machine.MAC != alphaMAC || o.From != c.from {
			t.Errorf("%s: observed %+v", name, o)
		}
	}
	if s.credentials != 0 {
		t.Errorf("credentials were made %d times for requests that were refused", s.credentials)
	}

	s.fail = errors.New("the API is away")
	if _, err := s.Credentials(t.Context(), "id", home); err == nil || !strings.Contains(err.Error(), "the API is away") {
		t.Fatalf("%v", err)
	}
	if got := s.state(alphaMAC); got != StateInstalled {
		t.Fatalf("the claim is %s although there were no credentials", got)
	}
	s.fail = nil

	first, err := s.Credentials(t.Context(), "id", home)
	if err != nil || len(first) == 0 {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	if o := s.last(); o.Stage != pxe.StageCredentials || o.Machine.MAC != alphaMAC {
		t.Errorf("observed %+v", o)
	}
	s.at(12 * time.Minute)
	if again, err := s.Credentials(t.Context(), "id", home); err != nil || string(again) != string(first) {
		t.Errorf("again within the grace: %v", err)
	}
	s.at(14 * time.Minute)
	if _, err := s.Credentials(t.Context(), "id", home); ruleOf(err) != RuleAlreadyExchanged {
		t.Errorf("again after the grace: %v", err)
	}
}

func TestAWrongMachineAtTheFirmwareIsSeenAsRefused(t *testing.T) {
	s := newScene(t, openClaim())
	s.Observe(pxe.Observation{Stage: pxe.StageDHCP, Machine: pxe.Machine{MAC: alphaMAC, Arch: pxe.ARM64}})
	if o := s.last(); o.Stage != pxe.StageRefused || !strings.HasPrefix(o.Message, RuleWrongArch) {
		t.Errorf("observed %+v", o)
	}
	for name, m := range map[string]pxe.Machine{
		"the machine":                             {MAC: alphaMAC, Arch: pxe.AMD64},
		"one without a claim":                     {MAC: betaMAC, Arch: pxe.ARM64},
		"an undeclared one":                       {MAC: "52:54:00:00:00:99", Arch: pxe.ARM64},
		"one of which only the firmware is known": {MAC: alphaMAC, Firmware: pxe.FirmwareBIOS},
	} {
		s.Observe(pxe.Observation{Stage: pxe.StageDHCP, Machine: m})
		if o := s.last(); o.Stage != pxe.StageDHCP {
			t.Errorf("%s: observed %+v", name, o)
		}
	}
}

func TestARequestOverHTTPBelongsToAMachine(t *testing.T) {
	s := newScene(t, consumed())
	for from, want := range map[netip.Addr]pxe.MAC{
		home: alphaMAC, leased: alphaMAC, addr("192.168.1.11"): betaMAC, stranger: "",
		netip.AddrFrom16(home.As16()): alphaMAC,
	} {
		s.Observe(pxe.Observation{Stage: pxe.StageMedia, From: from})
		if got := s.last().Machine.MAC; got != want {
			t.Errorf("%s: %q, want %q", from, got, want)
		}
	}
}

func TestABackendSaysWhatItLacks(t *testing.T) {
	_, err := NewBackend(Config{Service: Service{BaseURL: "http://x"}})
	if err == nil || !strings.Contains(err.Error(), "Claims, Credentials, Service.SecureURL, Service.CA, Now") {
		t.Errorf("%v", err)
	}
}

func TestALedgerKeepsBeforeItTellsAnybody(t *testing.T) {
	var kept [][]Claim
	var fail error
	l := NewLedger(nil, func(all []Claim) error {
		if fail == nil {
			kept = append(kept, all)
		}
		return fail
	})
	if err := l.Put(t.Context(), openClaim()); err != nil {
		t.Fatal(err)
	}
	beta := openClaim()
	beta.MAC, beta.Node = betaMAC, "beta"
	if err := l.Put(t.Context(), beta); err != nil {
		t.Fatal(err)
	}
	fail = errors.New("disk full")
	err := l.Update(t.Context(), alphaMAC, func(c *Claim) error { return c.Consume(t0, leased) })
	if err == nil || !strings.Contains(err.Error(), "cannot keep the claim of alpha: disk full") {
		t.Errorf("%v", err)
	}
	if c, _ := l.Get(alphaMAC); c.State(t0) != StateOpen {
		t.Errorf("a change that was not kept took effect: %s", c.State(t0))
	}
	fail = nil
	refusal := &pxe.Refusal{Rule: "No"}
	if err := l.Update(t.Context(), alphaMAC, func(c *Claim) error { c.UUID = uuidA; return refusal }); !errors.Is(err, error(refusal)) {
		t.Errorf("%v", err)
	}
	if err := l.Update(t.Context(), alphaMAC, func(*Claim) error { return nil }); err != nil || len(kept) != 2 {
		t.Errorf("%v; kept %d times, want no time for what changed nothing", err, len(kept))
	}
	if err := l.Update(t.Context(), "52:54:00:00:00:99", func(*Claim) error { return nil }); !errors.Is(err, pxe.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff([]Claim{openClaim(), beta}, l.All(), sameClaim...); diff != "" {
		t.Errorf("all (- want, + got):\n%s", diff)
	}
	if diff := cmp.Diff(kept[1], l.All(), sameClaim...); diff != "" {
		t.Errorf("kept (- kept, + has):\n%s", diff)
	}
}

func TestAClaimKeepsItselfAsJSON(t *testing.T) {
	for _, want := range []Claim{openClaim(), consumed(), exchanged(), failedClaim()} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Claim
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%+v became %+v", want, got)
		}
	}
}

func TestOpeningAClaim(t *testing.T) {
	inv := homelab()
	inv.Clusters[0].Spec.PXE.ClaimTTL = nil
	c, err := OpenClaim(&inv.Clusters[0], &inv.Nodes[0], Seed, 2, "00000000-0000-0000-0000-000000000000", func() time.Time { return t0 })
	if err != nil {
		t.Fatal(err)
	}
	want := openClaim()
	want.ID, want.Attempt, want.Finish = c.ID, 2, DefaultFinish
	if diff := cmp.Diff(want, c, sameClaim...); diff != "" {
		t.Errorf("(- want, + got):\n%s", diff)
	}
}
