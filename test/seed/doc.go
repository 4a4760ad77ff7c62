// Package seed tests `bootstrapper seed`, the program, without a virtual machine:
// against a simulated machine in a network namespace of its own. Only the machine
// is a fake (see package machine); the PXE service, the init config, the join script,
// the API server and the operator are the real ones.
package seed
