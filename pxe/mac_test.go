package pxe

import (
	"net"
	"strings"
	"testing"
)

func TestEverySpellingOfAMACIsOne(t *testing.T) {
	const want = MAC("52:54:00:ab:cd:ef")
	for _, s := range []string{
		"52:54:00:ab:cd:ef", "52:54:00:AB:CD:EF", "52-54-00-ab-cd-ef", "525400abcdef", "5254.00ab.cdef",
		"01-52-54-00-ab-cd-ef", "01:52:54:00:AB:CD:EF", "01525400abcdef",
	} {
		if got, err := ParseMAC(s); err != nil || got != want {
			t.Errorf("%s: got %q, %v", s, got, err)
		}
	}
	for _, s := range []string{
		"", "52:54:00:ab:cd", "52:54:00:ab:cd:ef:01", "52:54:00:ab:cd:eg", "02-52-54-00-ab-cd-ef", "52 54 00 ab cd ef",
		"52:54:00:ab:cd:ef\n", strings.Repeat("-", 100) + "525400abcdef", "５２:54:00:ab:cd:ef", "::::::::::::",
	} {
		if got, err := ParseMAC(s); err == nil {
			t.Errorf("%q was read as %s", s, got)
		}
	}
}

// What is read as a MAC has one spelling, which net can read too.
func FuzzParseMAC(f *testing.F) {
	for _, s := range []string{"52:54:00:ab:cd:ef", "01-52-54-00-ab-cd-ef", "525400ABCDEF", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		mac, err := ParseMAC(s)
		if err != nil {
			if mac != "" {
				t.Fatalf("%q: an error and %q", s, mac)
			}
			return
		}
		hw, err := net.ParseMAC(string(mac))
		if err != nil || len(hw) != 6 || hw.String() != string(mac) {
			t.Fatalf("%q was read as %q", s, mac)
		}
		if again, err := ParseMAC(string(mac)); err != nil || again != mac {
			t.Fatalf("%q was read as %q and then as %q, %v", s, mac, again, err)
		}
	})
}
