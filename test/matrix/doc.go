// Package matrix boots each firmware over each kind of network, in QEMU, to the
// point where the real installer has asked for its init config, and prints what came
// of it as a table.
package matrix
