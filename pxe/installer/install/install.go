// Package install is the course of one installation, from the network to the
// last report.
package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/disk"
	"github.com/rhizome-dev/rhizome/pxe/installer/kernelargs"
	"github.com/rhizome-dev/rhizome/pxe/installer/network"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
	"github.com/rhizome-dev/rhizome/pxe/installer/report"
	"github.com/rhizome-dev/rhizome/pxe/installer/seed"
	"github.com/rhizome-dev/rhizome/pxe/installer/stream"
)

// Disk is an open disk.
type Disk interface {
	stream.Target
	SectorSize() int // bytes
	ReadPartitions() error
	Close() error
}

// Machine is what the installer runs on.
type Machine struct {
	Args kernelargs.Args
	UUID string // SMBIOS, empty when there is none
	// Network brings the interface up.
	Network func(context.Context, network.Config) error
	// Disks are looked at until they have settled.
	Disks *disk.Watch
	// Open opens the disk at this path for writing, exclusively.
	Open func(path string) (Disk, error)
	// SetClock sets the clock; Now reads it.
	SetClock func(time.Time) error
	Now      func() time.Time
	// Keep is given the plan as it came, for the report of a crash. May be nil.
	Keep func([]byte) error
	// Kexec loads the kernel of the system on the disk at this path, so that the
	// machine can start it at once. An error says why that cannot be. Nil: it cannot.
	Kexec func(path string) error
	// Console takes lines for the person in front of the machine.
	Console io.Writer
	// Patience has the time-outs; the zero value the ones in its comments.
	Patience Patience
}

// Failure is an installation that came to nothing.
type Failure struct {
	Step string // a short word: network, plan, disk, image, seed, report
	Err  error
	// Reported says that the server knows.
	Reported bool
}

// Error implements error.
func (f *Failure) Error() string { return f.Step + ": " + f.Err.Error() }

// Unwrap returns the reason.
func (f *Failure) Unwrap() error { return f.Err }

// Next is how the machine goes on after its installation.
type Next int

// The ways into the new system. The zero value is Restart.
const (
	Restart Next = iota
	Kexec        // the new system's kernel is loaded
)

// Run installs the machine. When it returns no error the server knows, and the machine
// is to go into its new system as Next says. Every other error is a *Failure, which
// was reported if there was a plan.
func Run(ctx context.Context, m Machine) (Next, error) {
	i := &installation{Machine: m}
	i.Patience = i.Patience.withDefaults()
	err := i.run(ctx)
	if err == nil {
		return i.next, nil
	}
	failure := &Failure{Step: i.step, Err: err}
	if i.reports != nil && i.step != stepReport {
		i.say("telling the server: %v", err)
		reportErr := i.reports.Until(ctx, i.Patience.Failed, pxe.Report{
			Stage: pxe.StageFailed, Step: i.step, Message: err.Error(), Disk: i.disk,
		})
		if reportErr != nil {
			i.say("the server does not know of this failure: %v", reportErr)
		}
		failure.Reported = reportErr == nil
	}
	return Restart, failure
}

// The steps, as they are reported.
const (
	stepNetwork = "network"
	stepPlan    = "plan"
	stepDisk    = "disk"
	stepImage   = "image"
	stepSeed    = "seed"
	stepReport  = "report"
)

type installation struct {
	Machine
	step    string
	plan    plan.Plan
	reports *report.Client
	disk    string // the chosen one, for people
	next    Next
}

func (i *installation) say(format string, args ...any) {
	_, _ = fmt.Fprintf(i.Console, "rhizome: "+format+"\n", args...) // nowhere is left to say it
}

func (i *installation) run(ctx context.Context) error {
	i.step = stepNetwork
	if err := i.network(ctx); err != nil {
		return err
	}
	i.step = stepPlan
	p, err := i.fetchPlan(ctx, i.Args.Get("rhizome.init"))
	if err != nil {
		return err
	}
	i.plan = p
	if i.reports, err = report.New(p); err != nil {
		return err
	}
	i.reports.UUID, i.reports.Log = i.UUID, i.say

	i.step = stepDisk
	chosen, err := i.choose(ctx)
	if err != nil {
		return err
	}
	i.disk = chosen.String()
	i.say("installing %s on %s", p.Node, i.disk)
	// The server must know what is about to be wiped, and agree.
	if err := i.reports.Until(ctx, i.Patience.Gate, pxe.Report{
		Stage: pxe.StageInstalling, Step: stepDisk, Message: "installing on " + i.disk, Disk: i.disk,
	}); err != nil {
		return fmt.Errorf("the server did not agree to the installation, nothing was written: %w", err)
	}
	target, err := i.Open(chosen.Path)
	if err != nil {
		return err
	}
	err = i.write(ctx, target)
	if err = errors.Join(err, target.Close()); err != nil {
		return err
	}

	message := "installed on " + i.disk + i.prepareNext(chosen.Path)
	i.step = stepReport
	i.say("installed; telling the server")
	if err := i.reports.Until(ctx, i.Patience.Installed, pxe.Report{
		Stage: pxe.StageInstalled, Message: message, Disk: i.disk,
		Done: i.plan.Image.Size, Total: i.plan.Image.Size,
	}); err != nil {
		return fmt.Errorf("the system is installed, but the server was not told: %w", err)
	}
	return nil
}

