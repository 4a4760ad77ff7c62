package install_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/disk"
	"github.com/rhizome-dev/rhizome/pxe/installer/install"
	"github.com/rhizome-dev/rhizome/pxe/installer/kernelargs"
	"github.com/rhizome-dev/rhizome/pxe/installer/network"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
	"github.com/rhizome-dev/rhizome/pxe/installer/stream"
)

// quick is the patience of a test: the clock is real, so it is short.
var quick = install.Patience{
	Plan: 2 * time.Second, Refusals: 3, Refused: 10 * time.Millisecond, Settle: time.Millisecond,
	Disk: 300 * time.Millisecond, Gate: time.Second, Installed: 2 * time.Second, Failed: 2 * time.Second,
	Progress: 10 * time.Millisecond, Line: 10 * time.Millisecond,
	Image: stream.Patience{Silence: time.Second, GiveUp: 3 * time.Second, FirstPause: time.Millisecond, LongestPause: 50 * time.Millisecond},
}

// host is a machine whose disks are files; everything else of it is real.
type host struct {
	install.Machine
	mu      sync.Mutex
	console bytes.Buffer
	config  network.Config
	opened  []string
	clock   time.Duration // how far the machine's clock is ahead
	kept    []byte
}

func (h *host) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.console.Write(p)
}

func (h *host) said() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.console.String()
}

func machine(s *service, disks ...disk.Disk) *host {
	h := &host{}
	watch := new(disk.Watch)
	watch.See(disks, time.Now())
	h.Machine = install.Machine{
		Args: kernelargs.Parse("rhizome.mac=52-54-00-00-00-01 rhizome.init=" + s.initURL()),
		UUID: "12345678-9abc-def0-1234-56789abcdef0",
		Network: func(_ context.Context, c network.Config) error {
			h.config = c
			return nil
		},
		Disks: watch,
		Open: func(path string) (install.Disk, error) {
			h.opened = append(h.opened, path)
			return disk.OpenDevice(path)
		},
		SetClock: func(t time.Time) error { h.clock = 0; return nil },
		Now:      func() time.Time { return time.Now().Add(h.clock) },
		Keep:     func(b []byte) error { h.kept = b; return nil },
		Console:  h,
		Patience: quick,
	}
	return h
}

func fileDisk(path string, size int64) disk.Disk {
	return disk.Disk{Path: path, Size: size, Serial: path[strings.LastIndex(path, "/")+1:]}
}

// runToRestart installs a machine that was not told to go on in another way.
func runToRestart(t *testing.T, h *host) error {
	t.Helper()
	next, err := install.Run(t.Context(), h.Machine)
	if next != install.Restart {
		t.Errorf("the machine goes on by %d, want a restart", next)
	}
	return err
}

func failure(t *testing.T, err error, step string, wants ...string) {
	t.Helper()
	var f *install.Failure
	if !errors.As(err, &f) || f.Step != step {
		t.Fatalf("Run = %v, want a failure of the step %s", err, step)
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the failure does not say %q: %v", want, err)
		}
	}
}

func TestInstallation(t *testing.T) {
	image := makeImage(t)
	s := serve(t, "127.0.0.1", image, func(s *service) { s.cuts = 3 })
	path := used(t, diskSize)
	h := machine(s, fileDisk(path, diskSize))
	h.clock = -20 * 365 * 24 * time.Hour
	if err := runToRestart(t, h); err != nil {
		t.Fatalf("%v\n%s", err, h.said())
	}
	installed(t, path, image, s.plan.Seed)
	if h.config.MAC != "52:54:00:00:00:01" {
		t.Errorf("the network was asked for %q", h.config.MAC)
	}
	if h.clock != 0 {
		t.Error("a clock twenty years behind was not set")
	}
	if last := s.last(); last.Stage != pxe.StageInstalled || last.UUID != h.UUID {
		t.Errorf("the last report is %+v", last)
	}
	if first := s.reports[0]; first.Stage != pxe.StageInstalling || first.Step != "disk" || !strings.Contains(first.Disk, path) {
		t.Errorf("the first report is %+v: it must name the disk", first)
	}
	if p, err := plan.Decode(h.kept); err != nil || p.Claim != claim {
		t.Errorf("the plan was not kept for the report of a crash: %v", err)
	}
	if strings.Contains(h.said(), claim) {
		t.Error("the claim is on the console")
	}
}

