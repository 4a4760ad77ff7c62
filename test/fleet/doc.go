// Package fleet tests a whole cluster of fast simulated machines: the first is
// seeded by the real bootstrapper, the others are installed by the real operator
// and its PXE pods, which run as containers of these machines. Only the machines
// are fakes (package machine), and k3s is the stand-in (test/k3s), natively. In one test
// two of them are of QEMU, with real firmware and the shipped programs.
package fleet
