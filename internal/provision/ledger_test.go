package provision

import (
	"net/netip"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
)

func TestAnAddressIsOfTheMachineThatUsedItLast(t *testing.T) {
	home, other := addr("192.168.1.77"), addr("192.168.1.78")
	consumed := func(mac pxe.MAC, from netip.Addr, at time.Duration) Claim {
		return Claim{ID: "x", MAC: mac, ConsumedBy: from, ConsumedAt: after(at)}
	}
	for _, c := range []struct {
		reason string
		kept   []Claim
		put    []Claim
		want   pxe.MAC // at home
	}{
		{"no claim was consumed", []Claim{{MAC: alphaMAC}}, nil, ""},
		{"one was, before this start", []Claim{consumed(alphaMAC, home, 1)}, nil, alphaMAC},
		{"one is now", []Claim{{MAC: alphaMAC}}, []Claim{consumed(alphaMAC, home, 1)}, alphaMAC},
		{"the later of two kept", []Claim{consumed(alphaMAC, home, 2), consumed(betaMAC, home, 1)}, nil, alphaMAC},
		{"the later of two", []Claim{consumed(alphaMAC, home, 1)}, []Claim{consumed(betaMAC, home, 2)}, betaMAC},
		{"a new claim is not consumed", []Claim{consumed(alphaMAC, home, 1)}, []Claim{{MAC: alphaMAC}}, ""},
		{"the machine moved", []Claim{consumed(alphaMAC, home, 1)}, []Claim{consumed(alphaMAC, other, 2)}, ""},
		{"the machine moved, another came", []Claim{consumed(alphaMAC, home, 1)}, []Claim{consumed(betaMAC, home, 2), consumed(alphaMAC, other, 3)}, betaMAC},
	} {
		t.Run(c.reason, func(t *testing.T) {
			l := NewLedger(c.kept, nil)
			for _, claim := range c.put {
				if err := l.Put(t.Context(), claim); err != nil {
					t.Fatal(err)
				}
			}
			got, ok := l.At(home)
			if got != c.want || ok != (c.want != "") {
				t.Errorf("At(%s) = %q, %v, want %q", home, got, ok, c.want)
			}
		})
	}
}
