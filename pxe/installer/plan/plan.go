// Package plan is what the PXE service tells the in-memory installer to do: the
// init config of the format Image, as JSON.
package plan

// Plan is everything that the installer needs to install one machine.
type Plan struct {
	// Node is the machine's declared name.
	Node string `json:"node"`
	// Claim is the identifier of the claim that this plan consumed. It is a secret
	// of this installation: it is never logged.
	Claim string `json:"claim"`
	// CA is the PEM certificate authority of the PXE service. Reports go only to
	// a server that it vouches for.
	CA string `json:"ca"`
	// ReportURL is where reports (pxe.Report as JSON) are posted, over HTTPS.
	ReportURL string `json:"reportURL"`
	// OtherReportURLs are of further servers with the same authority, for when that
	// one does not answer.
	OtherReportURLs []string `json:"otherReportURLs,omitempty"`
	// Image is written to the disk.
	Image Image `json:"image"`
	// Disk selects the disk.
	Disk DiskHint `json:"disk"`
	// Seed holds the files of the NoCloud data source by name: user-data,
	// meta-data, network-config.
	Seed map[string]string `json:"seed"`
	// Network is the machine's static network configuration.
	Network Network `json:"network"`
	// Kexec says that the new system's kernel is started at once, if that can be done,
	// and that the machine restarts only otherwise.
	Kexec bool `json:"kexec,omitempty"`
}

// Image is a disk image, raw or qcow2.
type Image struct {
	URL string `json:"url"` // http, on the PXE service
	// Mirrors are further URLs of the same file, for when that one does not answer.
	Mirrors     []string `json:"mirrors,omitempty"`
	SHA256      string   `json:"sha256"`      // of the file as downloaded, 64 hexadecimal digits
	Compression string   `json:"compression"` // of the file as a whole
	// Size in bytes of the file as downloaded; zero when it is not known.
	Size int64 `json:"size,omitempty"`
}

// The compressions of an image.
const (
	None = "None"
	Gzip = "Gzip"
	XZ   = "XZ"
	Zstd = "Zstd"
)

// DiskHint selects one disk. Every field that is set must match. The zero value
// matches every disk, so it is unambiguous only on a machine with one.
type DiskHint struct {
	Path     string `json:"path,omitempty"`
	Serial   string `json:"serial,omitempty"`
	WWN      string `json:"wwn,omitempty"`
	MinBytes int64  `json:"minBytes,omitempty"`
	MaxBytes int64  `json:"maxBytes,omitempty"`
}

// Network is a static IPv4 configuration of the interface with the given MAC.
type Network struct {
	MAC         string   `json:"mac"`
	Address     string   `json:"address"` // with prefix length: 192.168.1.10/24
	Gateway     string   `json:"gateway,omitempty"`
	Nameservers []string `json:"nameservers,omitempty"`
}
