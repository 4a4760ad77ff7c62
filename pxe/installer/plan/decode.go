package plan

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// MaxBytes is the size of the largest plan that Decode reads.
const MaxBytes = 4 << 20

// Decode reads and checks a plan. Fields that it does not know are left alone, so
// that a newer server may say more. The error names the field that is wrong, and
// never holds the claim.
func Decode(b []byte) (Plan, error) {
	if len(b) > MaxBytes {
		return Plan{}, fmt.Errorf("the plan is larger than %d bytes", MaxBytes)
	}
	var p Plan
	if err := json.Unmarshal(b, &p); err != nil {
		return Plan{}, fmt.Errorf("cannot read the plan as JSON: %w", err)
	}
	if err := p.check(); err != nil {
		return Plan{}, fmt.Errorf("the plan is not usable: %w", err)
	}
	return p, nil
}

func (p Plan) check() error {
	switch {
	case p.Node == "":
		return fmt.Errorf("node is empty")
	case p.Claim == "":
		return fmt.Errorf("claim is empty")
	case strings.ContainsAny(p.Claim, " \t\r\n"):
		return fmt.Errorf("claim has white space")
	case !x509.NewCertPool().AppendCertsFromPEM([]byte(p.CA)):
		return fmt.Errorf("ca holds no certificate in PEM form")
	}
	if err := checkURL("reportURL", p.ReportURL, "https"); err != nil {
		return err
	}
	if err := checkURL("image.url", p.Image.URL, "http", "https"); err != nil {
		return err
	}
	for i, u := range p.OtherReportURLs {
		if err := checkURL(fmt.Sprintf("otherReportURLs[%d]", i), u, "https"); err != nil {
			return err
		}
	}
	for i, u := range p.Image.Mirrors {
		if err := checkURL(fmt.Sprintf("image.mirrors[%d]", i), u, "http", "https"); err != nil {
			return err
		}
	}
	if sum, err := hex.DecodeString(p.Image.SHA256); err != nil || len(sum) != 32 {
		return fmt.Errorf("image.sha256 is %q: want 64 hexadecimal digits", p.Image.SHA256)
	}
	switch p.Image.Compression {
	case None, Gzip, XZ, Zstd:
	default:
		return fmt.Errorf("image.compression is %q: want None, Gzip, XZ or Zstd", p.Image.Compression)
	}
	switch {
	case p.Image.Size < 0:
		return fmt.Errorf("image.size is %d: want zero or more", p.Image.Size)
	case p.Disk.MinBytes < 0 || p.Disk.MaxBytes < 0:
		return fmt.Errorf("disk.minBytes and disk.maxBytes must not be negative")
	case p.Disk.MaxBytes > 0 && p.Disk.MinBytes > p.Disk.MaxBytes:
		return fmt.Errorf("disk.minBytes is greater than disk.maxBytes")
	}
	for _, name := range []string{"user-data", "meta-data"} {
		if _, ok := p.Seed[name]; !ok {
			return fmt.Errorf("seed has no %s", name)
		}
	}
	for name := range p.Seed {
		if !seedName(name) {
			return fmt.Errorf("seed has a file %q: want a plain file name", name)
		}
	}
	return nil
}

func checkURL(field, s string, schemes ...string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return fmt.Errorf("%s is not an absolute URL", field)
	}
	for _, scheme := range schemes {
		if u.Scheme == scheme {
			return nil
		}
	}
	return fmt.Errorf("%s has the scheme %q: want %s", field, u.Scheme, strings.Join(schemes, " or "))
}

// seedName reports whether name can be a file in the root directory of a FAT
// file system on every system that reads one.
func seedName(name string) bool {
	if name == "" || len(name) > 64 || name[0] == '.' {
		return false
	}
	for _, r := range name {
		plain := r == '-' || r == '_' || r == '.' ||
			'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		if !plain {
			return false
		}
	}
	return true
}
