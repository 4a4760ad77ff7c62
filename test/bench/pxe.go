//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rhizome-dev/rhizome/pxe/media"
	"github.com/rhizome-dev/rhizome/pxe/server"
	"github.com/rhizome-dev/rhizome/test/lab"
)

// declaredMachines are known to every DHCP server that is measured.
const declaredMachines = 1000

// Sizes of what machines fetch, in bytes: iPXE or GRUB, Debian's cloud kernel, our
// initrd, and a piece of a disk image.
const (
	loaderSize = 1 << 20
	kernelSize = 8 << 20
	initrdSize = 13 << 20
	mediaSize  = 64 << 20
)

var (
	benchLAN      = netip.MustParsePrefix("10.77.0.0/16")
	gateway       = netip.MustParseAddr("10.77.0.1")
	serverAddress = netip.MustParseAddr("10.77.0.3")
	clientAddress = netip.MustParseAddr("10.77.0.4")
	httpAddress   = netip.AddrPortFrom(serverAddress, server.DefaultHTTPPort)
)

// macOf is the MAC of the i-th declared machine, as perfdhcp counts them up.
func macOf(i int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0x72, 0x68, 0, byte(i >> 8), byte(i)}
}

// addressOf is what the i-th declared machine is given.
func addressOf(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 77, 8 + byte(i>>8), byte(i)})
}

// pxeBench is one run: a network with a server's host, where one server at a time
// runs, and the clients' hosts.
type pxeBench struct {
	duration time.Duration // of one measurement
	rounds   int           // how often each server is measured
	machines int           // that boot at once
	profiles string        // directory for CPU profiles of our service; empty: none
	apart    *processors   // nil: servers and clients share all processors

	dir       string // temporary
	bootFiles string
	cache     string     // the media cache
	media     media.File // in it
	peers     peers

	lan    netip.Prefix
	lab    *lab.Lab
	server *lab.Namespace
	client *lab.Namespace

	table table
	floor float64 // bytes a second of raw TCP
}

// benchPXE measures our DHCP, TFTP and HTTP beside other servers, and many machines
// that boot at once beside what the link carries.
func benchPXE(ctx context.Context, args []string) (err error) {
	b := &pxeBench{lan: benchLAN}
	var only string
	var apart bool
	set := flag.NewFlagSet("pxe", flag.ContinueOnError)
	set.DurationVar(&b.duration, "duration", 5*time.Second, "of one measurement")
	set.IntVar(&b.rounds, "rounds", 3, "how often each server is measured, in turn: the medians count")
	set.IntVar(&b.machines, "machines", 200, "that boot at once, at most 1000")
	set.StringVar(&only, "only", "", "one part: dhcp, tftp, http, boots or image")
	set.BoolVar(&apart, "apart", false, "give the servers the last processor, and the clients the others")
	set.StringVar(&b.profiles, "profiles", "", "directory for CPU profiles of our service")
	if err := flags(set, args); err != nil {
		return err
	}
	if b.machines < 1 || b.machines > declaredMachines {
		return fmt.Errorf("-machines %d: want 1 to %d", b.machines, declaredMachines)
	}
	if b.rounds < 1 || b.duration < time.Second {
		return errors.New("-rounds must be 1 or more, -duration 1s or more")
	}
	if apart {
		if b.apart, err = keepApart(); err != nil {
			return err
		}
	}
	if b.peers, err = unpackPeers(ctx); err != nil {
		return err
	}
	if err := b.start(ctx); err != nil {
		return errors.Join(err, b.close())
	}
	defer func() { err = errors.Join(err, b.close()) }()

	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{{"floor", b.measureFloor}, {"dhcp", b.measureDHCP}, {"tftp", b.measureTFTP}, {"http", b.measureHTTP}, {"boots", b.measureBoots}, {"image", b.measureImage}} {
		if only != "" && only != part.name && part.name != "floor" {
			continue
		}
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	b.table.note("load of this machine at the begin", string(load[:len(load)-1]))
	return b.table.print(os.Stdout)
}

// start makes the files and the network.
func (b *pxeBench) start(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "rhizome-bench-"); err != nil {
		return err
	}
	// Servers that give up root read here too.
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}
	if err := b.makeFiles(ctx); err != nil {
		return err
	}
	if b.lab, err = lab.Start(ctx, lab.Options{LAN: b.lan, NoDHCP: true}); err != nil {
		return err
	}
	if b.server, err = b.lab.Network.Attach("server", netip.PrefixFrom(serverAddress, b.lan.Bits()), netip.Addr{}); err != nil {
		return err
	}
	b.client, err = b.lab.Network.Attach("client", netip.PrefixFrom(clientAddress, b.lan.Bits()), netip.Addr{})
	return err
}

