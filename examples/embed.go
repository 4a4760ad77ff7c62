// Package examples holds the repositories to copy that `bootstrapper init`
// writes.
package examples

import "embed"

// Homelab is the example of a small cluster at home, below the directory
// "homelab".
//
//go:embed all:homelab
var Homelab embed.FS
