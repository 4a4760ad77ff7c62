package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Intent is what a seed set out to do, written before the first thing is done.
type Intent struct {
	Cluster string `json:"cluster"`
	// Node is the first node: once it has a claim, no other may found the cluster.
	Node string `json:"node"`
	// Begun is when the first run began.
	Begun time.Time `json:"begun"`
	// Finished is when a run first came to its end; zero before.
	Finished time.Time `json:"finished,omitzero"`
	// Archive is the operator's image archive that travelled to the first machine;
	// nil: none.
	Archive *Archive `json:"archive,omitempty"`
}

// Archive is an image archive as it lies on the first machine.
type Archive struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Intent is what was written down; false means nothing yet.
func (d *Directory) Intent() (Intent, bool, error) {
	var intent Intent
	found, err := d.read(intentFile, &intent)
	return intent, found, err
}

// SetIntent writes down what is going to be done.
func (d *Directory) SetIntent(intent Intent) error { return d.write(intentFile, intent) }

// Sums is the file of checksums of a k3s release, if it was read before, so that
// a seed that goes on needs no internet.
func (d *Directory) Sums(version, arch string) ([]byte, bool, error) {
	data, err := os.ReadFile(d.sumsPath(version, arch))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("cannot read the state: %w", err)
	}
	return data, true, nil
}

// SetSums keeps the checksums of a release. A published release does not change.
func (d *Directory) SetSums(version, arch string, sums []byte) error {
	return WriteFile(d.sumsPath(version, arch), sums)
}

// sumsPath: versions are v1.2.3+k3s1, so that no character needs care.
func (d *Directory) sumsPath(version, arch string) string {
	return filepath.Join(d.path, fmt.Sprintf("%s%s-%s.txt", sumsPrefix, version, arch))
}
