package claims

import (
	"net/netip"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
)

func TestAnAddressIsOfTheMachineThatUsedItLast(t *testing.T) {
	const alpha, beta = pxe.MAC("52:54:00:00:00:01"), pxe.MAC("52:54:00:00:00:02")
	home, other := netip.MustParseAddr("192.168.1.77"), netip.MustParseAddr("192.168.1.78")
	type event struct {
		name     string
		mac      pxe.MAC
		from     netip.Addr
		at       int64 // consumed, in seconds
		revision uint64
		gone     bool
	}
	for _, c := range []struct {
		reason string
		events []event
		want   pxe.MAC // at home
	}{
		{"no claim was consumed", []event{{name: "a", mac: alpha, revision: 1}}, ""},
		{"one was", []event{{name: "a", mac: alpha, revision: 1}, {name: "a", mac: alpha, from: home, at: 1, revision: 2}}, alpha},
		{"the later of two", []event{{name: "a", mac: alpha, from: home, at: 1, revision: 1}, {name: "b", mac: beta, from: home, at: 2, revision: 2}}, beta},
		{"the later of two, told of first", []event{{name: "b", mac: beta, from: home, at: 2, revision: 2}, {name: "a", mac: alpha, from: home, at: 1, revision: 1}}, beta},
		{"an old event comes late", []event{{name: "a", mac: alpha, from: other, at: 2, revision: 3}, {name: "a", mac: alpha, from: home, at: 1, revision: 2}}, ""},
		{"a new claim is not consumed", []event{{name: "a", mac: alpha, from: home, at: 1, revision: 1}, {name: "a", mac: alpha, revision: 2}}, ""},
		{"its Secret went", []event{{name: "a", mac: alpha, from: home, at: 1, revision: 1}, {name: "a", gone: true}}, ""},
	} {
		t.Run(c.reason, func(t *testing.T) {
			s := New(nil, nil, "rhizome-system")
			for _, e := range c.events {
				if e.gone {
					s.index.remove(e.name, types.UID(e.name))
					continue
				}
				claim := provision.Claim{MAC: e.mac, ConsumedBy: e.from}
				if e.at != 0 {
					claim.ConsumedAt = time.Unix(e.at, 0)
				}
				s.index.put(e.name, entry{uid: types.UID(e.name), revision: e.revision, claim: claim})
			}
			got, ok := s.At(home)
			if got != c.want || ok != (c.want != "") {
				t.Errorf("At(%s) = %q, %v, want %q", home, got, ok, c.want)
			}
		})
	}
}

// A read of the cache that began before a Secret was deleted ends after it.
func TestWhatIsGoneDoesNotComeBack(t *testing.T) {
	x := newIndex()
	claim := provision.Claim{ID: "one", MAC: "52:54:00:00:00:01"}
	late := entry{uid: "first", revision: 7, claim: claim, seen: true}
	x.put("claim-a", late)
	x.remove("claim-a", "first")
	x.remove("claim-a", "") // of one that is not known nothing is learnt
	if x.put("claim-a", late) {
		t.Error("a Secret that is gone was believed to be there")
	}
	if _, _, ok := x.get(claim.MAC); ok {
		t.Error("a claim that is gone came back")
	}
	if !x.put("claim-a", entry{uid: "second", revision: 9, claim: claim}) {
		t.Error("the next Secret of the name was not believed")
	}
}
