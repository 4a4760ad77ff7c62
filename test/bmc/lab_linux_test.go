package bmc

import "github.com/rhizome-dev/rhizome/test/lab"

// A lab's machine can be put behind a controller as it is.
var _ Machine = (*lab.Machine)(nil)
