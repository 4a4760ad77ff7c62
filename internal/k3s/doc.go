// Package k3s knows everything that Rhizome knows about k3s: its config files,
// paths, units, tokens, certificate authorities and release files. It is pure:
// it makes values and touches neither disk nor network.
package k3s