func (b *pxeBench) makeFiles(ctx context.Context) error {
	b.bootFiles, b.cache = filepath.Join(b.dir, "boot"), filepath.Join(b.dir, "media")
	// Random, so that nothing gains by compressing, and the same in every run.
	random := rand.NewChaCha8([32]byte{})
	blob := filepath.Join(b.dir, "image.raw")
	for _, file := range []struct {
		path string
		size int
	}{
		{filepath.Join(b.bootFiles, "loader", "snponly.efi"), loaderSize},
		{filepath.Join(b.bootFiles, "installer", "amd64", "vmlinuz"), kernelSize},
		{filepath.Join(b.bootFiles, "installer", "amd64", "initrd.img"), initrdSize},
		{blob, mediaSize},
	} {
		content := make([]byte, file.size)
		if _, err := random.Read(content); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(file.path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file.path, content, 0o644); err != nil {
			return err
		}
	}
	cache, err := media.Open(b.cache)
	if err != nil {
		return err
	}
	b.media, err = cache.Add(ctx, blob, "image.raw")
	return err
}

func (b *pxeBench) close() error {
	var errs []error
	if b.lab != nil {
		errs = append(errs, b.lab.Close(), os.RemoveAll(b.lab.Dir))
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// startOurs starts our service; part names its CPU profile.
func (b *pxeBench) startOurs(ctx context.Context, part string) (*daemon, error) {
	config := serviceConfig{
		Interface: "eth0", Address: serverAddress, LAN: b.lan, Machines: declaredMachines,
		BootFiles: b.bootFiles, Media: b.cache,
	}
	if b.profiles != "" {
		if err := os.MkdirAll(b.profiles, 0o755); err != nil {
			return nil, err
		}
		config.Profile = filepath.Join(b.profiles, part+".pprof")
	}
	return startService(ctx, b.server, config)
}

// subject is a server to be measured.
type subject struct {
	name  string
	start func(context.Context) (*daemon, error)
}

const ours = "rhizome"

// figures of one server, by what was measured. More is better.
type figures map[string]float64

// measureEach measures the servers in turn, as often as there are rounds, so that
// what else the machine does meets all alike. It returns the medians.
func (b *pxeBench) measureEach(ctx context.Context, subjects []subject, ready func(context.Context) error, measure func(context.Context, string) (figures, error)) (map[string]figures, error) {
	all := map[string]map[string][]float64{}
	for round := range b.rounds {
		for _, s := range subjects {
			found, err := b.measureOne(ctx, s, ready, measure)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			progress("round %d of %d, %s: %s", round+1, b.rounds, s.name, found)
			for what, f := range found {
				if all[s.name] == nil {
					all[s.name] = map[string][]float64{}
				}
				all[s.name][what] = append(all[s.name][what], f)
			}
		}
	}
	medians := map[string]figures{}
	for name, found := range all {
		medians[name] = figures{}
		for what, values := range found {
			slices.Sort(values)
			medians[name][what] = values[len(values)/2]
		}
	}
	return medians, nil
}

func (b *pxeBench) measureOne(ctx context.Context, s subject, ready func(context.Context) error, measure func(context.Context, string) (figures, error)) (found figures, err error) {
	d, err := b.apart.start(func() (*daemon, error) { return s.start(ctx) })
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if err := d.waitUntil(ctx, ready); err != nil {
		return nil, err
	}
	found, err = measure(ctx, s.name)
	if err != nil {
		err = fmt.Errorf("%w; the server said:\n%s", err, d.log.String())
	}
	return found, err
}

// String has the figures in the order of their names.
func (f figures) String() string {
	var words []string
	for _, what := range slices.Sorted(maps.Keys(f)) {
		words = append(words, what+" "+figure(f[what]))
	}
	return strings.Join(words, ", ")
}
