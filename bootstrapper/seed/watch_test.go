package seed

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
)

var stages = []pxe.Stage{"", pxe.StageDHCP, pxe.StageLoader, pxe.StageConfig, pxe.StageKernel, pxe.StageInitrd,
	pxe.StageInitConfig, pxe.StageInstalling, pxe.StageInstalled, pxe.StageFailed, pxe.StageMedia, pxe.StageCredentials, pxe.StageRefused}

func TestEveryStageHasAdviceOfItsOwnAndWordsForPeople(t *testing.T) {
	seen := map[string]pxe.Stage{}
	for _, stage := range stages {
		text := advice(phaseBoot, stage)
		other, known := seen[text]
		alike := map[pxe.Stage]pxe.Stage{pxe.StageInitrd: pxe.StageKernel, pxe.StageInstalling: pxe.StageInitConfig}
		if text == "" || text == advice(phaseBoot, "unknown") || known && alike[stage] != other {
			t.Errorf("%q: advice %q, shared with %q", stage, text, other)
		}
		seen[text] = stage
		if stage != "" && happened(pxe.Observation{Stage: stage}) == string(stage) {
			t.Errorf("%q has no words for people", stage)
		}
	}
}

func TestAdviceNamesWhatToLookAt(t *testing.T) {
	for _, c := range []struct {
		phase string
		stage pxe.Stage
		want  string
	}{
		{phaseWake, "", "Wake-on-LAN"},
		{phaseBoot, pxe.StageDHCP, "firewall"},
		{phaseBoot, pxe.StageLoader, "Secure Boot"},
		{phaseBoot, pxe.StageKernel, "memory"},
		{phaseInstall, pxe.StageInstalling, "disk"},
		{phaseJoin, pxe.StageInstalled, "spec.boot.local"},
		{phaseJoin, pxe.StageConfig, "its own disk"},
		{phaseJoin, pxe.StageMedia, "rhizome-join"},
		{phaseJoin, pxe.StageCredentials, "journalctl -u k3s"},
		{phaseJoin, "", "journalctl -u k3s"},
	} {
		if got := advice(c.phase, c.stage); !strings.Contains(got, c.want) {
			t.Errorf("%s at %q: %q does not name %q", c.phase, c.stage, got, c.want)
		}
	}
}

func TestAPersonIsToldOfAStallOnceInAWhile(t *testing.T) {
	last := pxe.Observation{Time: at, Stage: pxe.StageKernel, From: netip.MustParseAddr("10.77.0.10")}
	for _, c := range []struct {
		name             string
		now, since, told time.Time
		last             pxe.Observation
		want             string
	}{
		{"just begun", at.Add(time.Second), at, time.Time{}, pxe.Observation{}, ""},
		{"never seen", at.Add(2 * time.Minute), at, time.Time{}, pxe.Observation{}, "was not seen yet"},
		{"seen lately", at.Add(time.Minute), at.Add(-time.Hour), time.Time{}, last, ""},
		{"silent since", at.Add(95 * time.Second), at.Add(-time.Hour), time.Time{}, last, "last seen: kernel fetched 1m35s ago by 10.77.0.10"},
		{"the phase is young, though the machine is silent", at.Add(95 * time.Second), at.Add(90 * time.Second), time.Time{}, last, ""},
		{"told lately", at.Add(4 * time.Minute), at, at.Add(3 * time.Minute), last, ""},
		{"told long ago", at.Add(10 * time.Minute), at, at.Add(3 * time.Minute), last, "last seen"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := stalled(phaseBoot, c.now, c.since, c.told, c.last)
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("stalled = %q, want %q", got, c.want)
			}
		})
	}
}

func TestRequestsWithoutAMACAreKnownByTheirAddress(t *testing.T) {
	mac := pxe.MAC("52:54:00:00:00:01")
	dynamic, other := netip.MustParseAddr("10.77.0.150"), netip.MustParseAddr("10.77.0.151")
	w := newWatch(mac, netip.MustParseAddr("10.77.0.10"))
	w.observe(pxe.Observation{Time: at, Stage: pxe.StageKernel, From: dynamic})
	if _, last := w.seen(); last.Stage != "" {
		t.Error("a request from an address that nothing is known of was taken for the first node's")
	}
	w.observe(pxe.Observation{Time: at, Stage: pxe.StageConfig, From: dynamic, Machine: pxe.Machine{MAC: mac}})
	w.observe(pxe.Observation{Time: at.Add(1), Stage: pxe.StageKernel, From: dynamic})
	w.observe(pxe.Observation{Time: at.Add(2), Stage: pxe.StageKernel, From: other})
	w.observe(pxe.Observation{Time: at.Add(3), Stage: pxe.StageDHCP, From: dynamic, Machine: pxe.Machine{MAC: "52:54:00:00:00:02", Firmware: pxe.FirmwareUEFI}})
	sightings, last := w.seen()
	if last.Stage != pxe.StageKernel || !last.Time.Equal(at.Add(1)) || !sightings.Firmware.Equal(at.Add(1)) {
		t.Errorf("last = %+v, sightings = %+v", last, sightings)
	}
}

func TestAFloodCostsNoMemory(t *testing.T) {
	w := newWatch("52:54:00:00:00:01", netip.MustParseAddr("10.77.0.10"))
	for range 10 * queueLimit {
		w.observe(pxe.Observation{Time: at, Stage: pxe.StageDHCP, Machine: pxe.Machine{MAC: "52:54:00:00:00:02"}})
	}
	if got := len(w.take()); got != queueLimit {
		t.Errorf("%d observations wait, want %d", got, queueLimit)
	}
	if len(w.take()) != 0 {
		t.Error("taken twice")
	}
}
