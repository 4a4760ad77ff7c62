// Package pxe boots machines from the network: it answers DHCP, TFTP and HTTP
// and asks one small interface, its Backend, what to do with a machine. It keeps
// no state of its own, so that any number of replicas give the same answers.
package pxe

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// Backend decides what machines may do and is told what they did.
//
// All methods are called from many goroutines at once. Decide is called for
// every packet, so it answers from memory; the others may take a moment and
// honour their context.
type Backend interface {
	// Decide says what the machine may boot. It changes nothing.
	Decide(m Machine) Decision

	// InitConfig hands out the init config of the machine with this MAC and
	// thereby consumes its open claim. from is the address of the requester: for a
	// short grace the same address may ask again. A *Refusal says why not.
	InitConfig(ctx context.Context, mac MAC, from netip.Addr) (Document, error)

	// Report takes what the installer says under a claim. A report of Installed
	// closes the claim for installation. A *Refusal says why not.
	Report(ctx context.Context, claim string, r Report, from netip.Addr) error

	// Credentials exchanges a claim, once, for the files that the installed system
	// needs to found or join the cluster: a tar archive, to be unpacked at the
	// root directory. Only ever served over TLS. A *Refusal says why not.
	Credentials(ctx context.Context, claim string, from netip.Addr) ([]byte, error)

	// Observe is told what a machine was seen to do. It must not block.
	Observe(o Observation)
}

// Action is what a machine may do.
type Action int

// The actions. The zero value is Ignore.
const (
	// Ignore: no answer at all; the machine is not declared.
	Ignore Action = iota
	// BootLocal: the machine is declared and has no open claim: its own disk.
	BootLocal
	// Install: the machine has an open claim: the installer.
	Install
)

// Decision is the backend's answer for one machine.
type Decision struct {
	Action Action
	// Reason is the rule that said so, for logs and people.
	Reason string
	// Lease is what our DHCP server hands out; nil in proxy mode.
	Lease *Lease
	// Loader is the loader policy for this machine.
	Loader LoaderPolicy
	// LocalBoot is how the machine boots its own disk, when Action is BootLocal.
	LocalBoot LocalBoot
	// Arch is the declared architecture of the machine.
	Arch Arch
	// Kernel is what the machine runs to install itself, when Action is Install.
	Kernel Kernel
}

// Equal says whether two decisions are the same in every field.
func (d *Decision) Equal(o *Decision) bool {
	return d.Action == o.Action && d.Reason == o.Reason && d.Lease.Equal(o.Lease) &&
		d.Loader == o.Loader && d.LocalBoot == o.LocalBoot && d.Arch == o.Arch &&
		d.Kernel.Path == o.Kernel.Path && slices.Equal(d.Kernel.Initrds, o.Kernel.Initrds) && slices.Equal(d.Kernel.Args, o.Kernel.Args)
}

// Lease is an address reservation (RFC 2131).
type Lease struct {
	Address     netip.Prefix // the machine's address with the subnet's prefix length
	Gateway     netip.Addr
	Nameservers []netip.Addr
	HostName    string
	Duration    time.Duration // zero: one hour
}

// Equal says whether two leases are the same in every field. nil is one of its own.
func (l *Lease) Equal(o *Lease) bool {
	if l == nil || o == nil {
		return l == o
	}
	return l.Address == o.Address && l.Gateway == o.Gateway && slices.Equal(l.Nameservers, o.Nameservers) &&
		l.HostName == o.HostName && l.Duration == o.Duration
}

// LoaderPolicy says which loader a machine gets.
type LoaderPolicy string

// The loader policies. The zero value is Auto.
const (
	LoaderAuto LoaderPolicy = ""
	LoaderIPXE LoaderPolicy = "IPXE"
	LoaderGRUB LoaderPolicy = "GRUB"
	// LoaderSigned is what Secure Boot accepts: the distribution's shim and GRUB, with
	// the signatures that it put on them.
	LoaderSigned LoaderPolicy = "Signed"
)

// LocalBoot is a way to boot the machine's own disk.
type LocalBoot string

