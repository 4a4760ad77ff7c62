// Package e2e runs the main job as its user would: the built bootstrapper on a
// network with a home router, and blank machines with real firmware.
package e2e
