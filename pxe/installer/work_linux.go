package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/boot"
	"github.com/rhizome-dev/rhizome/pxe/installer/disk"
	"github.com/rhizome-dev/rhizome/pxe/installer/install"
	"github.com/rhizome-dev/rhizome/pxe/installer/kernelargs"
	"github.com/rhizome-dev/rhizome/pxe/installer/kexec"
	"github.com/rhizome-dev/rhizome/pxe/installer/modules"
	"github.com/rhizome-dev/rhizome/pxe/installer/network"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
	"github.com/rhizome-dev/rhizome/pxe/installer/report"
)

// In memory only; what they hold is gone with the power.
const (
	planFile  = "/run/plan.json"
	crashFile = "/run/crash"
)

// hotplug is how often new devices are looked for.
const hotplug = 300 * time.Millisecond

// work is the installation; it returns the exit code.
func work() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		fmt.Printf("rhizome: cannot read the kernel command line: %v\n", err)
		return exitFailed
	}
	loader, err := modules.OpenRunning()
	if err != nil {
		fmt.Printf("rhizome: %v\n", err)
		return exitFailed
	}
	watch := new(disk.Watch)
	go attend(ctx, loader, watch)

	next, err := install.Run(ctx, install.Machine{
		Args:    kernelargs.Parse(string(cmdline)),
		UUID:    machineUUID(),
		Network: network.Up,
		Disks:   watch,
		Open: func(path string) (install.Disk, error) {
			d, err := disk.OpenDevice(path)
			if err != nil {
				return nil, err
			}
			return d, nil
		},
		SetClock: boot.SetClock,
		Now:      time.Now,
		Keep:     func(b []byte) error { return os.WriteFile(planFile, b, 0o600) },
		Kexec:    kexec.Load,
		Console:  os.Stdout,
	})
	if err != nil {
		var failure *install.Failure
		errors.As(err, &failure)
		fmt.Printf("rhizome: %s\nrhizome: INSTALLATION FAILED (%s)\n", strings.Repeat("=", 70), failure.Step)
		for line := range strings.Lines(failure.Err.Error()) {
			fmt.Printf("rhizome: %s\n", strings.TrimRight(line, "\n"))
		}
		if failure.Reported {
			fmt.Println("rhizome: The server was told.")
		}
		return exitFailed
	}
	if next == install.Kexec {
		return exitLoaded
	}
	return exitInstalled
}

// attend loads drivers and looks at the disks, again and again, as devices turn
// up.
func attend(ctx context.Context, loader *modules.Loader, watch *disk.Watch) {
	started, first := time.Now(), true
	for ctx.Err() == nil {
		if err := loader.Coldplug("/sys"); err != nil {
			fmt.Printf("rhizome: %v\n", err)
		}
		if first {
			first = false
			fmt.Printf("rhizome: %d drivers loaded in %s\n", loader.Loaded(), time.Since(started).Round(time.Millisecond))
		}
		disks, err := disk.List("/sys", "/proc")
		if err != nil {
			fmt.Printf("rhizome: %v\n", err)
		}
		watch.See(disks, time.Now())
		time.Sleep(hotplug)
	}
}

// machineUUID is the SMBIOS UUID as the kernel writes it; empty when there is none.
func machineUUID() string {
	b, err := os.ReadFile("/sys/class/dmi/id/product_uuid")
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(string(b)))
}

// reportCrash tells the server, if there was a plan, that the installer crashed.
func reportCrash() int {
	b, err := os.ReadFile(planFile)
	if err != nil {
		return exitFailed // no plan, no claim: nobody to tell
	}
	p, err := plan.Decode(b)
	if err != nil {
		fmt.Printf("rhizome: %v\n", err)
		return exitFailed
	}
	client, err := report.New(p)
	if err != nil {
		fmt.Printf("rhizome: %v\n", err)
		return exitFailed
	}
	reason, err := os.ReadFile(crashFile)
	if err != nil {
		reason = []byte("the installer crashed")
	}
	client.UUID = machineUUID()
	if err := client.Until(context.Background(), 2*time.Minute, pxe.Report{
		Stage: pxe.StageFailed, Step: "crash", Message: string(reason),
	}); err != nil {
		fmt.Printf("rhizome: the server does not know of this crash: %v\n", err)
		return exitFailed
	}
	return 0
}

// modprobe is called by the kernel as "modprobe -q -- NAME".
func modprobe(args []string) int {
	loader, err := modules.OpenRunning()
	if err != nil {
		return 1
	}
	code := 0
	for _, name := range args {
		if !strings.HasPrefix(name, "-") && loader.Load(name) != nil {
			code = 1
		}
	}
	return code
}
