package radv

import (
	"net"
	"testing"

	"github.com/rhizome-dev/rhizome/pxe"
)

var solicitation = []byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56}

func TestTheSolicitorIsRead(t *testing.T) {
	with := func(change func(p []byte) []byte) []byte { return change(append([]byte(nil), solicitation...)) }
	for _, c := range []struct {
		name   string
		packet []byte
		want   pxe.MAC
	}{
		{"as iPXE sends it", solicitation, "52:54:00:12:34:56"},
		{"behind another option", append(append(append([]byte(nil), solicitation[:8]...), 14, 1, 0, 0, 0, 0, 0, 0), solicitation[8:]...), "52:54:00:12:34:56"},
		{"no option", solicitation[:8], ""},
		{"half an option", solicitation[:12], ""},
		{"an option of length 0", with(func(p []byte) []byte { p[9] = 0; return p }), ""},
		{"an option that is too long", with(func(p []byte) []byte { p[9] = 2; return p }), ""},
		{"no address", with(func(p []byte) []byte { copy(p[10:], make([]byte, 6)); return p }), ""},
		{"an advertisement", with(func(p []byte) []byte { p[0] = 134; return p }), ""},
		{"nothing", nil, ""},
	} {
		if got, ok := solicitor(c.packet); got != c.want || ok != (c.want != "") {
			t.Errorf("%s: got %q, %v", c.name, got, ok)
		}
	}
}

func TestTheAdvertisementConfiguresNothing(t *testing.T) {
	if len(advertisement) != 16 || advertisement[0] != 134 {
		t.Fatalf("not a router advertisement: % x", advertisement)
	}
	for i, b := range advertisement[1:] {
		if b != 0 {
			t.Errorf("byte %d is %d: a lifetime, a flag or a timer", i+1, b)
		}
	}
}

func FuzzSolicitor(f *testing.F) {
	f.Add(solicitation)
	f.Add(solicitation[:11])
	f.Fuzz(func(t *testing.T, p []byte) {
		mac, ok := solicitor(p)
		if !ok {
			return
		}
		if _, err := net.ParseMAC(string(mac)); err != nil {
			t.Fatalf("% x: %q", p, mac)
		}
	})
}
