package controlplane

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestArgumentsOfTheUserReplaceOrExtend(t *testing.T) {
	a := newArgs("one", "1", "two", "2")
	got := a.list([]string{"two=20", "--three=3", "flag"})
	if d := cmp.Diff([]string{"--one=1", "--two=20", "--three=3", "--flag=true"}, got); d != "" {
		t.Error(d)
	}
}

func TestTheFirstServiceAddressIsTheAPIServers(t *testing.T) {
	for in, want := range map[string]string{"10.43.0.0/16": "10.43.0.1", "fd00::/108": "fd00::1"} {
		if got := firstAddress(in).String(); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestTheNodeOfAMember(t *testing.T) {
	for in, want := range map[string]string{"node-1-0a1b2c3d": "node-1", "odd": "odd"} {
		if got := nodeOf(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
