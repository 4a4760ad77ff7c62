package provision

import (
	"strings"
	"testing"
	"unicode"

	"github.com/rhizome-dev/rhizome/pxe"
)

// Whatever a machine with a claim says of itself, only the three stages of an
// installation move its claim, and what people are shown is short and on a line.
func FuzzReport(f *testing.F) {
	for _, stage := range []pxe.Stage{pxe.StageInstalling, pxe.StageInstalled, pxe.StageFailed, pxe.StageCredentials, ""} {
		f.Add(string(stage), "writing the image", "image", int64(1), int64(2), "4c4c4544-0035-4a10-8051-b7c04f4e3132", "/dev/sda")
	}
	f.Add("Failed", strings.Repeat("\x1b[31m\n", 9000), strings.Repeat("\u2028", 99), int64(-1), int64(-1), "00000000-0000-0000-0000-000000000000", "\xff\x00")
	f.Fuzz(func(t *testing.T, stage, message, step string, done, total int64, uuid, disk string) {
		claim := openClaim()
		s := newScene(t, claim)
		if _, err := s.InitConfig(t.Context(), claim.MAC, addr("192.168.1.10")); err != nil {
			t.Fatal(err)
		}
		before := s.state(claim.MAC)
		err := s.Report(t.Context(), claim.ID, pxe.Report{
			Stage: pxe.Stage(stage), Message: message, Step: step, Done: done, Total: total, UUID: uuid, Disk: disk,
		}, addr("192.168.1.10"))
		after, want := s.state(claim.MAC), map[pxe.Stage]State{
			pxe.StageInstalling: before, pxe.StageInstalled: StateInstalled, pxe.StageFailed: StateFailed,
		}[pxe.Stage(stage)]
		if err != nil {
			want = before
		}
		if after != want {
			t.Errorf("the stage %q made a claim that was %s %s, want %s (%v)", stage, before, after, want, err)
		}
		o := s.last()
		if o.Done < 0 || o.Total < 0 || len(o.Message) > maxReported+1024 || strings.ContainsFunc(o.Message, unicode.IsControl) {
			t.Errorf("observed %+v", o)
		}
	})
}
