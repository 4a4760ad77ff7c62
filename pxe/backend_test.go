package pxe

import (
	"net/netip"
	"reflect"
	"testing"
	"time"
)

// TestEqualLooksAtEveryField changes one field of a decision after another, those of its
// lease and of its kernel too; a field that is added is found by that.
func TestEqualLooksAtEveryField(t *testing.T) {
	whole := func() *Decision {
		return &Decision{
			Action: Install, Reason: "a claim is open", Loader: LoaderGRUB, LocalBoot: LocalBootExit, Arch: AMD64,
			Lease: &Lease{
				Address: netip.MustParsePrefix("192.168.1.2/24"), Gateway: netip.MustParseAddr("192.168.1.1"),
				Nameservers: []netip.Addr{netip.MustParseAddr("192.168.1.1")}, HostName: "alpha", Duration: time.Hour,
			},
			Kernel: Kernel{Path: "/vmlinuz", Initrds: []string{"/initrd.img"}, Args: []string{"quiet"}},
		}
	}
	if !whole().Equal(whole()) {
		t.Error("two that are the same are not equal")
	}
	parts := map[string]func(*Decision) reflect.Value{
		"Decision": func(d *Decision) reflect.Value { return reflect.ValueOf(d).Elem() },
		"Lease":    func(d *Decision) reflect.Value { return reflect.ValueOf(d.Lease).Elem() },
		"Kernel":   func(d *Decision) reflect.Value { return reflect.ValueOf(&d.Kernel).Elem() },
	}
	for part, of := range parts {
		for i := range of(whole()).NumField() {
			changed := whole()
			field := of(changed).Field(i)
			if field.IsZero() {
				t.Errorf("%s.%s: the test has no value for it", part, of(changed).Type().Field(i).Name)
			}
			field.SetZero()
			if whole().Equal(changed) || changed.Equal(whole()) {
				t.Errorf("a change of %s.%s is not seen", part, of(changed).Type().Field(i).Name)
			}
		}
	}
}
