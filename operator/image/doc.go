// Package image holds the script that builds the operator's image, and checks
// what it builds.
package image