// The ways to boot the machine's own disk. The zero value chooses by firmware.
const (
	LocalBootAuto      LocalBoot = ""
	LocalBootExit      LocalBoot = "Exit"
	LocalBootSANBoot   LocalBoot = "SANBoot"
	LocalBootChainLoad LocalBoot = "ChainLoad"
	LocalBootSilence   LocalBoot = "Silence"
)

// Kernel is a Linux kernel with its initial ramdisks and command line.
//
// Paths are paths of our HTTP server, such as /installer/amd64/vmlinuz. In Args
// the word ${base} stands for the server's HTTP base URL as the machine reaches
// it, without a slash at the end; ${mac} for the machine's MAC with colons.
type Kernel struct {
	Path    string
	Initrds []string
	Args    []string
}

// Document is a served text with its media type.
type Document struct {
	ContentType string
	Body        []byte
	// Parts are further documents of an init config, by the name below its path. The
	// same call makes them all.
	Parts map[string]Document
}

// Stage is how far a machine has come.
type Stage string

// The stages of a network boot and an installation, in their order.
const (
	StageDHCP        Stage = "DHCP"        // the firmware asked for an address or a boot server
	StageLoader      Stage = "Loader"      // a boot loader was fetched
	StageConfig      Stage = "Config"      // the loader fetched its config
	StageKernel      Stage = "Kernel"      // the kernel was fetched
	StageInitrd      Stage = "Initrd"      // the initial ramdisk was fetched
	StageInitConfig  Stage = "InitConfig"  // the installer fetched its init config
	StageInstalling  Stage = "Installing"  // the installer reports progress
	StageInstalled   Stage = "Installed"   // the installer is done
	StageFailed      Stage = "Failed"      // the installer gave up
	StageMedia       Stage = "Media"       // the machine fetches files (image, k3s, ...)
	StageCredentials Stage = "Credentials" // the installed system exchanged its claim
	StageRefused     Stage = "Refused"     // a request was refused; Message says by which rule
)

// Observation is one thing that a machine was seen to do.
type Observation struct {
	Time    time.Time
	Machine Machine    // as much as is known; MAC may be empty for a request over HTTP
	From    netip.Addr // zero when the machine has no address yet
	Stage   Stage
	Message string // what exactly, for people: a file name, a reason
	// Decision is the action that the packet was answered with (DHCP only).
	Decision Action
	// Done and Total are bytes sent so far and in all, for Loader, Config, Kernel,
	// Initrd and Media; zero otherwise. A file on its way is told of once a second.
	Done, Total int64
}

// Report is what an installer says, as JSON over HTTPS.
type Report struct {
	Stage   Stage  `json:"stage"`             // Installing, Installed or Failed
	Message string `json:"message,omitempty"` // what is being done, or the reason of a failure
	// Step is a short word for the part of the work, such as "disk" or "image".
	Step string `json:"step,omitempty"`
	// Done and Total are bytes of the image as downloaded.
	Done  int64 `json:"done,omitempty"`
	Total int64 `json:"total,omitempty"`
	// UUID of the machine (SMBIOS), as the installer reads it.
	UUID string `json:"uuid,omitempty"`
	// Disk that was chosen, for people: path, model, serial, size.
	Disk string `json:"disk,omitempty"`
}

// Refusal is a request denied by a rule. It is shown to the machine and to
// people, and never holds a secret.
type Refusal struct {
	Rule    string // a short stable name, such as ClaimExpired
	Message string // what is wrong and what would lift it
}

// Error implements error.
func (r *Refusal) Error() string { return r.Rule + ": " + r.Message }

// NotNow is a request that no rule forbids and that cannot be answered at the
// moment: the machine is to ask again. Over HTTP it is 503 with Retry-After.
type NotNow struct {
	Message string        // what is awaited, for the machine and for people; never a secret
	After   time.Duration // when to ask again; zero: in a few seconds
	Err     error         // for our log only; may be nil
}

// Error implements error.
func (e *NotNow) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap is Err.
func (e *NotNow) Unwrap() error { return e.Err }

// ErrNotFound is returned for a machine or claim that is not known.
var ErrNotFound = errors.New("not found")
