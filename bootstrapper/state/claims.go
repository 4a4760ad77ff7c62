package state

import "github.com/rhizome-dev/rhizome/internal/provision"

// Claims are the machines' claims, kept in a file: a change that cannot be
// written does not happen. Call it once: two would not know of each other.
func (d *Directory) Claims() (*provision.Ledger, error) {
	var kept []provision.Claim
	if _, err := d.read(claimsFile, &kept); err != nil {
		return nil, err
	}
	return provision.NewLedger(kept, func(all []provision.Claim) error { return d.write(claimsFile, all) }), nil
}