// prepareNext loads the new system's kernel if the plan wants it, and says for people
// what comes next. That it cannot be is no failure: the machine restarts.
func (i *installation) prepareNext(disk string) string {
	if !i.plan.Kexec {
		return ""
	}
	err := errors.New("this installer cannot")
	if i.Kexec != nil {
		err = i.Kexec(disk)
	}
	if err != nil {
		i.say("the new system's kernel cannot be started at once: %v", err)
		return fmt.Sprintf("; it restarts, because its kernel cannot be started by kexec: %v", err)
	}
	i.next = Kexec
	i.say("the new system's kernel is loaded")
	return "; its kernel is started by kexec"
}

func (i *installation) network(ctx context.Context) error {
	if i.Args.Get("rhizome.init") == "" {
		return errors.New("the kernel command line has no rhizome.init=URL: this installer is started by Rhizome's boot server only")
	}
	mac, err := pxe.ParseMAC(i.Args.Get("rhizome.mac"))
	if err != nil {
		return fmt.Errorf("the kernel command line's rhizome.mac: %w", err)
	}
	c := network.Config{MAC: mac, Log: i.say}
	if s := i.Args.Get("rhizome.address"); s != "" {
		if c.Static, err = netip.ParsePrefix(s); err != nil {
			return fmt.Errorf("the kernel command line's rhizome.address: %w", err)
		}
	}
	if s := i.Args.Get("rhizome.gateway"); s != "" {
		if c.StaticGateway, err = netip.ParseAddr(s); err != nil {
			return fmt.Errorf("the kernel command line's rhizome.gateway: %w", err)
		}
	}
	return i.Network(ctx, c)
}

// choose waits for the disks to settle and chooses one. A disk that is missing
// may still be spinning up; two that match will not become one.
func (i *installation) choose(ctx context.Context) (disk.Disk, error) {
	deadline := i.Now().Add(i.Patience.Disk)
	for said := false; ; {
		disks, settled := i.Disks.Settled(i.Patience.Settle, i.Now())
		if settled {
			chosen, err := disk.Choose(disks, i.plan.Disk, i.plan.Image.Size)
			if err == nil {
				return chosen, nil
			}
			var refusal *disk.Refusal
			missing := errors.As(err, &refusal) && refusal.Rule != disk.Ambiguous
			if !missing || !i.Now().Before(deadline) {
				return disk.Disk{}, err
			}
			if !said {
				said = true
				i.say("%v", err)
				i.say("waiting %s for it to appear", i.Patience.Disk)
			}
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return disk.Disk{}, err
		}
	}
}

// write streams the image and seeds it.
func (i *installation) write(ctx context.Context, target Disk) error {
	i.step = stepImage
	var layout seed.Layout
	progress := new(stream.Progress)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := i.follow(ctx, cancel, progress)
	head, err := stream.Image(ctx, i.plan.Image, target, stream.Options{
		Client:   imageClient(),
		Patience: i.Patience.Image,
		Inspect: func(head []byte) (err error) {
			layout, err = seed.Inspect(head, target.Size(), target.SectorSize())
			if err != nil {
				err = fmt.Errorf("%w; nothing was written", err)
			}
			return err
		},
		Progress: progress,
		Log:      i.say,
	})
	stop()
	if err != nil {
		return err
	}
	i.step = stepSeed
	i.say("image written and its SHA-256 is right; writing the seed")
	if err := seed.Write(target, head, layout, i.plan.Seed); err != nil {
		return err
	}
	if err := target.ReadPartitions(); err != nil {
		i.say("the kernel does not read the new partition table (%v): the reboot will", err)
	}
	return nil
}

// imageClient keeps one connection and sets no limit on the whole of a download.
func imageClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		ResponseHeaderTimeout: 30 * time.Second,
		DisableCompression:    true,
		MaxIdleConns:          1,
		ReadBufferSize:        256 << 10,
	}}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