func TestNothingIsWrittenWhenInDoubt(t *testing.T) {
	image := makeImage(t)
	other := disk.Disk{Path: "/dev/other", Size: diskSize, Serial: "other"}
	tests := []struct {
		reason   string
		service  func(*service)
		machine  func(*host)
		disks    []disk.Disk // beside the file
		step     string
		want     []string
		reported bool
	}{
		{reason: "the plan is refused", step: "plan", want: []string{"ClaimExpired", "refused 3 times"},
			service: func(s *service) { s.refuse = -1 }},
		{reason: "the plan is unusable", step: "plan", want: []string{"image.sha256"},
			service: func(s *service) { s.plan.Image.SHA256 = "none" }},
		{reason: "nobody serves a plan", step: "plan", want: []string{"no init config within"},
			machine: func(h *host) { h.Args["rhizome.init"] = []string{"http://127.0.0.1:1/init"} }},
		{reason: "the kernel has no init argument", step: "network", want: []string{"rhizome.init"},
			machine: func(h *host) { delete(h.Args, "rhizome.init") }},
		{reason: "the kernel has no MAC argument", step: "network", want: []string{"rhizome.mac"},
			machine: func(h *host) { delete(h.Args, "rhizome.mac") }},
		{reason: "the network does not come up", step: "network", want: []string{"no link"},
			machine: func(h *host) {
				h.Network = func(context.Context, network.Config) error { return errors.New("no link") }
			}},
		{reason: "two disks match", step: "disk", want: []string{"2 disks", "spec.disk"}, reported: true,
			disks: []disk.Disk{other}},
		{reason: "no disk matches", step: "disk", want: []string{"no disk of this machine matches"}, reported: true,
			service: func(s *service) { s.plan.Disk.Serial = "absent" }},
		{reason: "the disk is in use", step: "disk", want: []string{"device or resource busy"}, reported: true,
			machine: func(h *host) {
				h.Open = func(string) (install.Disk, error) { return nil, &fs.PathError{Op: "open", Err: syscall.EBUSY} }
			}},
		{reason: "the first report is refused", step: "disk", want: []string{"ClaimWithdrawn", "nothing was written"}, reported: true,
			service: func(s *service) { s.refuseReports = pxe.StageInstalling }},
		{reason: "the server's certificate is by another authority", step: "disk", want: []string{"certificate", "nothing was written"},
			service: func(s *service) { _, s.plan.CA = authority(s.t, "127.0.0.1") }},
		{reason: "the image is not there", step: "image", want: []string{"404"}, reported: true,
			service: func(s *service) { s.plan.Image.URL = s.base + "/gone" }},
		{reason: "the image is no disk image", step: "image", want: []string{"no partition table", "nothing was written"}, reported: true,
			service: func(s *service) { s.plan.Image.Compression = plan.None }},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			s := serve(t, "127.0.0.1", image, tt.service)
			path := used(t, diskSize)
			h := machine(s, append(tt.disks, fileDisk(path, diskSize))...)
			if tt.machine != nil {
				tt.machine(h)
			}
			err := runToRestart(t, h)
			failure(t, err, tt.step, tt.want...)
			untouched(t, path)
			var f *install.Failure
			errors.As(err, &f)
			if f.Reported != tt.reported {
				t.Errorf("Reported = %t, want %t", f.Reported, tt.reported)
			}
			if last := s.last(); tt.reported && (last.Stage != pxe.StageFailed || last.Step != tt.step || last.Message == "") {
				t.Errorf("the last report is %+v, want Failed with the reason", last)
			}
		})
	}
}

func TestFailuresAfterWritingBeganLeaveADiskThatCannotBoot(t *testing.T) {
	image := makeImage(t)
	tests := []struct {
		reason  string
		service func(*service)
		want    string
	}{
		{"a wrong digest", func(s *service) { s.plan.Image.SHA256 = strings.Repeat("0", 64) }, "SHA-256"},
		{"a damaged image", func(s *service) { s.image[len(s.image)/2] ^= 0xff }, "SHA-256"},
		{"a server that goes away for good", func(s *service) { s.cuts, s.gone = 1, true }, "given up"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			s := serve(t, "127.0.0.1", image, tt.service)
			path := used(t, diskSize)
			h := machine(s, fileDisk(path, diskSize))
			h.Patience.Image.GiveUp = 100 * time.Millisecond
			failure(t, runToRestart(t, h), "image", tt.want)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b[:mib], make([]byte, mib)) {
				t.Error("the disk has a boot sector or a partition table")
			}
			if last := s.last(); last.Stage != pxe.StageFailed || last.Step != "image" {
				t.Errorf("the last report is %+v", last)
			}
		})
	}
}

