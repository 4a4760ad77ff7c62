package pxe

// Meter counts traffic. Its methods are called from many goroutines, for every
// packet and request; they must not block.
type Meter interface {
	// Packet is one DHCP packet that came in: its message type, such as DISCOVER,
	// OTHER for one that no client of a boot server sends and INVALID for what is no
	// DHCP packet; what its sender may do; whether it was answered.
	Packet(kind string, action Action, answered bool)
	// Request is one request that has ended. result is the status code over HTTP and
	// HTTPS, and one of the TFTP results over TFTP.
	Request(protocol Protocol, result string)
	// Sent is told of the bytes of files as they leave, at least once a second.
	Sent(protocol Protocol, bytes int64)
}

// Protocol is how a file is fetched.
type Protocol string

// The protocols.
const (
	ProtocolTFTP  Protocol = "TFTP"
	ProtocolHTTP  Protocol = "HTTP"
	ProtocolHTTPS Protocol = "HTTPS"
)

// The results of a TFTP request.
const (
	TFTPSent    = "Sent"    // the whole file
	TFTPSize    = "Size"    // the client asked for the size alone
	TFTPMissing = "Missing" // there is no such file
	TFTPBusy    = "Busy"    // too many transfers at once
	TFTPFailed  = "Failed"
)

// Unmetered counts nothing.
var Unmetered Meter = unmetered{}

type unmetered struct{}

func (unmetered) Packet(string, Action, bool) {}
func (unmetered) Request(Protocol, string)    {}
func (unmetered) Sent(Protocol, int64)        {}

// String names the action.
func (a Action) String() string {
	switch a {
	case BootLocal:
		return "BootLocal"
	case Install:
		return "Install"
	}
	return "Ignore"
}
