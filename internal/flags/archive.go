package flags

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/rhizome-dev/rhizome/internal/k3s"
)

// Archive is an image archive that travelled with the installation: its file name
// in the directory that k3s imports images from, and its SHA-256 in lower-case
// hexadecimal.
type Archive struct{ Name, SHA256 string }

// String is the form in which flags give it, NAME:SHA256.
func (a Archive) String() string { return a.Name + ":" + a.SHA256 }

// ParseArchive understands NAME:SHA256.
func ParseArchive(text string) (Archive, error) {
	i := strings.LastIndex(text, ":")
	if i < 0 {
		return Archive{}, fmt.Errorf("image archive %q: want NAME:SHA256", text)
	}
	a := Archive{Name: text[:i], SHA256: text[i+1:]}
	if digest, err := hex.DecodeString(a.SHA256); err != nil || len(digest) != 32 || a.SHA256 != strings.ToLower(a.SHA256) {
		return Archive{}, fmt.Errorf("image archive %q: %q is no SHA-256 in lower-case hexadecimal", text, a.SHA256)
	}
	if _, err := k3s.ImagePath(a.Name); err != nil {
		return Archive{}, fmt.Errorf("image archive %q: %w", text, err)
	}
	return a, nil
}

// Archives is a flag of NAME:SHA256 that may be given again.
type Archives []Archive

// String implements the interface of flags.
func (f *Archives) String() string {
	var all []string
	for _, a := range *f {
		all = append(all, a.String())
	}
	return strings.Join(all, ",")
}

// Set adds one.
func (f *Archives) Set(text string) error {
	a, err := ParseArchive(text)
	if err == nil {
		*f = append(*f, a)
	}
	return err
}

// Type implements the interface of flags.
func (f *Archives) Type() string { return "NAME:SHA256" }
