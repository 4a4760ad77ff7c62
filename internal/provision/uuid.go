package provision

import (
	"encoding/hex"
	"strings"
)

// knownUUID says whether a UUID tells machines apart: boards without one say all
// zeros or all ones (SMBIOS 3.6, section 7.2.1).
func knownUUID(uuid string) bool {
	b, ok := parseUUID(uuid)
	if !ok {
		return false
	}
	for _, v := range b {
		if v != b[0] {
			return true
		}
	}
	return b[0] != 0x00 && b[0] != 0xff
}

// sameUUID says whether nothing speaks against two UUIDs being one machine's: one
// of them is not known, or they are equal in either byte order. SMBIOS stores the
// first three fields little-endian; firmware and loaders differ in whether they
// turn them round (RFC 4578 section 2.3 does not say).
func sameUUID(a, b string) bool {
	if !knownUUID(a) || !knownUUID(b) {
		return true
	}
	x, _ := parseUUID(a)
	y, _ := parseUUID(b)
	if x == y {
		return true
	}
	x[0], x[1], x[2], x[3] = x[3], x[2], x[1], x[0]
	x[4], x[5] = x[5], x[4]
	x[6], x[7] = x[7], x[6]
	return x == y
}

func parseUUID(s string) (b [16]byte, ok bool) {
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(raw) != len(b) {
		return b, false
	}
	copy(b[:], raw)
	return b, true
}
