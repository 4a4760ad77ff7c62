//go:build linux

package lab

import (
	"bytes"
	"net"
	"testing"
)

func magic(mac net.HardwareAddr) []byte {
	return append(bytes.Repeat([]byte{0xff}, 6), bytes.Repeat(mac, 16)...)
}

func frame(destination net.HardwareAddr, etherType uint16, payload ...[]byte) []byte {
	f := append([]byte{}, destination...)
	f = append(f, 0x52, 0x54, 0, 0, 0, 1, byte(etherType>>8), byte(etherType))
	return append(f, bytes.Join(payload, nil)...)
}

func TestMagicPacketIsRecognisedAsACardInStandbyWould(t *testing.T) {
	var (
		target    = net.HardwareAddr{0x52, 0x54, 0x00, 0xaa, 0xbb, 0xcc}
		other     = net.HardwareAddr{0x52, 0x54, 0x00, 0x11, 0x22, 0x33}
		onesFirst = net.HardwareAddr{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff}
		broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		udp       = make([]byte, 28) // IPv4 and UDP headers, which a card does not read
	)
	tests := []struct {
		reason string
		frame  []byte
		want   net.HardwareAddr
	}{
		{"ethertype 0x0842 by broadcast", frame(broadcast, 0x0842, magic(target)), target},
		{"UDP by broadcast", frame(broadcast, 0x0800, udp, magic(target)), target},
		{"addressed to the card itself", frame(target, 0x0842, magic(target)), target},
		{"a SecureOn password follows", frame(broadcast, 0x0842, magic(target), []byte{1, 2, 3, 4, 5, 6}), target},
		{"more ones before the pattern", frame(broadcast, 0x0800, udp, []byte{0xff, 0xff, 0xff}, magic(target)), target},
		{"a MAC that is nearly all ones", frame(broadcast, 0x0842, magic(onesFirst)), onesFirst},
		{"ones that are no pattern come first", frame(broadcast, 0x0800, bytes.Repeat([]byte{0xff}, 9), udp, magic(target)), target},
		{"addressed to another card", frame(other, 0x0842, magic(target)), nil},
		{"one repetition too few", frame(broadcast, 0x0842, magic(target)[:6+15*6]), nil},
		{"cut in the last byte", frame(broadcast, 0x0842, magic(target)[:6+16*6-1]), nil},
		{"a repetition differs", frame(broadcast, 0x0842, magic(target)[:6+15*6], other), nil},
		{"the target is the broadcast address", frame(broadcast, 0x0842, magic(broadcast)), nil},
		{"no payload", frame(broadcast, 0x0842), nil},
		{"shorter than a header", broadcast, nil},
		{"nothing", nil, nil},
	}
	for _, test := range tests {
		got, ok := MagicPacket(test.frame)
		if ok != (test.want != nil) || !bytes.Equal(got, test.want) {
			t.Errorf("%s: MagicPacket = %v, %v; want %v", test.reason, got, ok, test.want)
		}
	}
}

func FuzzMagicPacket(f *testing.F) {
	mac := net.HardwareAddr{0x52, 0x54, 0x00, 0xaa, 0xbb, 0xcc}
	broadcast := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	f.Add(frame(broadcast, 0x0842, magic(mac)))
	f.Add(frame(mac, 0x0800, make([]byte, 28), magic(mac)))
	f.Add(bytes.Repeat([]byte{0xff}, 300))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		got, ok := MagicPacket(data)
		if !bytes.Equal(before, data) {
			t.Fatal("the frame was changed")
		}
		if ok && (len(got) != 6 || !bytes.Contains(data[14:], magic(got))) {
			t.Fatalf("MagicPacket = %v, whose pattern is not in the frame", got)
		}
	})
}
