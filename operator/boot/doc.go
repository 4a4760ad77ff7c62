// Package boot is the program of the PXE pods: it boots declared machines from the
// network, by what the API says, and tells the API what they did.
//
// Any number of replicas run at once. Each answers from its informers' memory, so
// that boots go on while the API server is away; what changes a claim goes through
// the API server, so that it happens once.
package boot
