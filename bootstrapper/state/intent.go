package state

import (
	"fmt"
	"time"

	"github.com/rhizome-dev/rhizome/internal/k3s"
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
}

// Intent is what was written down; false means nothing yet.
func (d *Directory) Intent() (Intent, bool, error) {
	var intent Intent
	found, err := d.read(intentFile, &intent)
	return intent, found, err
}

// SetIntent writes down what is going to be done.
func (d *Directory) SetIntent(intent Intent) error { return d.write(intentFile, intent) }

// Sums are the checksums of a k3s release that were read before, so that a seed
// that goes on needs no internet.
func (d *Directory) Sums(version, arch string) (k3s.Sums, bool, error) {
	var sums k3s.Sums
	found, err := d.read(sumsName(version, arch), &sums)
	return sums, found, err
}

// SetSums keeps the checksums of a release. A published release does not change.
func (d *Directory) SetSums(version, arch string, sums k3s.Sums) error {
	return d.write(sumsName(version, arch), sums)
}

// sumsName: versions are v1.2.3+k3s1, so that no character needs care.
func sumsName(version, arch string) string {
	return fmt.Sprintf("%s%s-%s.json", sumsPrefix, version, arch)
}
