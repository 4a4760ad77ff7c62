package loader

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

func image(parts ...string) []byte { return []byte(strings.Join(parts, "")) }

func TestPatchWritesTheAddressAndChangesNothingElse(t *testing.T) {
	for _, c := range []struct {
		name   string
		before int
	}{
		{"at the begin", 0}, {"in the middle", 1000}, {"across a chunk", 64<<10 - 7}, {"in the second chunk", 100 << 10},
	} {
		for _, address := range []string{"1.2.3.4:1", "255.255.255.255:65535"} {
			t.Run(c.name+" "+address, func(t *testing.T) {
				before, after := strings.Repeat("a", c.before), strings.Repeat("z", 70<<10)
				in := image(before, Placeholder, after)
				r, err := Patch(bytes.NewReader(in), int64(len(in)), netip.MustParseAddrPort(address))
				if err != nil {
					t.Fatal(err)
				}
				want := image(before, address, strings.Repeat(" ", len(Placeholder)-len(address)), after)
				for name, reader := range map[string]io.Reader{
					"whole":        io.NewSectionReader(r, 0, int64(len(in))),
					"byte by byte": iotest.OneByteReader(io.NewSectionReader(r, 0, int64(len(in)))),
				} {
					got, err := io.ReadAll(reader)
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(got, want) {
						t.Errorf("%s: the image is not what it should be", name)
					}
				}
			})
		}
	}
}

func TestPatchRefusesAnImageThatItDoesNotUnderstand(t *testing.T) {
	half := strings.Repeat("b", 64<<10)
	for _, c := range []struct {
		name    string
		image   []byte
		address string
		want    string
	}{
		{"no placeholder", image("abc"), "1.2.3.4:80", "lacks the placeholder"},
		{"nothing", nil, "1.2.3.4:80", "lacks the placeholder"},
		{"half a placeholder", image(Placeholder[:10]), "1.2.3.4:80", "lacks the placeholder"},
		{"two placeholders", image(Placeholder, "x", Placeholder), "1.2.3.4:80", "twice"},
		{"two that touch", image(Placeholder, Placeholder), "1.2.3.4:80", "twice"},
		{"two, far apart", image(Placeholder, half, half, Placeholder), "1.2.3.4:80", "twice"},
		{"IPv6", image(Placeholder), "[::1]:80", "IPv4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Patch(bytes.NewReader(c.image), int64(len(c.image)), netip.MustParseAddrPort(c.address))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
		})
	}
}