func TestTheNewSystemIsStartedAtOnceOnlyIfThePlanSaysSoAndItCanBe(t *testing.T) {
	image := makeImage(t)
	cannot := errors.New("its kernel is not signed")
	for _, tt := range []struct {
		reason string
		wanted bool
		err    error
		nobody bool // the machine cannot
		next   install.Next
		report string // what its end says
	}{
		{"not asked for", false, nil, false, install.Restart, ""},
		{"asked for", true, nil, false, install.Kexec, "; its kernel is started by kexec"},
		{"the kernel cannot be loaded", true, cannot, false, install.Restart, "; it restarts, because its kernel cannot be started by kexec: " + cannot.Error()},
		{"this machine cannot", true, nil, true, install.Restart, "; it restarts, because its kernel cannot be started by kexec: this installer cannot"},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			s := serve(t, "127.0.0.1", image, func(s *service) { s.plan.Kexec = tt.wanted })
			path := used(t, diskSize)
			h := machine(s, fileDisk(path, diskSize))
			asked := 0
			h.Kexec = func(disk string) error {
				asked++
				installed(t, disk, image, s.plan.Seed) // the disk is closed, and whole
				if last := s.last(); last.Stage == pxe.StageInstalled {
					t.Error("the kernel was loaded after the last report")
				}
				return tt.err
			}
			if tt.nobody {
				h.Kexec = nil
			}
			next, err := install.Run(t.Context(), h.Machine)
			if err != nil || next != tt.next {
				t.Fatalf("Run = %d, %v, want %d", next, err, tt.next)
			}
			if want := tt.wanted && !tt.nobody; (asked == 1) != want {
				t.Errorf("the kernel was loaded %d times", asked)
			}
			last := s.last()
			if last.Stage != pxe.StageInstalled || last.Message != "installed on "+last.Disk+tt.report {
				t.Errorf("the last report is %+v", last)
			}
		})
	}
}

func TestALateDiskIsWaitedFor(t *testing.T) {
	image := makeImage(t)
	s := serve(t, "127.0.0.1", image, nil)
	path := used(t, diskSize)
	h := machine(s)
	h.Patience.Disk = time.Minute
	go func() {
		for !strings.Contains(h.said(), "waiting") {
			time.Sleep(time.Millisecond)
		}
		h.Disks.See([]disk.Disk{fileDisk(path, diskSize)}, time.Now())
	}()
	if err := runToRestart(t, h); err != nil {
		t.Fatal(err)
	}
	installed(t, path, image, s.plan.Seed)
}

func TestInstalledWithoutAcknowledgementIsAFailure(t *testing.T) {
	s := serve(t, "127.0.0.1", makeImage(t), func(s *service) { s.refuseReports = pxe.StageInstalled })
	path := used(t, diskSize)
	h := machine(s, fileDisk(path, diskSize))
	failure(t, runToRestart(t, h), "report", "ClaimWithdrawn", "the system is installed")
}

func TestStaticAddressOfTheCommandLine(t *testing.T) {
	s := serve(t, "127.0.0.1", makeImage(t), func(s *service) { s.refuse = -1 })
	h := machine(s)
	h.Args["rhizome.address"] = []string{"192.168.1.10/24"}
	h.Args["rhizome.gateway"] = []string{"192.168.1.1"}
	failure(t, runToRestart(t, h), "plan")
	if h.config.Static.String() != "192.168.1.10/24" || h.config.StaticGateway.String() != "192.168.1.1" {
		t.Errorf("the network was asked for %+v", h.config)
	}
	for _, arg := range []string{"rhizome.address", "rhizome.gateway"} {
		h := machine(s)
		h.Args[arg] = []string{"nonsense"}
		failure(t, runToRestart(t, h), "network", arg)
	}
}
