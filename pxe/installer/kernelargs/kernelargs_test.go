package kernelargs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSplitsLikeTheKernel(t *testing.T) {
	tests := []struct {
		reason, line string
		want         Args
	}{
		{"an empty line has no parameters", "", Args{}},
		{"iPXE adds initrd= and the installer's own follow",
			"initrd=initrd.img rhizome.init=http://10.0.0.1:7480/init/52:54:00:00:00:01 quiet\n",
			Args{"initrd": {"initrd.img"}, "rhizome.init": {"http://10.0.0.1:7480/init/52:54:00:00:00:01"}, "quiet": {""}}},
		{"a repeated parameter keeps all its values", "console=tty0 console=ttyS0,115200n8",
			Args{"console": {"tty0", "ttyS0,115200n8"}}},
		{"quotes keep a value together", `a="b c" "d=e f"`, Args{"a": {"b c"}, "d": {"e f"}}},
		{"an unclosed quote takes the rest", `a="b c`, Args{"a": {"b c"}}},
		{"a value may hold equals signs", "a=b=c", Args{"a": {"b=c"}}},
		{"words for init are parsed alike", "a -- b", Args{"a": {""}, "b": {""}}},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Parse(tt.line)); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", tt.line, diff)
			}
		})
	}
}

func TestTheLastValueWins(t *testing.T) {
	if got := Parse("a=1 a=2").Get("a"); got != "2" {
		t.Errorf("Get = %q, want 2", got)
	}
	if got := Parse("").Get("a"); got != "" {
		t.Errorf("Get of an absent parameter = %q, want nothing", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`initrd=x rhizome.mac=52:54:00:00:00:01 a="b c" -- d`)
	f.Add("\"")
	f.Fuzz(func(t *testing.T, line string) {
		for name, values := range Parse(line) {
			if name == "" || len(values) == 0 {
				t.Errorf("Parse(%q) has the parameter %q with %d values", line, name, len(values))
			}
		}
	})
}
